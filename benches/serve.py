"""Measures `haul serve`: ticks to starts, the cost of idling, memory and files over an hour.

serve.py ticks HAUL SECONDS | idle HAUL SECONDS | soak HAUL MINUTES EVERY
"""

import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def project(folder, pipelines, every, path, step):
    """A project of so many pipelines of one step."""
    root = Path(folder)
    (root / "pipelines").mkdir()
    (root / "haul.toml").write_text('warehouse = "warehouse"\n[serve]\nworkers = 8\n')
    (root / "connections.toml").write_text(f'[warehouse]\ntype = "duckdb"\npath = "{path}"\n')
    for number in range(pipelines):
        schedule = f'[schedule]\nevery = "{every}"\n[window]\nlookback = 1\n'
        (root / "pipelines" / f"p{number:04}.toml").write_text(schedule + step.replace("NAME", f"p{number:04}"))
    return root


COMMAND = '[[run]]\nname = "it"\ncommand = ["true"]\nper = "window"\n'
TRANSFORM = '[[transform]]\nname = "it"\nsql = "select {{ run.id | sql }} as run"\ninto = "mart.NAME"\n'


def serve(haul, root):
    log = open(root / "serve.log", "w")
    process = subprocess.Popen([haul, "serve"], cwd=root, stderr=log, stdout=subprocess.DEVNULL)
    while "serves" not in (root / "serve.log").read_text():
        time.sleep(0.05)
    return process


def stop(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0


def memory(process):
    """Resident memory in MB, of which the process's own."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return int(found["VmRSS"].split()[0]) / 1024, int(found["RssAnon"].split()[0]) / 1024


def busy(process):
    """Seconds of a core so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def instant(text):
    whole, _, rest = text.rstrip("Z").partition(".")
    at = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc).timestamp()
    return at + float(f"0.{rest or 0}")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def ticks(haul, seconds):
    with tempfile.TemporaryDirectory() as folder:
        root = project(folder, 1, "2s", ":memory:", COMMAND)
        process = serve(haul, root)
        time.sleep(seconds)
        stop(process)
        jobs = json.loads(subprocess.check_output([haul, "queue", "--all", "--output", "json"], cwd=root))
        for name, key in [("claimed", "claimed_at"), ("begun", "started_at")]:
            late = [instant(job[key]) - instant(job["scheduled_for"]) for job in jobs if job["scheduled_for"] and job[key]]
            late = [1000 * wait for wait in late]
            print(
                f"tick to {name}: {len(late)} runs, median {percentile(late, 0.5):.1f} ms,"
                f" 95th percentile {percentile(late, 0.95):.1f} ms, worst {max(late):.1f} ms"
            )


def idle(haul, seconds):
    for pipelines in [1, 100, 10_000]:
        with tempfile.TemporaryDirectory() as folder:
            process = serve(haul, project(folder, pipelines, "3000d", ":memory:", COMMAND))
            time.sleep(3)
            begun, before = time.time(), busy(process)
            time.sleep(seconds)
            share = (busy(process) - before) / (time.time() - begun)
            resident, own = memory(process)
            print(f"idle with {pipelines} pipelines: {resident:.1f} MB resident, {own:.1f} MB of its own, {100 * share:.2f} % of a core")
            stop(process)


def sizes(root):
    state = root / ".haul"
    files = [path for path in state.rglob("*") if path.is_file()]
    named = {name: (state / name).stat().st_size / 1024 for name in ["state.db", "state.db-wal"] if (state / name).exists()}
    warehouse = root / "warehouse.duckdb"
    named["warehouse.duckdb"] = warehouse.stat().st_size / 1024 if warehouse.exists() else 0
    return ", ".join(f"{name} {size:.0f} KB" for name, size in named.items()) + f", {len(files)} files below .haul"


def soak(haul, minutes, every):
    with tempfile.TemporaryDirectory() as folder:
        root = project(folder, 1, every, "warehouse.duckdb", TRANSFORM)
        process = serve(haul, root)
        begun = time.time()
        for look in range(11):
            time.sleep(max(0.0, begun + look * minutes * 6 - time.time()))
            resident, own = memory(process)
            files = sorted(os.listdir(f"/proc/{process.pid}/fd"))
            share = 100 * busy(process) / max(time.time() - begun, 1)
            print(
                f"{(time.time() - begun) / 60:5.1f} min: {resident:.1f} MB resident, {own:.1f} MB of its own,"
                f" {share:.2f} % of a core, {len(files)} open files; {sizes(root)}",
                flush=True,
            )
        stop(process)
        runs = json.loads(subprocess.check_output([haul, "runs", "--limit", "10000", "--output", "json"], cwd=root))
        print(f"{len(runs)} runs, {sum(run['status'] == 'succeeded' for run in runs)} of them succeeded")


if __name__ == "__main__":
    what, haul, amount, *rest = sys.argv[1:]
    haul = str(Path(haul).resolve())
    if what == "soak":
        soak(haul, float(amount), *(rest or ["60s"]))
    else:
        {"ticks": ticks, "idle": idle}[what](haul, float(amount))
