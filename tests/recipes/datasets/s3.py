"""An S3 server on loopback (moto's), behind a gate that fails as real ones do: 503, late answers, and short ones."""

import os
import select
import threading
from contextlib import contextmanager

import pytest

from tests.patience import PATIENCE

BUCKET = "videos"
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Gate:
    """In front of the server: `fault` says for each request what goes wrong with it, or None.

    "busy": 503. "hang": no answer until the client has lost its patience. "cut": the body ends before its length.
    "short": so it does, and the length agrees.
    """

    def __init__(self, server):
        self.server = server
        self.calm()

    def calm(self):
        """No faults, and nothing has been asked."""
        self.fault = lambda method, path: None
        self.requests, self.failed = [], []

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        fault = self.fault(method, path)
        if fault is None:
            return self.server(environ, start_response)
        self.failed.append((method, path, fault))
        body = environ["wsgi.input"]  # read, or the next request of the connection would begin within it
        body.read(*() if environ.get("wsgi.input_terminated") else (int(environ.get("CONTENT_LENGTH") or 0),))
        if fault == "busy":
            start_response("503 Slow Down", [("Content-Type", "text/xml"), ("Content-Length", str(len(_BUSY)))])
            return [_BUSY]
        if fault == "hang":
            connection = environ["werkzeug.socket"]
            select.select([connection], [], [], PATIENCE)  # it is closed
            raise ConnectionAbortedError
        answer = []
        body = b"".join(self.server(environ, lambda status, headers, error=None: answer.append((status, headers))))
        status, headers = answer[0]
        body = body[: len(body) // 2]
        if fault == "short":
            headers = [each for each in headers if "checksum" not in each[0].lower()]  # which not every store sends
            headers = [(name, str(len(body)) if name.lower() == "content-length" else value) for name, value in headers]
        start_response(status, headers)
        return [body]


@contextmanager
def serving():
    """A gate, the environment of processes that use what is behind it, and a client that goes around the gate."""
    s3fs = pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_):
            pass

    gate = Gate(moto.DomainDispatcherApplication(moto.create_backend_app))
    server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    place = f"http://127.0.0.1:{server.server_port}"
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": place, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_MAX_ATTEMPTS": "2",
        "FSSPEC_S3": '{"config_kwargs": {"read_timeout": 6, "connect_timeout": 60}}',
    }  # fmt: skip
    options = {"key": "test", "secret": "test", "endpoint_url": place}
    client = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **options)
    try:
        client.mkdir(BUCKET)
        yield gate, environ, client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
