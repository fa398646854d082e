"""vLLM's own server in a process of its own, asked over HTTP on the loopback address."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

#: small enough for two cores; no flag says that the code of a directory may run
FLAGS = (
    "--enforce-eager", "--dtype", "float32", "--max-model-len", "8192", "--max-num-seqs", "4",
    "--kv-cache-memory-bytes", str(64 * 2**20), "--gpu-memory-utilization", "0.2", "--trust-request-mm-kwargs",
)  # fmt: skip
_SECONDS = 600  # until a server is up on a busy machine, and for an answer


class Server:
    """A served model directory; use it in a `with` block.

    Args:
        directory: of the model.
        flags: of `vllm serve`.
        log: file for what it prints.
    """

    def __init__(self, directory: Path, log: Path, flags: tuple[str, ...] = FLAGS) -> None:
        self.directory, self.flags, self.log = directory, flags, log
        self.port = 0

    def __enter__(self) -> "Server":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        program = Path(sys.executable).parent / "vllm"
        quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [program, "serve", self.directory, "--host", "127.0.0.1", "--port", str(self.port), *self.flags],
            env=os.environ | quiet,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.log.read_text()[-4000:]}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"no server after {_SECONDS} s: {self.log.read_text()[-4000:]}")

    def __exit__(self, *_: object) -> None:
        """End the server and what it started."""
        for name in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, name)
                self.process.wait(30)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        return self._open(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a request for a chat."""
        status, text = self._open(self.request(body))
        return status, json.loads(text)

    def request(self, body: dict[str, Any]) -> urllib.request.Request:
        """A request for a chat, not sent yet."""
        return urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            data=json.dumps({"model": str(self.directory), **body}).encode(),
            headers={"Content-Type": "application/json"},
        )

    @staticmethod
    def _open(request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def running(self) -> int:
        """Requests that it is answering now, by its own count."""
        lines = self.get("/metrics")[1].split("\n")
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("vllm:num_requests_running{"))
