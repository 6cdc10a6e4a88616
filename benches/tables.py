"""Reads an event table of a private PostgreSQL into DuckDB, beside `COPY TO` alone; prints rows a second and the ratio."""

import glob, os, pathlib, pwd, shutil, socket, statistics, subprocess, sys, tempfile, time

RELEASE = pathlib.Path(sys.argv[1])
ROWS = int(os.environ.get("BENCH_ROWS", "2000000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))

TABLE = f"""
CREATE TABLE events AS SELECT n::bigint AS id, timestamptz '2024-05-01 00:00:00+00' + n * interval '1 day' / {ROWS + 1} AS happened_at,
  (n * 7919 % 100000)::int AS user_id, md5(n::text) AS session, (ARRAY['view','click','buy','leave'])[(n % 4 + 1)::int] AS kind,
  round((n * 31 % 1000000) / 7.0, 4)::numeric(18,4) AS amount, sqrt(n) AS score, n % 3 = 0 AS mobile,
  date '2024-05-01' - (n % 365)::int AS joined, CASE WHEN n % 5 = 0 THEN 'a note of ' || n END AS note
FROM generate_series(1::bigint, {ROWS}) AS n"""


def measure(argv, cwd=None, env=None):
    """One process: wall seconds, and peak memory in MB by the operating system's own account of it."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{argv} failed:\n{error.decode()}")
    return seconds, usage.ru_maxrss / 1024


class Server:
    """A PostgreSQL in a temporary folder, as an unprivileged user, with a local socket and a port of its own."""

    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("postgres") or "")]
        self.binaries = found[-1]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-pg-"))
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        data = self.folder / "data"
        self.run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D", str(data))
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=512MB -c max_parallel_workers_per_gather=0"
        self.run("pg_ctl", "-w", "-D", str(data), "-l", str(self.folder / "log"), "-o", options, "start")

    def run(self, program, *arguments):
        argv = [f"{self.binaries}/{program}", *arguments]
        if os.getuid() == 0:
            argv = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *argv]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def psql(self, *commands):
        argv = ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
        for command in commands:
            argv += ["-c", command]
        return argv

    def stop(self):
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def haul(server):
    """The table into a new warehouse, by the day; and the re-pull that its probe spares."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
    (folder / "pipelines").mkdir()
    (folder / "connections.toml").write_text(
        '[warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n\n[origin]\ntype = "postgres"\nhost = "127.0.0.1"\n'
        f'port = {server.port}\nuser = "postgres"\ndatabase = "postgres"\n'
    )
    (folder / "pipelines" / "events.toml").write_text(
        'warehouse = "warehouse"\n[window]\nlookback = 1\n[[extract]]\nname = "events"\nconnection = "origin"\n'
        'table = "events"\ntime_column = "happened_at"\nprobe = "count"\n'
    )
    argv = [str(RELEASE / "haul"), "run", "events", "--date", "2024-05-02"]
    seconds, memory = measure(argv, folder)
    again, _ = measure(argv, folder)
    got = subprocess.run(
        [str(RELEASE / "haul"), "query", "select count(*) as n, sum(amount) as s from raw.events", "--output", "json"],
        cwd=folder, capture_output=True, text=True, check=True,
    ).stdout
    assert str(ROWS) in got, got
    shutil.rmtree(folder)
    return seconds, again, memory


def main():
    server = Server()
    try:
        subprocess.run(server.psql(TABLE, "VACUUM ANALYZE events"), check=True)
        copy = "COPY (SELECT * FROM events WHERE happened_at >= '2024-05-01 00:00:00+00' AND happened_at < '2024-05-02 00:00:00+00') TO STDOUT"
        text, binary, pulls, spared, peak = [], [], [], [], 0
        # In turns, so that whatever else the machine does falls on all of them.
        for run in range(RUNS + 1):
            one, _ = measure(server.psql(copy))
            two, _ = measure(server.psql(copy + " (FORMAT binary)"))
            three, again, memory = haul(server)
            if run:
                text.append(one), binary.append(two), pulls.append(three), spared.append(again)
            peak = max(peak, memory)
        rows = lambda seconds: f"{ROWS / statistics.median(seconds):>12,.0f} rows/s  {statistics.median(seconds):6.2f} s"
        print(f"{ROWS:,} rows of 10 columns, the median of {RUNS} runs each")
        print(f"COPY TO alone, text        {rows(text)}")
        print(f"COPY TO alone, binary      {rows(binary)}")
        print(f"PostgreSQL to DuckDB       {rows(pulls)}  {peak:.0f} MB")
        print(f"the same, unchanged        {statistics.median(spared):28.2f} s")
        print(f"ratio to COPY TO alone     {statistics.median(text) / statistics.median(pulls):.2f} (text), {statistics.median(binary) / statistics.median(pulls):.2f} (binary)")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
