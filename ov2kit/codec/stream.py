"""VideoStream: a video file as packets, and as frames with the motion the codec already found.

All that a decoder needs to know, and all that real and broken files do, stays behind this class.
Frames are known by their index in display order; times come from the time stamps.
"""

import os
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from types import TracebackType

import numpy as np
from torch import Tensor

from ov2kit.codec.signals.bit_cost import BitCostMap
from ov2kit.codec.signals.macroblock_inputs import macroblock_luma_size
from ov2kit.codec.video.decode import Decoding
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.frame_loop import FrameLoop, FramePass
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.scan import scan
from ov2kit.codec.video.source import MAX_SOURCE_PIXELS, Source, VideoSource
from ov2kit.errors import OptionError, check_number, deprecated


class VideoStream:
    """A video as packets and frames. Reading never seeks and never holds more than a few frames.

    Opening demuxes the whole stream once and decodes one picture, so that frames, times and bytes are
    known. A file whose packets do not say what they show (AVI with B-frames, repeated time stamps)
    is decoded once. Packets are kept in memory until the stream is closed, where they take 64 MiB or less and their
    bytes are all that a decoder is given; each loop reads others from the file again. Use it in `with` to release
    everything at a known moment.

    Args:
        source: path, encoded bytes, or a binary file object.
        stream: index of the video stream; FFmpeg's best one (never a cover picture) by default.
        threads: decoders at work at the same time on different keyframe intervals; by default one
            per processor, at most 8. With 1, whoever asks for a frame decodes it. Results do not depend on it.
        max_source_pixels: most pixels of a picture as it is coded; larger ones are refused by their header.

    Raises:
        VideoError: the input is missing, empty, no video, or holds no picture that decodes.

    Example:
        >>> with VideoStream("clip.mp4") as stream:
        ...     print(len(stream), stream.packets.display("nbytes")[:3].tolist())  # nothing decoded
        ...     print(tuple(stream.frame_at(2.5).rgb.shape))  # the picture on screen at 2.5 s
        ...     for frame in stream.frames([0, 10, 20], size=(280, 504), motion=True):
        ...         print(frame.index, tuple(frame.rgb.shape), frame.motion is not None)
        132 [40776, 348, 697]
        (3, 360, 640)
        0 (3, 280, 504) False
        10 (3, 280, 504) True
        20 (3, 280, 504) True
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        stream: int | None = None,
        threads: int | None = None,
        max_source_pixels: int = MAX_SOURCE_PIXELS,
    ) -> None:
        check_number("threads", threads, low=1, integer=True, optional=True)
        check_number("stream", stream, low=0, integer=True, optional=True)
        self._source = Source(source, max_source_pixels)
        self._threads = threads or min(8, os.cpu_count() or 1)
        self._losses = StreamLosses()
        self._loops: weakref.WeakSet[FrameLoop] = weakref.WeakSet()
        self._packets, self._info, self._kept = scan(self._source, stream)

    def __len__(self) -> int:
        """Number of shown frames."""
        return self._packets.num_frames

    def __enter__(self) -> "VideoStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the loops that are under way and release the input; packets and info stay, frames do not.

        A file object that was given stays open.
        """
        for loop in list(self._loops):
            loop.close()
        self._source.close()
        self._kept.release()

    @property
    def label(self) -> str:
        """Name of the input for messages."""
        return self._source.label

    @property
    def info(self) -> StreamInfo:
        """What is known of the stream as a whole."""
        return self._info

    @property
    def packets(self) -> PacketTable:
        """What the file says about each packet and frame; nothing is decoded for it."""
        return self._packets

    @property
    def threads(self) -> int:
        """Decoders that work at the same time."""
        return self._threads

    @property
    def num_frames(self) -> int:
        """Number of shown frames."""
        return self._packets.num_frames

    @property
    def duration_seconds(self) -> float:
        """From the first shown frame to the end of the last."""
        return self._packets.duration_seconds

    @property
    def fps(self) -> float:
        """Average frames per second over the whole stream."""
        return self._packets.fps

    @property
    def losses(self) -> StreamLosses:
        """What was lost in the last loop over frames that ran to its end; each loop has its own `losses`."""
        return self._losses

    def frames(
        self,
        indices: Iterable[int] | None = None,
        *,
        size: tuple[int, int] | None = None,
        rgb: bool = True,
        luma_size: tuple[int, int] | None = None,
        reference: bool = False,
        motion: bool = False,
        quantizer: bool = False,
        as_coded: bool = False,
        picture: bool = False,
    ) -> FrameLoop:
        """Decode frames in display order, in one sequential pass.

        Only keyframe intervals that hold a wanted frame are decoded, and only up to the last one.
        In a damaged file the frames that cannot be decoded are left out; the iterator counts them in
        its `losses` when it has come to its end.

        Args:
            indices: display indices to give; all frames when omitted. Order and repeats do not
                matter.
            size: (height, width) of `Frame.rgb` in pixels; the display size by default.
            rgb: whether to give RGB at all.
            luma_size: (height, width) of `Frame.luma`; no luma when omitted.
            reference: also give the luma of the frame it is compared with.
            motion: also give motion vectors, where the codec exports them.
            quantizer: also give the quantizer of each macroblock, where the codec reports it.
            as_coded: luma and reference are neither turned nor mirrored, and `luma_size` is of the
                picture as coded. RGB is always as shown.
            picture: also keep the picture as decoded, whose `rgb()` is then made when it is asked:
                for loops that look at few of their frames. Its memory is that of the source.

        Raises:
            IndexError: an index is outside the video.
            VideoError: not a single wanted frame could be decoded, or most packets failed.
        """
        return self.requested(
            indices, FrameRequest(size, rgb, luma_size, reference, motion, quantizer, as_coded, picture)
        )

    def requested(self, indices: Iterable[int] | None, request: FrameRequest) -> FrameLoop:
        """As `frames`, with what the frames carry as one value."""
        one_pass = FramePass(
            self._source.label, self._packets, self._info, self._wanted(indices), request,
            threads=self._threads, on_losses=self._keep_losses, can_retry=self._source.can_share,
            decoding=partial(Decoding, self._source, self._info.stream_index, self._kept),
        )  # fmt: skip
        loop = FrameLoop(one_pass)
        self._loops.add(loop)
        return loop

    def frame_at(self, seconds: float, *, size: tuple[int, int] | None = None) -> Frame:
        """The frame on screen at a time, with RGB.

        Args:
            seconds: from the first shown frame; at least 0 and below `duration_seconds`.
            size: (height, width) of `Frame.rgb` in pixels; the display size by default.

        Raises:
            OptionError: the time is outside the video.
            VideoError: that frame could not be decoded.
        """
        return next(self.frames([self._packets.index_at(seconds)], size=size))

    def bit_cost_maps(
        self, indices: Iterable[int] | None = None, *, estimate: bool = True, frames: Iterable[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Estimate the bits that each macroblock cost, in display order, a few frames at a time.

        A frame's map sums to the bits of its packet. docs/bitcost.md says how well it agrees with
        the bits really spent.

        Args:
            indices: display indices; all frames when omitted. Order and repeats do not matter.
            estimate: whether to search for motion where the codec gives no vectors; False takes the
                plain difference between frames: less exact, several times quicker.
            frames: the old name of `indices`.

        Yields:
            Frame index and (rows, cols) float32 bits on the 16-pixel grid of the coded picture (not
            turned); rows = ceil(height / 16), also for codecs with other blocks. In a stream that
            changes its size the grid stays that of the first picture.

        Raises:
            IndexError, VideoError: as `frames`.
        """
        if frames is not None:
            deprecated("VideoStream.bit_cost_maps(frames=...)", "bit_cost_maps(indices=...)", "0.2")
            if indices is not None:
                raise OptionError("indices and frames are the same; give indices alone")
            indices = frames
        info = self._info
        model = BitCostMap("vectors" if info.exports_motion else "estimated" if estimate else "difference")
        decoded = self.frames(
            indices, rgb=False, luma_size=macroblock_luma_size(info.coded_size),
            reference=True, motion=True, quantizer=True, as_coded=True,
        )  # fmt: skip
        return model.stream(decoded, info.coded_size)

    def _wanted(self, indices: Iterable[int] | None) -> np.ndarray:
        """(F,) bool over frames."""
        total = len(self)
        if indices is None:
            return np.ones(total, dtype=bool)
        chosen = np.array(sorted({int(i) for i in indices}), dtype=np.int64)
        if len(chosen) and (chosen[0] < 0 or chosen[-1] >= total):
            bad = chosen[0] if chosen[0] < 0 else chosen[-1]
            raise IndexError(f"{self.label}: frame {bad} is outside the video, which has frames 0..{total - 1}")
        wanted = np.zeros(total, dtype=bool)
        wanted[chosen] = True
        return wanted

    def _keep_losses(self, losses: StreamLosses) -> None:
        self._losses = losses
