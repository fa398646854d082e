"""Another machine: a process with an environment of its own that stays, so that libraries are imported once.

machine.call("tests.recipes.datasets.some_module:function", "text", ...) -> Said
"""

import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from tests.paths import ROOT


@dataclass
class Said:
    """What a call returned, or which error it raised, and what it wrote."""

    value: Any
    error: str
    out: str
    err: str


class Machine:
    """Calls functions of modules, one after the other, in one process.

    Args:
        environ: of the process.
        before: command that starts it, such as `unshare`.
    """

    def __init__(self, environ=None, before=()):
        self.noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 # closed by `end`
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.recipes.datasets.machine"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.noise,
            env={**(os.environ if environ is None else environ), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def send(self, function, *arguments):
        """Begin a call."""
        self.process.stdin.write(json.dumps([function, arguments]) + "\n")
        self.process.stdin.flush()

    def receive(self):
        """What became of it; the process may not have ended."""
        line = self.process.stdout.readline()
        if not line:
            self.noise.seek(0)
            raise AssertionError(f"it has ended: {self.noise.read()[-3000:]}")
        return Said(**json.loads(line))

    def call(self, function, *arguments):
        """Send and receive."""
        self.send(function, *arguments)
        return self.receive()

    def command(self, *arguments, code=0):
        """Run `ov2kit`, which must end with this status."""
        said = self.call("ov2kit.cli:run", list(arguments))
        assert said.value == code, said.err[-3000:] + said.error
        return said

    def end(self):
        """Let it end; kill it if it does not."""
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.noise.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def main():
    replies, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    for line in sys.stdin:
        function, arguments = json.loads(line)
        module, _, name = function.partition(":")
        said, out, err = Said(None, "", "", ""), io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                said.value = getattr(importlib.import_module(module), name)(*arguments)
            except Exception as error:  # for the test to look at
                said.error = f"{type(error).__name__}: {error}"
        said.out, said.err = out.getvalue(), err.getvalue()
        replies.write(json.dumps(vars(said)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
