"""One thread per process, unless the caller wants otherwise: the models of the tests are so small that
threads only wait for each other, and on a busy machine they wait ten times as long.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
