"""The page's own server: on this machine only, and for pages that it has sent itself."""

import base64
import dataclasses
import hashlib
import http.server
import json
import pathlib
import re
import sys
import urllib.parse
from collections.abc import Callable

from tfmdl.demo_page.answers import NearestImages, Progress, classify
from tfmdl.outside import printable

HOST = "127.0.0.1"
# More than exports take, so that the served model says itself what is too long for it.
MAX_UPLOAD = 32_000_000
_OWN_NAMES = ("127.0.0.1", "localhost")
_PIECE = 1 << 16
_SECONDS = 60  # without a byte from the browser


class PageServer(http.server.ThreadingHTTPServer):
    """Serves the page, and answers what it asks.

    GET /           the page
    GET /state      {"url", "domains", "nearest", "max_upload"}
    POST /classify?domain=NAME, an image file      {"label", "probability", "class_id"}
    POST /nearest?domain=NAME, an image file       {"nearest": [...]}, or {"done", "total"} while images are embedded

    What cannot be answered is {"error": TEXT} with a status of 400 or more.

    Args:
        port: 0 for one that is free.
        client_for: Returns a client of the served model.
        nearest: Finds training images, or None where there are none.

    Raises:
        OSError: if the port is taken.
    """

    daemon_threads = True

    def __init__(self, port: int, client_for: Callable, nearest: NearestImages | None = None):
        self.client_for, self.nearest = client_for, nearest
        self.page = pathlib.Path(__file__).with_name("page.html").read_bytes()
        self.policy = _policy(self.page.decode())
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise OSError(f"--port={port}: {error.strerror}") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request, client_address):
        # A browser that goes away is nobody's mistake.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if not self._is_own():
            self._refuse(403, "this page is for this machine only")
        elif path == "/":
            self._send(200, "text/html; charset=utf-8", self.server.page)
        elif path == "/state":
            self._answer(self._state)
        else:
            self._refuse(404, "there is nothing here")

    def do_POST(self):
        body = self._body()
        if body is None:
            return
        parts = urllib.parse.urlsplit(self.path)
        (domain,) = urllib.parse.parse_qs(parts.query).get("domain", [""])[:1]
        if not self._is_own():
            self._refuse(403, "this page is for this machine only")
        elif parts.path == "/classify":
            self._answer(lambda: classify(self.server.client_for(), domain, body))
        elif parts.path == "/nearest" and self.server.nearest:
            self._answer(lambda: self._nearest(domain, body))
        else:
            self._refuse(404, "there is nothing here")

    def _state(self):
        client = self.server.client_for()
        return {
            "url": client.name,
            "domains": client.domains(),
            "nearest": self.server.nearest is not None,
            "max_upload": MAX_UPLOAD,
        }

    def _nearest(self, domain, file):
        found = self.server.nearest.find(domain, file)
        if isinstance(found, Progress):
            return dataclasses.asdict(found)
        return {"nearest": [dataclasses.asdict(neighbour) for neighbour in found]}

    def _is_own(self):
        """Returns whether the request is of this machine's browser, and of no other site's page."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        try:
            own = urllib.parse.urlsplit(f"//{host}").hostname in _OWN_NAMES
            return own and (origin is None or urllib.parse.urlsplit(origin).netloc == host)
        except ValueError:
            return False

    def _body(self):
        """Returns what was sent, or None after a refusal."""
        told = self.headers.get("Content-Length", "")
        if not told.isdecimal():
            self.close_connection = True
            return self._refuse(411, "expected the length of what is sent")
        length = int(told)
        if length <= MAX_UPLOAD:
            return self.rfile.read(length)
        while length > 0 and (piece := self.rfile.read(min(length, _PIECE))):
            length -= len(piece)  # a browser reads no answer before it has sent all
        return self._refuse(413, f"the file is too long: at most {MAX_UPLOAD:,} bytes are taken; received {told}")

    def _answer(self, ask):
        try:
            answer = ask()
        except ConnectionError as error:
            self._refuse(502, str(error))
        except (ValueError, OSError) as error:
            self._refuse(400, str(error))
        else:
            self._send(200, "application/json", json.dumps(answer).encode())

    def _refuse(self, status, reason):
        self._send(status, "application/json", json.dumps({"error": printable(reason)}).encode())

    def _send(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _policy(page):
    """Returns a policy under which nothing runs but the page's own script, and nothing is fetched elsewhere."""
    script, style = (re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1] for tag in ("script", "style"))

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
