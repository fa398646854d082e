"""A worker seen from the parent: start it, ask it, end it."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from benchmarks._peers.environments import clean_environment

WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).parents[2]


class WorkerError(RuntimeError):
    """The method failed, ended or took too long; the message is its own."""


class Worker:
    """A warm process that runs one method.

    Args:
        method: key of `worker.METHODS`.
        python: interpreter of the environment that has the method.
        timeout_seconds: longest wait for one answer.
    """

    def __init__(self, method: str, python: Path, timeout_seconds: float) -> None:
        self.method = method
        self.timeout_seconds = timeout_seconds
        environment = clean_environment()
        if method in ("ours", "plain", "floor"):  # this checkout, not an installed copy
            environment["PYTHONPATH"] = str(ROOT)
            environment["OV2KIT_COMPILED"] = str(int(method != "plain"))
        self.process = subprocess.Popen(
            [str(python), str(WORKER), method],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.noise: list[str] = []
        self.drain = threading.Thread(target=self._drain, daemon=True)
        self.drain.start()
        try:
            self.idle_mb = float(self._read()["peak_mb"])
        except WorkerError:
            self.close()
            raise

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.noise = [*self.noise[-20:], line]

    def _last_words(self) -> str:
        return next((line.strip() for line in reversed(self.noise) if line.strip()), "no message")

    def _read(self) -> dict[str, Any]:
        timer = threading.Timer(self.timeout_seconds, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        late = not timer.is_alive()
        timer.cancel()
        if not line:
            self.process.wait()
            self.drain.join(timeout=5)
            why = f"took over {self.timeout_seconds:.0f} s" if late else f"ended with status {self.process.returncode}"
            raise WorkerError(f"{self.method} {why}: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self.method}: {reply['error']}")
        return reply

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            WorkerError: the method failed, or its process is gone.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError(f"{self.method} is gone: {self._last_words()}") from error
        return self._read()

    def close(self) -> None:
        """End the process: its input ends, so it cleans up; killed if it does not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
