"""Decoded pictures to RGB and luma at a requested size, scaled by FFmpeg's swscale.

RGB is made as planes (gbrp): swscale then interpolates color in full and is off by rounding alone,
where its packed rgb24 is off by 1.6 gray levels on average and takes two to three times as long.
Scaling comes before turning, so a rotated phone clip costs no more than an upright one.
"""

import threading
from dataclasses import dataclass

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from ov2kit.codec.video.block_scaler import PROBE, Layout, chroma_center, draw_probe
from ov2kit.codec.video.orientation import Orientation

_RGB_PLANES = (2, 0, 1)  # where gbrp keeps red, green and blue
_LOCKS = 64


class PictureScaler:
    """Scale frames; may be called from several threads at a time.

    Each thread keeps its own scaling contexts: building one per frame costs as much as scaling. A picture is in the
    hands of one thread at a time: while PyAV scales it, its color tags are other ones (seen in PyAV 18.1), and the luma
    of a reference is often scaled while another thread makes RGB of the same picture.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    def layout(self, frame: VideoFrame) -> Layout | None:
        """See `Layout.of`."""
        with self._alone(frame):
            return Layout.of(frame)

    def rgb(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> np.ndarray:
        """(3, height, width) uint8 at `size` = (height, width) as shown."""
        # At its own size a picture goes through another converter, which leaves the last columns of a
        # width that is no multiple of 8 as they were in memory; accurate rounding avoids that one.
        same = orientation.size(*size) == (frame.height, frame.width)
        how = Interpolation.BILINEAR | Interpolation.ACCURATE_RND if same else Interpolation.BILINEAR
        scaled = self._scaled(frame, size, orientation, "gbrp", how)
        planes = np.empty((3, scaled.height, scaled.width), dtype=np.uint8)
        made = scaled.planes
        for channel, place in enumerate(_RGB_PLANES):
            planes[channel] = _pixels(made[place])
        return orientation.picture(planes)

    def chroma_center(self, frame: VideoFrame, layout: Layout) -> tuple[int, int] | None:
        """See `ov2kit.codec.video.block_scaler.chroma_center`."""
        as_coded = Orientation()
        probe = self._scaled(frame, (PROBE, PROBE), as_coded, layout.pix_fmt, Interpolation.POINT)
        draw_probe(probe, layout)
        made = self._scaled(probe, (2 * PROBE, 2 * PROBE), as_coded, "gbrp", Interpolation.BILINEAR, context="probe")
        return chroma_center(layout, b"".join(_pixels(made.planes[place]).tobytes() for place in _RGB_PLANES))

    def luma(self, frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> np.ndarray:
        """(height, width) uint8, the coded luma at full range, at `size` = (height, width) as shown.

        Area averaging keeps thin detail from flickering when a picture shrinks to a score map.
        """
        # One matrix on both sides: else swscale takes a picture in another (BT.709, say) through RGB to
        # the luma of BT.601, which is not the luma that was coded, and takes up to seven times as long.
        scaled = self._scaled(frame, size, orientation, "gray", Interpolation.AREA, Colorspace.ITU601)
        return orientation.picture(_pixels(scaled.planes[0]).copy())

    def _scaled(
        self,
        frame: VideoFrame,
        size: tuple[int, int],
        orientation: Orientation,
        kind: str,
        interpolation: Interpolation,
        matrix: Colorspace | None = None,
        context: str | None = None,
    ) -> VideoFrame:
        height, width = orientation.size(*size)
        contexts, name = self._local.__dict__, context or kind
        reformatter = contexts.get(name)
        if reformatter is None:
            reformatter = contexts[name] = VideoReformatter()
        # One thread: frames are scaled side by side, and swscale's own threads mostly wait.
        with self._alone(frame):
            scaled: VideoFrame = reformatter.reformat(
                frame, width, height, kind,
                interpolation=interpolation, threads=1, src_colorspace=matrix, dst_colorspace=matrix,
            )  # fmt: skip
        return scaled

    def _alone(self, frame: VideoFrame) -> threading.Lock:
        """Held by whoever scales a picture or reads its tags; few other pictures have the same one."""
        return self._locks[id(frame) // 64 % _LOCKS]


@dataclass(frozen=True)
class HeldPicture:
    """A decoded picture that is scaled when it is asked, and only then.

    Args:
        frame: as decoded.
        size: (height, width) in pixels as shown.
        orientation: from coded to shown.
        scaler: does the work.
    """

    frame: VideoFrame
    size: tuple[int, int]
    orientation: Orientation
    scaler: PictureScaler

    def rgb(self) -> Tensor:
        """(3, height, width) uint8; scaled by each call."""
        return torch.from_numpy(self.scaler.rgb(self.frame, self.size, self.orientation))


def picture_bytes(size: tuple[int, int], pix_fmt: str) -> int:
    """Memory of a decoded picture of (height, width)."""
    return size[0] * size[1] * av.VideoFormat(pix_fmt).padded_bits_per_pixel // 8


def _pixels(plane: VideoPlane) -> np.ndarray:
    """(height, width) uint8 view of a plane, without the padding at the end of its lines."""
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))
