"""What the services of tests have in common: HTTP, a log of requests, what is to go wrong, and the killing of clients.

`python -m registry.NAME_server` prints its port and serves until it is killed. `GET /_log` tells every request so far,
`POST /_break` what is to go wrong next, `POST /_watch` which process is to be killed at which place: before or after the
answer to its n-th request was worked out. It answers how many places were passed since it was last asked.
"""

import contextlib
import json
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Refused(Exception):
    def __init__(self, status, code="", message="", **body):
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, body


class Service:
    """`answer` is for those that inherit; one request at a time is worked on."""

    def __init__(self):
        self.log, self.broken, self.watched = [], {}, {"pid": None, "at": None}
        self.places, self.lock = 0, threading.Lock()

    def control(self, path, body):
        """The answer to a test."""
        if path == "/_log":
            return self.log
        if path == "/_break":
            self.broken = json.loads(body)
        places = self.places
        if path == "/_watch":
            self.watched, self.places = json.loads(body), 0
        return {"places": places}

    def reach(self):
        """Count a place to be killed at. From the kill on the process is not heard any more."""
        self.places += 1
        if self.places == self.watched["at"]:
            kill_family(self.watched["pid"])
        if self.watched["at"] and self.places >= self.watched["at"]:
            raise ConnectionResetError

    def handle(self, method, path, query, headers, body, base):
        """(status, headers, body) of a request."""
        with self.lock:
            if path.startswith("/_"):
                return 200, {}, self.control(path, body)
            self.reach()
            self.log.append([method, path, len(body)])
            answer = self.answer(method, path, query, headers, body, base)
            self.reach()
            return answer


def fault(error):
    """What a fault of the service itself is to the client: nothing to ask for again."""
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr, flush=True)
    return Refused(400, message=text)


def kill_family(pid):
    """Kill a process, then those that it started, which could else go on without it (and it must not miss them)."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):  # it had ended
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            member.kill()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            return body if len(body) == length else None
        body = b""
        while size := int(self.rfile.readline() or b"-1", 16):
            if size < 0:
                return None
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def handle_one(self):
        try:
            body = self.read_body()
        except (OSError, ValueError):
            body = None
        if body is None:  # the client died while it was sending: nothing has happened
            self.close_connection = True
            return
        url = urlsplit(self.path)
        base, query = f"http://{self.headers['Host']}", parse_qs(url.query)
        handle = self.server.service.handle
        try:
            status, headers, answer = handle(self.command, url.path, query, self.headers, body, base)
        except ConnectionResetError:
            self.close_connection = True
            return
        except Exception as error:
            refused = error if isinstance(error, Refused) else fault(error)
            status, answer = refused.status, refused.body | {"error": refused.message}
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(answer, bytes) else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that died
            super().handle_error(request, client_address)


def serve(service):
    """Print the port and serve."""
    server = Server(("127.0.0.1", 0), Handler)
    server.service = service
    print(server.server_address[1], flush=True)
    server.serve_forever()
