"""How fast rows are uploaded to BigQuery: the resumable upload of a day, beside a raw PUT of as many bytes to the same server.

usage: bigquery.py BINARIES [MEGABYTES]

The server is on this machine, answers as BigQuery does where haul asks it, and throws the rows away. What is measured is the
upload alone, from the first byte of its request to the answer, as the server sees it; writing the rows down is printed beside it.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

binaries, megabytes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 400
tables, jobs, uploads = {}, {}, []


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, value, status=200, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def job(self, id):
        return {"jobReference": {"jobId": id, "location": "EU"}, "status": {"state": "DONE"},
                "configuration": {"labels": jobs[id]}, "statistics": {}}

    def missing(self, what):
        reason = {"reason": "notFound", "message": what}
        self.reply({"error": {"code": 404, "message": "Not found: " + what, "errors": [reason]}}, 404)

    def do_GET(self):
        path = self.path.split("?")[0].rsplit("/", 2)
        if path[1] == "queries":
            self.reply({"jobComplete": True, "schema": {"fields": []}, "totalRows": "0"})
        elif path[1] == "jobs":
            self.reply(self.job(path[2])) if path[2] in jobs else self.missing(path[2])
        elif path[1] == "tables" and path[2] in tables:
            self.reply(tables[path[2]])
        else:
            self.missing(self.path)

    def do_POST(self):
        body, path = self.body(), self.path
        if "uploadType=resumable" in path:
            job = json.loads(body)
            self.server.upload = (job["jobReference"]["jobId"], job["configuration"]["labels"])
            return self.reply({}, headers=[("Location", "/session")])
        if "uploadType=multipart" in path:
            job = json.loads(body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0])
        else:
            job = json.loads(body)
        if path.endswith("/tables"):
            tables[job["tableReference"]["tableId"]] = job | {"type": "TABLE", "creationTime": "1"}
            return self.reply(job)
        if path.endswith("/datasets"):
            return self.reply(job)
        if path.endswith("/queries"):
            return self.reply({"jobComplete": True, "schema": {"fields": []}, "jobReference": {"jobId": "q"}, "totalRows": "0"})
        id = job["jobReference"]["jobId"]
        jobs[id] = job["configuration"].get("labels", {})
        self.reply(self.job(id))

    def do_PUT(self):
        begun = time.perf_counter()
        left = size = int(self.headers["Content-Length"])
        room = memoryview(bytearray(1 << 20))
        while left:
            left -= self.rfile.readinto(room[: min(left, len(room))])
        span = self.headers["Content-Range"].removeprefix("bytes ")
        last, total = int(span.split("-")[1].split("/")[0]), int(span.split("/")[1])
        uploads.append((begun, time.perf_counter(), size))
        if last + 1 < total:
            return self.reply({}, 308, [("Range", f"bytes=0-{last}")])
        if self.path == "/session":
            id, labels = self.server.upload
            jobs[id] = labels
            return self.reply(self.job(id))
        self.reply({})


def rate(parts):
    """Bytes and seconds, from the first byte to the last."""
    return sum(size for _, _, size in parts), parts[-1][1] - parts[0][0]


def raw(port, path, size):
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=1 << 20)
    with open(path, "rb") as file:
        connection.request("PUT", "/raw", file, {"Content-Length": str(size), "Content-Range": f"bytes 0-{size - 1}/{size}"})
        connection.getresponse().read()


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
port = server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as folder:
    for name in ("pipelines", "data"):
        os.mkdir(f"{folder}/{name}")
    open(f"{folder}/haul.toml", "w").write('warehouse = "bq"\n')
    open(f"{folder}/connections.toml", "w").write(
        f'[bq]\ntype = "bigquery"\nproject = "p"\nendpoint = "http://127.0.0.1:{port}"\ncompress = false\n\n[files]\ntype = "files"\nurl = "data"\n')
    open(f"{folder}/pipelines/days.toml", "w").write(
        '[window]\nlookback = 1\n\n[[extract]]\nname = "rows"\nconnection = "files"\nfiles = "{{ ds }}.jsonl"\ninto = "raw.rows"\nwrite = "partition"\n')
    noise = random.Random(7)
    with open(f"{folder}/data/2024-05-01.jsonl", "w") as file:
        for id in range(megabytes * 1000):
            file.write(json.dumps({"id": id, "noise": noise.randbytes(480).hex()}) + "\n")
    begun = time.perf_counter()
    subprocess.run([f"{binaries}/haul", "run", "days", "--date", "2024-05-02", "--quiet"], cwd=folder, check=True)
    whole = time.perf_counter() - begun
    size, seconds = rate(uploads)
    ours = size / seconds
    # The same number of bytes, from a file as well; the better of two, since the first may warm the cache.
    path, best = f"{folder}/raw", 0.0
    with open(path, "wb") as file:
        for _ in range(0, size, 1 << 20):
            file.write(noise.randbytes(min(1 << 20, size - file.tell())))
    for _ in range(2):
        uploads.clear()
        raw(port, path, size)
        size_raw, seconds_raw = rate(uploads)
        best = max(best, size_raw / seconds_raw)
print(f"upload of a day, {size / 1e6:.0f} MB: {ours / 1e6:.0f} MB/s; the same bytes raw: {best / 1e6:.0f} MB/s; ratio {ours / best:.2f}")
print(f"the whole run, with reading, staging and writing down: {whole:.1f} s, of which {seconds:.1f} s upload")
