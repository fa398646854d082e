"""A callback that leaves time to send a signal between two steps."""

import time

from lightning.pytorch.callbacks import Callback


class SlowSteps(Callback):
    def on_train_batch_start(self, *args):
        time.sleep(0.4)
