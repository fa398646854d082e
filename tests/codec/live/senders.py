"""Senders on the loopback device, each in a thread, bounded in time."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE

PART = 188 * 7


def parts_of(data: bytes, seconds: float) -> Iterator[tuple[float, bytes]]:
    """Parts of a datagram's size with the time at which each is due, even over so many seconds."""
    count = -(-len(data) // PART)
    for k in range(count):
        yield seconds * k / count, data[k * PART : (k + 1) * PART]


def paced(data: bytes, seconds: float, send: Callable[[bytes], Any]) -> None:
    """Send parts as they are due."""
    begin = time.monotonic()
    for due, part in parts_of(data, seconds):
        time.sleep(max(0.0, begin + due - time.monotonic()))
        send(part)


@contextlib.contextmanager
def running(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Work in a thread; a peer that has gone is no error."""

    def quiet() -> None:
        with contextlib.suppress(OSError):
            work()

    thread = threading.Thread(target=quiet, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def tcp_server(*turns: Callable[[socket.socket], None]) -> Iterator[str]:
    """An address; what is done with the first, second, ... connection to it. Later ones are refused."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    left = threading.Event()

    def accepted() -> socket.socket:
        while not left.is_set():
            with contextlib.suppress(TimeoutError):
                return server.accept()[0]
        raise ConnectionAbortedError

    def work() -> None:
        with server:
            for turn in turns:
                with accepted() as peer, contextlib.suppress(OSError):
                    peer.settimeout(PATIENCE)
                    turn(peer)

    with running(work):
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            left.set()


def wait_for_reader(port: int) -> None:
    """Until somebody receives datagrams there; what is sent before is lost."""
    table = Path("/proc/net/udp")
    limit = time.monotonic() + PATIENCE
    while table.exists() and f":{port:04X} " not in table.read_text() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0 if table.exists() else 0.3)


@contextlib.contextmanager
def udp_sender(data: bytes, seconds: float) -> Iterator[str]:
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:

        def work() -> None:
            wait_for_reader(port)
            paced(data, seconds, lambda part: out.sendto(part, ("127.0.0.1", port)))

        with running(work):
            yield f"udp://127.0.0.1:{port}?fifo_size=50000&overrun_nonfatal=1&buffer_size=212992"


@contextlib.contextmanager
def http_server(data: bytes, seconds: float) -> Iterator[str]:
    """Chunked, with no length given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(OSError):
                paced(data, seconds, lambda part: self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part)))
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live.ts"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


@contextlib.contextmanager
def pipe_writer(path: Path, data: bytes, seconds: float) -> Iterator[str]:
    def work() -> None:
        with open(path, "wb", buffering=0) as out:
            paced(data, seconds, out.write)

    with running(work):
        yield str(path)
