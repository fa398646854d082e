"""The time that stands before a picture of a video, and which image pads stand under one time.

Source: prompt rewriting of the frames path of LLaVA-OneVision-2. Letters: N patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ov2kit.canvases import frame_runs
from ov2kit.errors import CanvasError, check_number


@dataclass(frozen=True)
class TimeRun:
    """Image pads in a row.

    Args:
        tokens: how many.
        seconds: time of their source, None for a plain image.
        stamp: text before the start token; empty for a plain image.
    """

    tokens: int
    seconds: float | None = None
    stamp: str = ""


def timestamp(seconds: float, decimals: int = 1) -> str:
    """The text that stands before a picture of a video, such as ``<3.2 seconds>``."""
    return f"<{seconds:.{decimals}f} seconds>"


def timestamp_runs(
    positions: Tensor, times: Mapping[int, float] | float, *, merge: int = 2, decimals: int = 1
) -> list[TimeRun]:
    """Runs of one source frame each, padding left out.

    Args:
        positions: (N, 3) source (frame, row, column) of each patch in block layout.
        times: seconds of each frame, or frames per second, by which frame indices are divided.
        merge: patches per block edge; a run has ``patches // merge**2`` tokens.
        decimals: digits after the point.

    Raises:
        CanvasError: a frame without a time.
    """
    check_number("merge", merge, low=1, integer=True)
    check_number("decimals", decimals, low=0, high=15, integer=True)
    runs = []
    for frame, tokens in frame_runs(positions[:, 0], merge):
        if isinstance(times, Mapping) and frame not in times:
            raise CanvasError(f"no time for source frame {frame}; frame_times must hold every frame used")
        seconds = times[frame] if isinstance(times, Mapping) else frame / times
        runs.append(TimeRun(tokens, seconds, timestamp(seconds, decimals)))
    return runs
