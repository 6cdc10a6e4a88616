"""Runs the main job with haul, with plain Python and with dlt against one loopback API, and prints times and ratios."""

import json, os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

RELEASE = pathlib.Path(sys.argv[1])
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
PEERS = pathlib.Path(__file__).parent / "peers.py"


def measure(argv, cwd, env=None):
    """One process: wall seconds and peak memory in MB, from the operating system's own account of it."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{argv} failed:\n{error.decode()}")
    return seconds, usage.ru_maxrss / 1024


def project(folder, url, dataset, limit):
    """A haul project that pulls one data set into DuckDB."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / "connections.toml").write_text(
        f'[warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n\n[api]\ntype = "http"\nurl = "{url}"\n'
    )
    (folder / "pipelines" / f"{dataset}.toml").write_text(
        f'''warehouse = "warehouse"
[window]
grain = "day"
lookback = 1
[[extract]]
name = "{dataset}"
connection = "api"
request = {{ path = "/{dataset}", params = {{ day = "{{{{ ds }}}}" }} }}
paginate = {{ by = "offset", limit = {limit}, total = "$.total" }}
records = "$.result[*]"
into = "raw.{dataset}"
'''
    )


def haul(url, dataset, limit, rows):
    """The first pull into a new warehouse, and the re-pull that changes nothing."""
    first, again, memory = [], [], 0
    for run in range(RUNS + 1):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
        project(folder, url, dataset, limit)
        argv = [str(RELEASE / "haul"), "run", dataset, "--date", "2024-05-02"]
        seconds, peak = measure(argv, folder)
        repeat, _ = measure(argv, folder)
        got = subprocess.run(
            [str(RELEASE / "haul"), "query", f"select count(*) as n from raw.{dataset}", "--output", "json"],
            cwd=folder, capture_output=True, text=True, check=True,
        ).stdout
        assert str(rows) in got, got
        shutil.rmtree(folder)
        if run:
            first.append(seconds), again.append(repeat)
        memory = max(memory, peak)
    return statistics.median(first), statistics.median(again), memory


def peer(name, url, dataset, limit, rows, runs):
    """One of the peers, each run in a folder of its own."""
    times, memory = [], 0
    for _ in range(runs):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
        env = dict(os.environ, DLT_DATA_DIR=str(folder / "dlt"), RUNTIME__DLTHUB_TELEMETRY="false")
        seconds, peak = measure([sys.executable, str(PEERS), name, url, dataset, str(limit), str(rows)], folder, env)
        shutil.rmtree(folder)
        times.append(seconds)
        memory = max(memory, peak)
    return statistics.median(times), memory


def small(url):
    """Milliseconds of overhead: a unit whose three rows are the same as before, a check of many files, a start."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
    project(folder, url, "few", 10)
    pipeline = folder / "pipelines" / "few.toml"
    pipeline.write_text(pipeline.read_text().replace("lookback = 1", "lookback = 1000"))
    argv = [str(RELEASE / "haul"), "run", "few", "--date", "2024-05-02"]
    first, _ = measure(argv, folder)
    again = min(measure(argv, folder)[0] for _ in range(3))
    print(f"{'1,000 units of 3 rows':<28}{first:>8.2f}s a first load; {again:.2f} ms for each unit that is unchanged")
    shutil.rmtree(folder)
    for count in (100, 10_000):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
        project(folder, url, "ratings", 1000)
        text = (folder / "pipelines" / "ratings.toml").read_text()
        for number in range(count):
            (folder / "pipelines" / f"p{number}.toml").write_text(text.replace("raw.ratings", f"raw.p{number}"))
        seconds = min(measure([str(RELEASE / "haul"), "check"], folder)[0] for _ in range(3))
        print(f"{f'check of {count:,} pipelines':<28}{seconds:>8.3f}s")
        shutil.rmtree(folder)
    seconds = min(measure([str(RELEASE / "haul"), "--version"], folder.parent)[0] for _ in range(5))
    print(f"{'--version':<28}{seconds:>8.3f}s")


def serve(*counts):
    server = subprocess.Popen([str(RELEASE / "examples" / "bench_api"), *map(str, counts)], stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def main():
    server, url = serve(300_000, 60_000)
    try:
        print(f"{'work':<28}{'haul':>9}{'MB':>6}{'re-pull':>9}{'Python':>9}{'ratio':>7}{'dlt Parquet':>13}{'ratio':>7}")
        for dataset, limit, rows in (("ratings", 1000, 300_000), ("events", 500, 60_000)):
            ours, again, memory = haul(url, dataset, limit, rows)
            plain, _ = peer("python", url, dataset, limit, rows, 3)
            dlt, _ = peer("dlt-parquet", url, dataset, limit, rows, 2)
            print(
                f"{f'{rows:,} {dataset}':<28}{ours:>8.2f}s{memory:>6.0f}{again:>8.2f}s"
                f"{plain:>8.2f}s{plain / ours:>6.1f}x{dlt:>12.2f}s{dlt / ours:>6.1f}x"
            )
        small(url)
    finally:
        server.kill()
    if os.environ.get("BENCH_LARGE"):
        server, url = serve(3_000_000, 0)
        try:
            global RUNS
            RUNS = 1
            ours, again, memory = haul(url, "ratings", 1000, 3_000_000)
            print(f"{'3,000,000 ratings':<28}{ours:>8.2f}s{memory:>6.0f}{again:>8.2f}s")
        finally:
            server.kill()


main()
