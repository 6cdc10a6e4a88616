"""Fan-outs: haul beside a hand-written aiohttp loop against one loopback server, with ratios, all in one run."""

import os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

RELEASE = pathlib.Path(sys.argv[1])
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "20000"))
MANY = int(os.environ.get("BENCH_MANY", "1000000"))
CONNECTIONS = 64

AIOHTTP = '''
import asyncio, sys, time, aiohttp
url, path, requests, connections = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
async def main():
    rows, numbers = [], iter(range(requests))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        async def worker():
            for number in numbers:
                async with session.get(f"{url}/{path}/{number}") as answer:
                    answer.raise_for_status()
                    rows.extend(await answer.json())
        begun = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(connections)))
    assert len(rows) == requests
    print(time.perf_counter() - begun)
asyncio.run(main())
'''


def measure(argv, cwd):
    """One process: wall seconds, processor seconds, peak memory in MB, and what it printed."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{argv} failed:\n{printed}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def haul(url, path, requests):
    """One fan-out into a new warehouse, every answer durable and loaded."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
    (folder / "pipelines").mkdir()
    (folder / "connections.toml").write_text(
        f'[warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n\n[api]\ntype = "http"\nurl = "{url}"\nmax_concurrent = {CONNECTIONS}\n'
    )
    (folder / "items.txt").write_text("".join(f"{number}\n" for number in range(requests)))
    (folder / "pipelines" / "fan.toml").write_text(
        '[[extract]]\nname = "stats"\nconnection = "api"\nfor_each = { file = "items.txt" }\n'
        f'request = {{ path = "/{path}/{{{{ item }}}}" }}\nadd = {{ item = "{{{{ item }}}}" }}\n'
    )
    seconds, processor, memory, _ = measure([str(RELEASE / "haul"), "run", "fan", "--quiet"], folder)
    _, _, _, got = measure([str(RELEASE / "haul"), "query", "select count(*) as n, count(distinct item) as m from raw.stats", "--output", "json"], folder)
    assert got.count(str(requests)) == 2, got
    shutil.rmtree(folder)
    return seconds, processor, memory


def aiohttp(url, path, requests):
    """The loop of a person in a hurry: answers in a list, nothing durable, nothing loaded."""
    seconds, processor, memory, printed = measure(
        [sys.executable, "-c", AIOHTTP, url, path, str(requests), str(CONNECTIONS)], "/"
    )
    return float(printed), processor, memory


def main():
    server = subprocess.Popen([str(RELEASE / "examples" / "bench_api"), "10", "10"], stdout=subprocess.PIPE, text=True)
    url = server.stdout.readline().strip()
    try:
        ours, theirs = [], []
        for _ in range(RUNS):
            # Side by side in time, so that both see the same machine.
            ours.append(haul(url, "items", REQUESTS)), theirs.append(aiohttp(url, "items", REQUESTS))
        seconds, loop = statistics.median(run[0] for run in ours), statistics.median(run[0] for run in theirs)
        processor, other = statistics.median(run[1] for run in ours), statistics.median(run[1] for run in theirs)
        print(f"{REQUESTS:,} small requests, {CONNECTIONS} connections")
        print(f"  haul, whole process, durable and loaded  {seconds:6.2f} s  {REQUESTS / seconds:8,.0f}/s  {processor:6.2f} s of processor")
        print(f"  aiohttp, its loop alone                  {loop:6.2f} s  {REQUESTS / loop:8,.0f}/s  {other:6.2f} s of processor")
        print(f"  ratio {loop / seconds:.2f}, of processor time {other / processor:.2f}")
        few = max(run[2] for run in ours)
        slow = min(haul(url, "slow", REQUESTS)[0] for _ in range(2))
        best = REQUESTS / (CONNECTIONS / 0.05)
        print(f"with 50 ms of latency {slow:.2f} s; {CONNECTIONS} connections could not do it in less than {best:.2f} s: {best / slow:.1%}")
        _, _, many = haul(url, "items", MANY)
        print(f"peak memory {few:.0f} MB for {REQUESTS:,} requests, {many:.0f} MB for {MANY:,}")
    finally:
        server.kill()


main()
