"""Fan-outs: haul beside a hand-written aiohttp loop against one loopback server, with ratios, all in one run."""

import os, pathlib, selectors, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

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


def measure(argv, cwd, asking=None):
    """One process: wall seconds, processor seconds, peak memory in MB, and what it printed.

    `asking` is filled with its peak memory before the first stage was complete, when the warehouse takes over."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if asking is not None:
        threading.Thread(target=watch, args=(process.pid, pathlib.Path(cwd), asking)).start()
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{argv} failed:\n{printed}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def watch(pid, folder, peaks):
    """Looks at a process's peak memory until its stage has a manifest."""
    try:
        while not list(folder.glob(".haul/**/manifest.json")):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
            time.sleep(0.1)
    except (OSError, IndexError):
        pass  # it has ended


def bare(url, path, requests):
    """What so many connections can give: sockets that hold the next request ready, and look at nothing but the end."""
    host, port = url.removeprefix("http://").split(":")
    ready, numbers, ended = selectors.DefaultSelector(), iter(range(requests)), 0
    ask = lambda number: f"GET /{path}/{number} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode()
    begun = time.perf_counter()
    for _ in range(CONNECTIONS):
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.register(connection, selectors.EVENT_READ)
        connection.send(ask(next(numbers)))
    while ended < requests:
        for key, _ in ready.select():
            assert key.fileobj.recv(65536).endswith(b"]")
            ended += 1
            if (number := next(numbers, None)) is not None:
                key.fileobj.send(ask(number))
    return time.perf_counter() - begun


def haul(url, path, requests, asking=None):
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
    seconds, processor, memory, _ = measure([str(RELEASE / "haul"), "run", "fan", "--quiet"], folder, asking)
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
        slow, limit = [], []
        for _ in range(2):
            slow.append(haul(url, "slow", REQUESTS)[0]), limit.append(bare(url, "slow", REQUESTS))
        print(f"with 50 ms of latency {min(slow):.2f} s, {CONNECTIONS} bare sockets {min(limit):.2f} s: {min(limit) / min(slow):.1%}")
        for requests in (REQUESTS, MANY):
            peaks = []
            _, _, peak = haul(url, "items", requests, peaks)
            print(f"peak memory for {requests:>9,} requests: {max(peaks):.0f} MB until all are answered, {peak:.0f} MB with the load")
    finally:
        server.kill()


main()
