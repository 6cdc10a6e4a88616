"""A collection of MongoDB into DuckDB: haul beside pymongo with a hand-written loop, against one server in one run.

The loop writes JSON Lines, as one writes it who knows that DuckDB reads files faster than rows: find(), json.dumps, read_json.
"""

import json, os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
COUNT = int(os.environ.get("BENCH_DOCUMENTS", "200000"))


def measure(argv, cwd):
    """One process: wall seconds and peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{argv} failed:\n{error.decode()}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def peer(uri, count):
    """What a person writes: pymongo, a JSON Lines file, DuckDB."""
    import duckdb, pymongo

    client = pymongo.MongoClient(uri)
    with open("rows.jsonl", "w") as file:
        for document in client.bench.users.find():
            document["_id"] = str(document["_id"])
            document["created_at"] = document["created_at"].isoformat()
            file.write(json.dumps(document) + "\n")
    connection = duckdb.connect("warehouse.duckdb")
    connection.execute("create table users as select * from read_json('rows.jsonl', format = 'newline_delimited')")
    assert connection.execute("select count(*) from users").fetchone()[0] == count


def haul(release, uri, count):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
    (folder / "pipelines").mkdir()
    (folder / "connections.toml").write_text(
        f'[warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n\n[mongo]\ntype = "mongodb"\nuri = "{uri}"\ndatabase = "bench"\n'
    )
    (folder / "pipelines" / "users.toml").write_text(
        'warehouse = "warehouse"\n[[extract]]\nname = "users"\nconnection = "mongo"\ncollection = "users"\n'
    )
    seconds, memory = measure([str(release / "haul"), "run", "users"], folder)
    argv = [str(release / "haul"), "query", "select count(*) as n from raw.users", "--output", "json"]
    got = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert str(count) in got, got
    shutil.rmtree(folder)
    return seconds, memory


def python(uri, count):
    folder = tempfile.mkdtemp(prefix="haul-bench-")
    result = measure([sys.executable, __file__, "peer", uri, str(count)], folder)
    shutil.rmtree(folder)
    return result


def drain(release, uri):
    argv = [str(release / "examples" / "bench_mongo"), "drain", uri, "bench", "users"]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[0])


def compare(name, release, uri, count):
    """All three in turn, so that what else the machine does falls on all of them."""
    alone, ours, theirs = [], [], []
    for run in range(RUNS + 1):
        results = drain(release, uri), haul(release, uri, count), python(uri, count)
        if run:
            for times, result in zip((alone, ours, theirs), results):
                times.append(result)
    alone = statistics.median(alone)
    seconds = statistics.median(seconds for seconds, _ in ours)
    peer_seconds = statistics.median(seconds for seconds, _ in theirs)
    memory, peer_memory = max(memory for _, memory in ours), max(memory for _, memory in theirs)
    print(
        f"{name:<34}{count:>9,}{alone:>9.2f}s{seconds:>9.2f}s{memory:>6.0f}{peer_seconds:>9.2f}s{peer_memory:>6.0f}"
        f"{peer_seconds / seconds:>7.1f}x{alone / seconds * 100:>9.0f} %",
        flush=True,
    )


def main():
    release, secantus = pathlib.Path(sys.argv[1]), sys.argv[2]
    import pymongo

    memory_server = subprocess.Popen(
        [str(release / "examples" / "bench_mongo"), "serve", str(COUNT)], stdout=subprocess.PIPE, text=True
    )
    folder = tempfile.mkdtemp(prefix="haul-bench-")
    port = "0"
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    real_server = subprocess.Popen(
        [secantus, "--host", "127.0.0.1", "--port", port, "--storage-path", f"{folder}/data", "--log-level", "WARNING"]
    )
    try:
        uri = memory_server.stdout.readline().strip()
        real = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        users = pymongo.MongoClient(real).bench.users
        batch = []
        for document in pymongo.MongoClient(uri).bench.users.find(batch_size=5000):
            batch.append(document)
            if len(batch) == 5000:
                users.insert_many(batch)
                batch = []
        if batch:
            users.insert_many(batch)
        print(f"{'server':<34}{'documents':>9}{'alone':>10}{'haul':>10}{'MB':>6}{'pymongo':>10}{'MB':>6}{'ratio':>8}{'of the server':>15}")
        compare("from memory (bench_mongo serve)", release, uri, COUNT)
        compare("SecantusDB, which is Python", release, real, COUNT)
    finally:
        memory_server.kill()
        real_server.kill()
        real_server.wait()
        shutil.rmtree(folder)


if sys.argv[1] == "peer":
    peer(sys.argv[2], int(sys.argv[3]))
else:
    main()
