"""What every test process starts with.

One thread, unless the caller wants otherwise: the models of the tests are so small that threads only
wait for each other, and on a busy machine they wait ten times as long. And Ctrl-C: whoever runs the
tests in the background has it ignored, which programs started from here would inherit.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
