"""Decoded pictures to RGB and luma at a requested size, scaled by FFmpeg's swscale.

Scaling comes before turning, so a rotated phone clip costs no more than an upright one.
"""

import threading

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ov2kit.codec.orientation import Orientation


class PictureScaler:
    """Scale frames; may be called from several threads at a time.

    Each thread keeps its own scaling contexts: building one per frame costs as much as scaling.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def rgb(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> np.ndarray:
        """(height, width, 3) uint8 at `size` = (height, width) as shown."""
        return self._scale(frame, size, orientation, "rgb24")

    def luma(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> np.ndarray:
        """(height, width) uint8, full range, at `size` = (height, width) as shown."""
        return self._scale(frame, size, orientation, "gray")

    def _scale(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation, kind: str) -> np.ndarray:
        height, width = orientation.size(*size)
        contexts = self._local.__dict__
        context = contexts.get(kind)
        if context is None:
            context = contexts[kind] = VideoReformatter()
        # Area averaging keeps thin detail from flickering when a picture shrinks to a score map.
        interpolation = "AREA" if kind == "gray" else "BILINEAR"
        scaled = context.reformat(frame, width, height, kind, interpolation=interpolation)
        return orientation.picture(scaled.to_ndarray())
