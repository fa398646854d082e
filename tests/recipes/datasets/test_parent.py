"""A worker whose parent was killed ends too, and can clear away before."""

from tests.fresh import python

KILLED = """
import os, signal
from multiprocessing import get_context
from ov2kit.recipes.datasets.parent import end_with_parent


def worker(out):
    signal.alarm(900)  # ends it where nothing else does
    signal.signal(signal.SIGTERM, lambda *_: (os.write(out, b"ended with its parent"), os._exit(0)))
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    while True:
        signal.pause()


end_with_parent()  # has none that multiprocessing knows
read, write = os.pipe()
parent = os.fork()
if parent == 0:
    get_context("fork").Process(target=worker, args=(write,), daemon=True).start()
    os.kill(os.getpid(), signal.SIGKILL)
os.close(write)
os.waitpid(parent, 0)
print(os.read(read, 100).decode())
"""


def test_a_worker_ends_when_its_parent_is_killed():
    done = python(KILLED)
    assert (done.returncode, done.stdout.strip()) == (0, "ended with its parent"), done.stderr
