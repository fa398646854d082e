"""LivePage: a page that shows the groups of a stream as they come, for this machine alone by default."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ov2kit.codec.report.pictures import data_address
from ov2kit.errors import OutputError, check_number, check_type
from ov2kit.recipes.live.asking import Answered
from ov2kit.recipes.live.watching import Watched

_GROUPS = 60  # that are kept for who looks in later
_PICTURES = 8  # of a group
_PICTURE_ROWS = 144
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class LivePage:
    """Serve a page about a stream. It holds the last 60 groups, and asks for new ones twice a second.

    Args:
        source: heading of the page.
        port: 0 for any that is free.
        host: address to listen at; anything but loopback shows the stream to whoever can reach it.

    Raises:
        OutputError: the port is taken.
        OptionError: an option is of a wrong type or out of range.
    """

    def __init__(self, source: str, *, port: int = 0, host: str = "127.0.0.1") -> None:
        check_type("source", source, str, "a string")
        check_type("host", host, str, "an address")
        check_number("port", port, low=0, high=65_535, integer=True)
        self._source, self._host = source, host
        self._lock = threading.Lock()
        self._groups: deque[dict[str, Any]] = deque(maxlen=_GROUPS)
        self._answers: dict[int, dict[str, Any]] = {}  # by the number of the group
        self._state, self._ended = "waiting for the first group", False
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(self))
        except OSError as error:
            raise OutputError(f"{host}:{port}: the page cannot be served there ({error.strerror or error})") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{self._host}:{self._server.server_port}/"

    def add(self, watched: Watched) -> None:
        """Show another group."""
        pictures = [
            data_address(image.permute(1, 2, 0).numpy(), min(1.0, _PICTURE_ROWS / image.shape[1]))
            for image in watched.group.canvases.images[:_PICTURES]
        ]
        with self._lock:
            self._groups.append(watched.facts() | {"pictures": pictures})
            self._state = f"live, {watched.group.end_seconds:.1f} s"
            oldest = self._groups[0]["group"]
            self._answers = {number: facts for number, facts in self._answers.items() if number >= oldest}

    def answer(self, answered: Answered) -> None:
        """Show what became of a question about a group."""
        with self._lock:
            self._answers[answered.group] = answered.facts()

    def report(self, message: str) -> None:
        """Show what happened to the source."""
        with self._lock:
            self._state = message

    def end(self) -> None:
        """Show that the stream has ended."""
        with self._lock:
            self._ended, self._state = True, "the stream has ended"

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def content(self, path: str, host: str) -> tuple[int, str, bytes]:
        """Status, type and body of what a browser asks for.

        Args:
            path: with its query.
            host: that the browser thinks it talks to. A page of another site that has its name point here is refused.
        """
        name = host.rsplit(":", 1)[0].strip("[]")
        if self._host in _LOOPBACK and name not in _LOOPBACK:
            return 403, "text/plain", b"this page is for this machine alone\n"
        parts = urlsplit(path)
        if parts.path == "/":
            page = resources.files("ov2kit.recipes.live") / "assets" / "live.html"
            return 200, "text/html; charset=utf-8", page.read_bytes()
        if parts.path == "/groups.json":
            return 200, "application/json", self._news(parse_qs(parts.query).get("after", ["-1"])[0])
        return 404, "text/plain", b"not here\n"

    def _news(self, after: str) -> bytes:
        number = int(after) if after.lstrip("-").isdigit() else -1
        with self._lock:
            new = [group for group in self._groups if group["group"] > number]
            state = {"source": self._source, "state": self._state, "ended": self._ended, "groups": new}
            state["answers"] = list(self._answers.values())
        return json.dumps(state).encode()


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = page.content(self.path, self.headers.get("Host", ""))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """The terminal is for answers."""

    return Handler
