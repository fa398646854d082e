"""Tokenizers that leave a trace, or do to their worker what a bad file may do. Workers import them from here."""

import os
import signal
import time
from pathlib import Path

import av
import torch

from ov2kit.codec import CodecTokenizer

SMALL = {"max_pixels": 8000, "candidates_per_canvas": 2}


def frames_of(video):
    with av.open(video) as container:
        return container.streams.video[0].frames


class Traced(CodecTokenizer):
    """Appends a line to `log` for every video that is really tokenized."""

    def __init__(self, log: Path | None = None, budget_canvases: int = 2) -> None:
        super().__init__(budget_canvases, **SMALL)
        self.log = log

    def forward(self, video, score_maps=None, *, progress=None):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{Path(video).name}\n")
        self.before(video)
        return super().forward(video, score_maps, progress=progress)

    def before(self, video):
        """What happens to the worker."""

    def calls(self):
        return sorted(self.log.read_text().split("\n")[:-1]) if self.log.exists() else []


class Segfaults(Traced):
    """On videos of 13 frames."""

    def before(self, video):
        if frames_of(video) == 13:
            os.kill(os.getpid(), signal.SIGSEGV)


class SegfaultsOnce(Traced):
    """On the first video of 13 frames."""

    def before(self, video):
        if frames_of(video) == 13 and self.calls().count(Path(video).name) == 1:
            os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(Traced):
    """On videos of 13 frames."""

    def before(self, video):
        if frames_of(video) == 13:
            time.sleep(100_000)


class Hogs(Traced):
    """On videos of 13 frames."""

    def before(self, video):
        if frames_of(video) == 13:
            self.hoard = [torch.ones(2**24) for _ in range(1000)]  # 64 GiB


class Slow(Traced):
    """Everywhere, so that there is something to kill."""

    def before(self, video):
        time.sleep(0.3)


class Held(Traced):
    """On all videos but those of 8 frames, until the file `free` is there; a file `<free>.held` says that one is."""

    def __init__(self, free: Path) -> None:
        super().__init__()
        self.free = free

    def before(self, video):
        if frames_of(video) != 8:
            Path(f"{self.free}.held").touch()
            while not self.free.exists():
                time.sleep(0.05)
