"""Measures how long an older state file takes to be brought up to date, beside a plain copy of the same file.

migrate.py HAUL MIGRATIONS ROWS VERSION
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNITS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {units})
INSERT INTO unit (table_name, unit, state, last_pull, pulled_at, unchanged_pulls, loaded_pull, loaded_generation, loaded_rows,
                  loaded_fingerprint, loaded_at)
SELECT printf('raw.t%05d', i / 4000), date('2010-01-01', (i % 4000) || ' days'), 'loaded', 10, '2024-05-04T06:00:00.000000000Z', 0,
       10, 10, 1000, printf('%032x', i), '2024-05-04T06:00:00.000000000Z' FROM n
"""

PULLS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows})
INSERT INTO pull (table_name, unit, pull, run, outcome, row_count, fingerprint, requests, bytes, started_at, finished_at)
SELECT printf('raw.t%05d', i / 40000), date('2010-01-01', (i / 10 % 4000) || ' days'), 1 + i % 10, 'p-' || (i / 100), 'loaded', 1000,
       printf('%032x', i), 3, 123456, '2024-05-04T06:00:00.000000000Z', '2024-05-04T06:00:01.000000000Z' FROM n
"""


def fill(path, migrations, rows, version):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    for file in sorted(Path(migrations).glob("*.sql"))[:version]:
        connection.executescript(file.read_text())
    connection.execute("BEGIN")
    connection.execute(UNITS.format(units=max(rows // 10, 1)))
    connection.execute(PULLS.format(rows=rows))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def count(path, table):
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found, version


def haul_took(haul, root):
    begun = time.time()
    subprocess.run([haul, "runs"], cwd=root, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.time() - begun


def main(haul, migrations, rows, version):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "pipelines").mkdir()
        state = root / ".haul"
        state.mkdir()
        fill(state / "state.db", migrations, rows, version)
        size = (state / "state.db").stat().st_size / 1e6
        print(f"a state file of version {version} with {rows} pulls of {rows // 10} units: {size:.0f} MB")
        begun = time.time()
        shutil.copyfile(state / "state.db", root / "copy.db")
        copied = time.time() - begun
        print(f"a plain copy of it: {copied:.1f} s")
        took = haul_took(haul, root)
        print(f"`haul runs`, which copies it and brings it up to date: {took:.1f} s ({took / copied:.1f} × the copy)")
        print(f"`haul runs` afterwards: {haul_took(haul, root):.2f} s")
        kept = next(state.glob("state.db.before-*"))
        (before, old), (now, new) = count(kept, "pull"), count(state / "state.db", "pull")
        assert before == now == rows and old == version < new, (before, old, now, new)
        print(f"the way back: {kept.name} has version {old} and its {before} pulls; the file now has version {new}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
