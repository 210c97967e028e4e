"""The part of Comet's service that its client asks while it sends a run: enough to read back what has arrived."""

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        self.answer(json.loads(content) if content[:1] == b"{" else {})

    def answer(self, asked):
        answer, path = {}, self.path.partition("?")[0]
        self.server.paths.append(path)
        if path == "/logger/add/run":
            names = ("asset", "image")
            answer = {f"upload_{way}_{name}_url_prefix": "x" for way in ("web", "api") for name in names}
            answer |= {"runId": "r", "project_id": "p", "focusUrl": "http://x/", "workspaceName": "w", "msg": ""}
            self.server.experiments.add(asked["experimentKey"])
        elif path == "/batch/logger/experiment/metric":
            self.server.metrics += asked["values"]
        elif path == "/api/rest/v2/experiment/metadata":
            answer = {"workspaceName": "w", "projectName": "p"}
        elif path == "/api/rest/v2/experiment/metrics/summary":
            last = {metric["metricName"]: metric["step"] for metric in self.server.metrics}
            answer = {"values": [{"name": name, "stepCurrent": step} for name, step in last.items()]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def comet_running():
    """A server with `url`, and `metrics`, `experiments` and `paths` as they were sent and asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.metrics, server.experiments, server.paths = [], set(), []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
