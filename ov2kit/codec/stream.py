"""VideoStream: a video file as packets, and as frames with the motion the codec already found.

Everything a decoder needs to be told, and everything real and broken files do, stays behind this
class. Frames are known by their index in display order; times come from the time stamps.
"""

import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.signals.bit_cost import BitCostMap
from ov2kit.codec.signals.macroblocks import macroblock_luma_size
from ov2kit.codec.video.decode import DecodedFrame, DecodeLosses, decode_jobs
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.jobs import plan_jobs
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.pictures import PictureScaler
from ov2kit.codec.video.quantizer import quantizer_map
from ov2kit.codec.video.scan import scan
from ov2kit.codec.video.source import (
    MAX_SOURCE_PIXELS,
    OPEN_ERRORS,
    Source,
    VideoSource,
    reason,
)
from ov2kit.codec.video.vectors import motion_vectors
from ov2kit.errors import DamagedVideoWarning, VideoError, check_number

_KINDS = {1: "I", 2: "P", 3: "B"}
_MAX_FAILED_SHARE = 0.5
_LUMAS_KEPT = 16
_FRAMES_HELD = 90
_BYTES_HELD = 64 << 20


class VideoStream:
    """A video as packets and frames. Reading never seeks and never holds more than a few frames.

    Args:
        source: path, encoded bytes, or a binary file object.
        stream: index of the video stream; FFmpeg's best one (never a cover picture) by default.
        threads: decoders at work at the same time on different keyframe intervals; by default one
            per processor, at most 8. Results do not depend on it.
        max_source_pixels: most pixels of a picture as it is coded; larger ones are refused by their header.

    Raises:
        VideoError: the input is missing, empty, no video, or holds no picture that decodes.

    Example:
        >>> stream = VideoStream("clip.mp4")
        >>> stream.packets().display("nbytes")[:3].tolist()  # bytes per frame, nothing decoded
        [40776, 348, 697]
        >>> for frame in stream.frames([0, 10, 20], size=(280, 504), motion=True):
        ...     print(frame.index, tuple(frame.rgb.shape), frame.motion is not None)
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
        self._scan = scan(self._source, stream)

    @property
    def label(self) -> str:
        """Name of the input for messages."""
        return self._source.label

    @property
    def info(self) -> StreamInfo:
        return self._scan[1]

    @property
    def threads(self) -> int:
        """Decoders that work at the same time."""
        return self._threads

    @property
    def num_frames(self) -> int:
        return self.packets().num_frames

    @property
    def duration_seconds(self) -> float:
        return self.packets().duration_seconds

    @property
    def fps(self) -> float:
        return self.packets().fps

    @property
    def losses(self) -> StreamLosses:
        """What was lost up to the end of the last `frames` loop."""
        return self._losses

    def packets(self) -> PacketTable:
        """The packet table; read once, by demuxing only."""
        return self._scan[0]

    @cached_property
    def _scaler(self) -> PictureScaler:
        return PictureScaler()

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
    ) -> Iterator[Frame]:
        """Decode frames in display order, in one sequential pass.

        Only keyframe intervals that hold a wanted frame are decoded, and only up to the last one.
        In a damaged file the frames that cannot be decoded are left out and counted in `losses`.

        Args:
            indices: display indices to give; all frames when omitted. Order and repeats do not
                matter.
            size: (height, width) of `Frame.rgb` in pixels; the display size by default.
            rgb: whether to give RGB at all.
            luma_size: (height, width) of `Frame.luma`; no luma when omitted.
            reference: also give the luma of the frame it is compared with.
            motion: also give motion vectors, where the codec exports them.
            quantizer: also give the quantiser of each macroblock, where the codec tells it.
            as_coded: luma and reference are neither turned nor mirrored, and `luma_size` is of the
                picture as coded. RGB is always as shown.

        Raises:
            IndexError: an index is outside the video.
            VideoError: not a single wanted frame could be decoded, or most packets failed.
        """
        table, info = self._scan
        size = size or info.display_size
        wanted_frames = self._wanted(indices)
        count = int(wanted_frames.sum())
        if count == 0:
            return
        rank = table.frame_of_packet
        wanted = (rank >= 0) & wanted_frames[rank]
        lost = DecodeLosses()
        seen = 0
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="ov2kit-scale")

        # Pictures are scaled while they are still in the processor's cache: by a thread that no decoder
        # needs if there is one, else by the thread that decoded them. A backlog of full frames, and
        # waking a thread for each, cost more than they hide.
        jobs = plan_jobs(table, wanted)
        idle = threading.Semaphore(max(0, self._threads - len(jobs)))  # one more with each decoder that is done

        def emit(decoded: DecodedFrame) -> Future[Frame] | Frame | None:
            if not table.exact and (decoded.index >= table.num_frames or not wanted_frames[decoded.index]):
                return None
            if not idle.acquire(blocking=False):
                return picture(decoded)
            future = pool.submit(picture, decoded)
            future.add_done_callback(lambda _: idle.release())
            return future

        keep = threading.Lock()
        turn_of_luma = Orientation() if as_coded else info.orientation
        lumas: dict[int, tuple[Any, Tensor]] = {}  # of the last few: a candidate is often the next one's reference

        def luma_of(index: int, frame: Any) -> Tensor:
            assert luma_size is not None
            kept, found = lumas.get(index, (None, None))
            if found is None or kept is not frame:  # one that was decoded again is another picture
                found = torch.from_numpy(self._scaler.luma(frame, luma_size, turn_of_luma))
                with keep:
                    lumas[index] = (frame, found)
                    if len(lumas) > _LUMAS_KEPT:
                        del lumas[next(iter(lumas))]
            return found

        def picture(decoded: DecodedFrame) -> Frame:
            index, frame, before = decoded.index, decoded.picture, decoded.reference
            scaler, turn = self._scaler, info.orientation
            small = before is not None and reference and luma_size is not None
            return Frame(
                index=index,
                seconds=float(table.frame_seconds[index]),
                kind=_KINDS.get(frame.pict_type, "?"),  # type: ignore[arg-type]
                is_key=bool(frame.key_frame),
                nbytes=int(table.frame_bytes[index]),
                rgb=torch.from_numpy(scaler.rgb(frame, size, turn)) if rgb else None,
                luma=luma_of(index, frame) if luma_size else None,
                reference=luma_of(decoded.reference_index, before) if small else None,
                reference_index=decoded.reference_index,
                motion=motion_vectors(frame) if motion else None,
                coded_size=(frame.height, frame.width),
                corrupt=bool(frame.is_corrupt),
                quantizer=quantizer_map(frame) if quantizer else None,
            )

        decoded = decode_jobs(
            self._source,
            info.stream_index,
            jobs,
            wanted if table.exact else None,
            emit,
            rank=rank if table.exact else None,
            headers=table.headers.tolist(),
            hold=_held_frames(size if rgb else (0, 0), luma_size),
            motion=motion and info.exports_motion,
            threads=self._threads,
            losses=lost,
            frame_threads=1 if info.exports_motion or len(jobs) > 1 or table.is_corrupt.any() else self._threads,
            on_idle=idle.release,
            quantizers=quantizer and info.codec == "h264",
        )
        try:
            for frame in decoded:
                if frame is not None:
                    seen += 1
                    yield frame  # type: ignore[misc]
        except OPEN_ERRORS as error:
            if isinstance(error, VideoError):
                raise
            raise VideoError(f"{self.label}: reading stopped ({reason(error)})") from error
        finally:
            pool.shutdown(cancel_futures=True)
        self._account(lost, count - seen, count)

    def bit_cost_maps(
        self, frames: Iterable[int] | None = None, *, estimate: bool = True
    ) -> Iterator[tuple[int, Tensor]]:
        """Estimate the bits that each macroblock cost, in display order, a few frames at a time.

        A frame's map sums to the bits of its packet. docs/bitcost.md says how well it agrees with
        the bits really spent.

        Args:
            frames: display indices; all frames when omitted. Order and repeats do not matter.
            estimate: whether to search for motion where the codec gives no vectors; False takes the
                plain difference between frames: less exact, several times quicker.

        Yields:
            Frame index and (rows, cols) float32 bits on the 16-pixel grid of the coded picture (not
            turned); rows = ceil(height / 16), also for codecs with other blocks. In a stream that
            changes its size the grid stays that of the first picture.

        Raises:
            IndexError, VideoError: as `frames`.
        """
        info = self.info
        model = BitCostMap("vectors" if info.exports_motion else "estimated" if estimate else "difference")
        decoded = self.frames(
            frames, rgb=False, luma_size=macroblock_luma_size(info.coded_size),
            reference=True, motion=True, quantizer=True, as_coded=True,
        )  # fmt: skip
        return model.stream(decoded, info.coded_size)

    def _wanted(self, indices: Iterable[int] | None) -> np.ndarray:
        total = self.num_frames
        if indices is None:
            return np.ones(total, dtype=bool)
        chosen = np.array(sorted({int(i) for i in indices}), dtype=np.int64)
        if len(chosen) and (chosen[0] < 0 or chosen[-1] >= total):
            bad = chosen[0] if chosen[0] < 0 else chosen[-1]
            raise IndexError(f"{self.label}: frame {bad} is outside the video, which has frames 0..{total - 1}")
        wanted = np.zeros(total, dtype=bool)
        wanted[chosen] = True
        return wanted

    def _account(self, lost: DecodeLosses, missing: int, asked: int) -> None:
        table, info = self._scan
        cut = bool(len(table) and table.is_corrupt[-1])
        if info.header_seconds is not None and table.exact:
            cut = cut or table.duration_seconds < 0.95 * info.header_seconds - 1.0
        self._losses = StreamLosses(
            packets=len(table),
            discarded=int(table.is_discard.sum()),
            corrupt_packets=int(table.is_corrupt.sum()),
            failed_packets=lost.failed_packets,
            corrupt_frames=lost.corrupt_frames,
            missing_frames=missing,
            cut=cut,
        )
        if missing == asked:
            raise VideoError(
                f"{self.label}: none of {asked} frame(s) could be decoded ({self._losses}); the file is damaged "
                "or encrypted"
            )
        if lost.failed_packets > _MAX_FAILED_SHARE * (lost.failed_packets + lost.decoded_frames):
            raise VideoError(f"{self.label}: most packets cannot be decoded ({self._losses}); damaged or encrypted")
        if self._losses:
            warnings.warn(f"{self.label}: {self._losses}", DamagedVideoWarning, stacklevel=3)


def _held_frames(rgb: tuple[int, int], luma: tuple[int, int] | None) -> int:
    """Frames of a job that may be kept back until it is known to be sound."""
    nbytes = 3 * rgb[0] * rgb[1] + (2 * luma[0] * luma[1] if luma else 0)
    return max(2, min(_FRAMES_HELD, _BYTES_HELD // max(1, nbytes)))
