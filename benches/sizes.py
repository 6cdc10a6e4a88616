"""Measures what is large: a backfill of thousands of days, and one extract of many large pages.

sizes.py HAUL DAYS PAGES BYTES
"""

import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

DAYS = """
[window]
lookback = 3
[[extract]]
name = "rows"
connection = "api"
request = { path = "/rows", params = { day = "{{ ds }}" } }
records = "$.rows[*]"
[[transform]]
name = "daily"
sql = "select * from {{ ref('rows') }}"
[[transform]]
name = "weekly"
sql = "select * from {{ ref('daily') }}"
reach = "-6d..0d"
"""

PAGES = """
[window]
lookback = 1
[[extract]]
name = "pages"
connection = "api"
request = { path = "/pages", params = { day = "{{ ds }}" } }
records = "$.rows[*]"
paginate = { by = "cursor", param = "cursor", at = "$.next" }
"""


def project(folder, name, text, url):
    root = Path(folder)
    (root / "pipelines").mkdir()
    (root / "haul.toml").write_text('warehouse = "warehouse"\n')
    (root / "connections.toml").write_text(f'[warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n[api]\ntype = "http"\nurl = "{url}"\n')
    (root / "pipelines" / f"{name}.toml").write_text(text)
    return root


def took(arguments, root):
    """Seconds, and the most memory that the process had, in MB."""
    begun = time.time()
    process = subprocess.Popen(arguments, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, said
    return time.time() - begun, usage.ru_maxrss / 1024


def backfills(haul, days):
    for count in [days // 5, days, days * 2]:
        with tempfile.TemporaryDirectory() as folder:
            root = project(folder, "days", DAYS, "http://127.0.0.1:9")
            last = time.strftime("%Y-%m-%d", time.gmtime(86400 * (count - 1)))
            ask = [haul, "backfill", "days", "--from", "1970-01-01", "--through", last, "--output", "json"]
            planned, memory = took(ask + ["--plan"], root)
            queued, of_queue = took(ask + ["--queue", "--chunk", "1"], root)
            shown, _ = took([haul, "backfill", "show", "bf-1"], root)
            print(
                f"a backfill of {count} days, {3 * count} tasks: planned in {planned:.2f} s with {memory:.0f} MB; planned and put into"
                f" the queue as {count} jobs in {queued:.2f} s with {of_queue:.0f} MB; shown in {shown:.2f} s"
            )


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in one piece: headers and body apart would wait for each other.
    wbufsize = 1 << 20
    disable_nagle_algorithm = True
    pages = 0
    text = ""

    def do_GET(self):
        page = int(self.path.rsplit("cursor=", 1)[1]) if "cursor=" in self.path else 0
        body = {"rows": [{"page": page, "text": self.text}], "next": str(page + 1) if page + 1 < self.pages else None}
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


def pages(haul, count, size):
    for some in [max(count // 100, 1), max(count // 10, 1), count]:
        Api.pages, Api.text = some, f"{random.getrandbits(size * 4):x}"[:size]
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory() as folder:
            root = project(folder, "pages", PAGES, f"http://127.0.0.1:{server.server_port}")
            seconds, memory = took([haul, "run", "pages", "--date", "2024-05-04"], root)
            record = subprocess.check_output([haul, "show", "pages-2024-05-04-1", "--output", "json"], cwd=root)
            state = sum(path.stat().st_size for path in (root / ".haul").glob("state.db*"))
            logs = sum(path.stat().st_size for path in (root / ".haul" / "logs").rglob("*") if path.is_file())
            print(
                f"{some} pages of {size} bytes: {seconds:.1f} s, {memory:.0f} MB; the run's record has {len(record)} bytes, the state"
                f" store {state // 1024} KB, the log {logs // 1024} KB"
            )
        server.shutdown()


if __name__ == "__main__":
    backfills(sys.argv[1], int(sys.argv[2]))
    pages(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))
