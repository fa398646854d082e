"""Decoded pictures to RGB and luma at a requested size, scaled by FFmpeg's swscale.

RGB is made as planes (gbrp): swscale then interpolates color in full and is off by rounding alone,
where its packed rgb24 is off by 1.6 gray levels on average and takes two to three times as long.
Scaling comes before turning, so a rotated phone clip costs no more than an upright one.
"""

import threading

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from ov2kit.codec.video.orientation import Orientation

_RGB_PLANES = (2, 0, 1)  # where gbrp keeps red, green and blue


class PictureScaler:
    """Scale frames; may be called from several threads at a time.

    Each thread keeps its own scaling contexts: building one per frame costs as much as scaling.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def rgb(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> np.ndarray:
        """(3, height, width) uint8 at `size` = (height, width) as shown."""
        # At its own size a picture goes through another converter, which leaves the last columns of a
        # width that is no multiple of 8 as they were in memory; accurate rounding avoids that one.
        same = orientation.size(*size) == (frame.height, frame.width)
        how = Interpolation.BILINEAR | Interpolation.ACCURATE_RND if same else Interpolation.BILINEAR
        scaled = self._scaled(frame, size, orientation, "gbrp", how)
        planes = np.empty((3, scaled.height, scaled.width), dtype=np.uint8)
        for channel, plane in enumerate(_RGB_PLANES):
            planes[channel] = _plane(scaled, plane)
        return orientation.picture(planes)

    def luma(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> np.ndarray:
        """(height, width) uint8, full range, at `size` = (height, width) as shown.

        Area averaging keeps thin detail from flickering when a picture shrinks to a score map.
        """
        scaled = self._scaled(frame, size, orientation, "gray", Interpolation.AREA)
        return orientation.picture(_plane(scaled, 0).copy())

    def _scaled(
        self,
        frame: VideoFrame,
        size: tuple[int, int],
        orientation: Orientation,
        kind: str,
        interpolation: Interpolation,
    ) -> VideoFrame:
        height, width = orientation.size(*size)
        contexts = self._local.__dict__
        context = contexts.get(kind)
        if context is None:
            context = contexts[kind] = VideoReformatter()
        # One thread: frames are scaled side by side, and swscale's own threads mostly wait.
        scaled: VideoFrame = context.reformat(frame, width, height, kind, interpolation=interpolation, threads=1)
        return scaled


def _plane(frame: VideoFrame, index: int) -> np.ndarray:
    """(height, width) view of one plane, without the padding at the end of its lines."""
    plane = frame.planes[index]
    return np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
