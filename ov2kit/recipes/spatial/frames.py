"""Frames of a video or a folder by number, few of them held at a time.

Letters: T frames, H x W pixels.
"""

import bisect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec import Frame, VideoStream
from ov2kit.errors import DataError, check_number

Picture = NDArray[np.uint8]
#: pictures per second that frames are taken at, and videos are written at
MIN_FPS, MAX_FPS = 0.01, 1000


class Frames(Protocol):
    """T pictures of one size, with times."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""

    @property
    def seconds(self) -> Sequence[float]:
        """Time of each picture from the start of the video."""

    def __len__(self) -> int:
        """T."""

    def __getitem__(self, number: int) -> Picture:
        """(H, W, 3) uint8 RGB; numbers from 0 to T - 1."""


class VideoFrames:
    """A video as frames at a constant rate, or as all the frames it has.

    At a rate, frame k is the last one shown before (k + 1/2) / fps, which is what FFmpeg's `fps` filter gives and the
    public evaluation sees. Reading in order decodes once; a step back decodes one stretch of `keep` frames.

    Args:
        video: path or open stream.
        fps: pictures per second, from 0.01 to 1000; all frames when None.
        keep: most pictures held.

    Raises:
        VideoError: no readable video.
    """

    def __init__(self, video: "str | Path | VideoStream", fps: float | None = 6.0, *, keep: int = 16) -> None:
        check_number("fps", fps, low=MIN_FPS, high=MAX_FPS, optional=True)
        check_number("keep", keep, low=1, integer=True)
        self._stream = video if isinstance(video, VideoStream) else VideoStream(video)
        shown = [float(at) for at in self._stream.packets.frame_seconds]
        if fps is None:
            self._source = list(range(len(shown)))
            self.seconds: Sequence[float] = shown
        else:
            count = max(1, round(self._stream.duration_seconds * fps))
            slots = [int(np.floor(at * fps + 0.5)) for at in shown]
            self._source = [max(0, bisect.bisect_right(slots, k) - 1) for k in range(count)]
            self.seconds = [k / fps for k in range(count)]
        self._keep = keep
        self._held: OrderedDict[int, Picture] = OrderedDict()
        self._next = 0
        # The loop itself, and no generator of ours around it: frames that are left are gone at once, with its threads.
        self._ahead: Iterator[Frame] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) as shown."""
        return self._stream.info.display_size

    @property
    def source_frames(self) -> Sequence[int]:
        """Display index in the video of each picture."""
        return self._source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> Picture:
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} is outside 0..{len(self) - 1}")
        wanted = self._source[number]
        if wanted not in self._held:
            last_read = next(reversed(self._held), -1)
            if self._ahead is None or not self._next <= wanted <= max(last_read, self._next) + 16 * self._keep:
                first = number if wanted >= self._next else max(0, number - self._keep + 1)
                self._restart(first)
            assert self._ahead is not None
            for frame in self._ahead:
                self._hold(frame)
                if frame.index >= wanted:
                    break
        if wanted not in self._held:  # lost in a damaged file: the nearest one before it, as a player would show
            before = [index for index in self._held if index < wanted] or list(self._held)
            if not before:
                raise DataError(f"{self._stream.label}: frame {wanted} could not be decoded")
            return self._held[max(before)]
        return self._held[wanted]

    def _hold(self, frame: Frame) -> None:
        assert frame.rgb is not None
        self._held[frame.index] = frame.rgb.permute(1, 2, 0).numpy()
        self._next = frame.index + 1
        while len(self._held) > self._keep:
            self._held.popitem(last=False)

    def _restart(self, first: int) -> None:
        wanted = sorted(set(self._source[first:]))
        self._held.clear()
        self._next = wanted[0]
        self._ahead = self._stream.frames(wanted)


class FolderFrames:
    """Pictures of a folder, as the public sets store a video; nothing is held.

    Args:
        paths: picture files in order.
        fps: of the pictures, for their times.

    Raises:
        DataError: no pictures, or one that is missing.
    """

    def __init__(self, paths: Sequence[Path], fps: float = 6.0) -> None:
        check_number("fps", fps, low=MIN_FPS, high=MAX_FPS)
        if not paths:
            raise DataError("a folder of frames needs at least one picture")
        if missing := [path for path in paths if not path.is_file()]:
            raise DataError(f"{missing[0]}: this frame is not there ({len(missing)} of {len(paths)} are missing)")
        self._paths = list(paths)
        self.seconds: Sequence[float] = [k / fps for k in range(len(paths))]
        self._size = self[0].shape[:2]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first picture."""
        return self._size[0], self._size[1]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> Picture:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self._paths[number]) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{self._paths[number]}: not a readable picture ({error})") from error
