"""Programs in an interpreter of their own that has torch, and nothing else that is not Python's or numpy's.

Each is a fork of one process that imports torch once: to start Python and import torch takes seconds every time.
"""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_SERVER = """
import json, os, sys, traceback
import torch

for line in sys.stdin:
    code, folder, environ, out, err = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY), number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
"""


def python(code: str, cwd: str | os.PathLike[str] = ".") -> "subprocess.CompletedProcess[str]":
    """What a program said, and its status; the environment is that of the caller."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        out.touch()
        err.touch()
        server = _server()
        server.stdin.write(json.dumps([code, str(Path(cwd).absolute()), dict(os.environ), str(out), str(err)]) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess([code], status, out.read_text(), err.read_text())


@functools.cache
def _server():
    started = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(started.communicate)
    return started
