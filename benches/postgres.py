"""Loads rows into a private PostgreSQL by haul and by `psql \\copy`, in turns; prints rows a second, ratios, and what haul adds."""

import os, pathlib, shutil, statistics, subprocess, tempfile, time

from tables import RELEASE, ROWS, RUNS, TABLE, Server, measure

UNITS = int(os.environ.get("BENCH_UNITS", "200"))
PLANNED = int(os.environ.get("BENCH_PLANNED", "1000"))
HAUL = str(RELEASE / "haul")


def project(server, pipeline):
    """A project whose warehouse is an empty database of the server."""
    subprocess.run(server.psql("DROP DATABASE IF EXISTS bench", "CREATE DATABASE bench"), check=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-"))
    (folder / "pipelines").mkdir()
    (folder / "connections.toml").write_text(
        f'[warehouse]\ntype = "postgres"\nhost = "127.0.0.1"\nport = {server.port}\nuser = "postgres"\ndatabase = "bench"\n'
    )
    (folder / "pipelines" / "bench.toml").write_text('warehouse = "warehouse"\n[window]\n' + pipeline)
    return folder


def load(server, rows):
    """A run that dies once its stage is sealed, and the run that loads the stage: its seconds, and its memory."""
    step = '[[extract]]\nname = "events"\nfiles = "rows.jsonl"\ntime_column = "happened_at"\ncolumns = { happened_at = "TIMESTAMP", amount = "DECIMAL(18,4)" }\n'
    folder = project(server, step)
    os.link(rows, folder / "rows.jsonl")
    argv = [HAUL, "run", "bench", "--date", "2024-05-02"]
    killed = subprocess.run([*argv, "--kill-at", "sealed:1"], cwd=folder, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    seconds, memory = measure(argv, folder)
    got = subprocess.run(
        [HAUL, "query", "select count(*) as n from raw.events", "--output", "json"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert str(ROWS) in got, got
    shutil.rmtree(folder)
    return seconds, memory


def copy(server, rows):
    """The same rows by `psql \\copy` into a table of the same types, in one transaction."""
    columns = (
        "id bigint, happened_at timestamptz, user_id bigint, session text, kind text, amount numeric(18,4), score double precision, "
        "mobile boolean, joined date, note text"
    )
    subprocess.run(server.psql("DROP TABLE IF EXISTS plain", f"CREATE TABLE plain ({columns})"), check=True)
    return measure(server.psql(f"\\copy plain FROM '{rows}' CSV"))[0]


def transforms(server):
    """Seconds for each unit of a transform, by haul and by a script that computes and replaces it by hand."""
    select = "select n as id, md5(n::text) as name from generate_series(1, 100) as n"
    step = f'lookback = {{units}}\n[[transform]]\nname = "small"\nsql = "{select} where {{{{{{{{ ds | sql }}}}}}}} is not null"\n'
    seconds = []
    for units in (1, UNITS):
        folder = project(server, step.format(units=units))
        subprocess.run([HAUL, "run", "bench", "--date", "2024-05-02"], cwd=folder, check=True, capture_output=True)
        seconds.append(measure([HAUL, "run", "bench", "--date", "2024-05-02", "--force"], folder)[0])
        shutil.rmtree(folder)
    unit = "date '2024-01-01' + {n}"
    script = [
        "BEGIN; CREATE TEMP TABLE new ON COMMIT DROP AS SELECT *, "
        + unit.format(n=n)
        + f" AS u FROM ({select}) AS q; DELETE FROM small WHERE u = {unit.format(n=n)}; INSERT INTO small SELECT * FROM new; COMMIT;"
        for n in range(UNITS)
    ]
    file = pathlib.Path(tempfile.mkstemp(prefix="haul-bench-")[1])
    file.write_text("\n".join(script))
    subprocess.run(server.psql("DROP TABLE IF EXISTS small", "CREATE TABLE small (id int, name text, u date)", "CREATE INDEX ON small (u)"), check=True)
    argv = server.psql()
    by_hand = measure([*argv, "-f", str(file)])[0]
    file.unlink()
    return (seconds[1] - seconds[0]) / (UNITS - 1), by_hand / UNITS


def plan(server):
    """Seconds to plan so many units that are all loaded, beside those for one."""
    found = []
    for units in (1, PLANNED):
        step = f"lookback = {units}\n[[transform]]\nname = \"one\"\nsql = \"select 1 as n where {{{{ ds | sql }}}} is not null\"\n"
        folder = project(server, step)
        subprocess.run([HAUL, "run", "bench", "--date", "2024-05-02"], cwd=folder, check=True, capture_output=True)
        found.append(min(measure([HAUL, "plan", "bench", "--date", "2024-05-02"], folder)[0] for _ in range(5)))
        shutil.rmtree(folder)
    return found


def main():
    server = Server()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="haul-bench-rows-"))
    try:
        lines, csv = folder / "rows.jsonl", folder / "rows.csv"
        subprocess.run(server.psql(TABLE, f"\\copy (SELECT row_to_json(e) FROM events e) TO '{lines}'", f"\\copy events TO '{csv}' CSV"), check=True)
        copied, loaded, peak = [], [], 0
        # In turns, so that whatever else the machine does falls on both.
        for run in range(RUNS + 1):
            one = copy(server, csv)
            two, memory = load(server, lines)
            if run:
                copied.append(one), loaded.append(two)
            peak = max(peak, memory)
        rows = lambda seconds: f"{ROWS / statistics.median(seconds):>12,.0f} rows/s  {statistics.median(seconds):6.2f} s"
        print(f"{ROWS:,} rows of 10 columns, the median of {RUNS} runs each")
        print(f"psql \\copy                 {rows(copied)}")
        print(f"haul, from its stage       {rows(loaded)}  {peak:.0f} MB")
        print(f"ratio to psql \\copy        {statistics.median(copied) / statistics.median(loaded):.2f}")
        own, by_hand = transforms(server)
        print(f"a transform's unit         {own * 1000:.2f} ms by haul, {by_hand * 1000:.2f} ms by psql: {(own - by_hand) * 1000:.2f} ms more ({UNITS} units)")
        one, many = plan(server)
        print(f"planning {PLANNED:,} units       {(many - one) * 1000:.0f} ms ({many * 1000:.0f} ms for the process, {one * 1000:.0f} ms for one unit)")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


main()
