"""FramePass: one sequential pass over a stream, which gives the frames that were asked for."""

import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import numpy as np

from ov2kit.codec.video.decode import DecodedFrame, DecodeLosses, decode_jobs
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.frame_maker import FrameMaker
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.jobs import plan_jobs
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.source import OPEN_ERRORS, Source, reason
from ov2kit.codec.video.spare_threads import SpareThreads
from ov2kit.errors import DamagedVideoWarning, VideoError

_MAX_FAILED_SHARE = 0.5
_FRAMES_HELD = 90
_BYTES_HELD = 64 << 20


class FramePass:
    """Plan, decode, account.

    Args:
        source: where the packets come from.
        table: of the stream.
        info: of the stream.
        wanted: (F,) bool over frames.
        request: what the frames carry.
        threads: decoders at work at the same time.
        on_losses: called with the losses once all frames have been given.
    """

    def __init__(
        self,
        source: Source,
        table: PacketTable,
        info: StreamInfo,
        wanted: np.ndarray,
        request: FrameRequest,
        *,
        threads: int,
        on_losses: Callable[[StreamLosses], None],
    ) -> None:
        self._source, self._table, self._info = source, table, info
        self._wanted, self._request, self._threads = wanted, request, threads
        self._on_losses = on_losses
        self.losses: StreamLosses | None = None

    def frames(self) -> Generator[Frame, None, None]:
        """The frames, once.

        Raises:
            VideoError: not a single wanted frame could be decoded, or most packets failed.
        """
        table, info, request = self._table, self._info, self._request
        seen, lost = 0, DecodeLosses()
        if self._wanted.any():
            rank = table.frame_of_packet
            wanted = (rank >= 0) & self._wanted[rank]
            jobs = plan_jobs(table, wanted)
            spare = SpareThreads(FrameMaker(request, table, info).frame, self._threads, len(jobs))
            decoded = decode_jobs(
                self._source, info.stream_index, jobs, wanted if table.exact else None,
                spare if table.exact else lambda picture: spare(picture) if self._wants(picture) else None,
                rank=rank if table.exact else None,
                headers=table.headers.tolist(), hold=_frames_held(request, info), losses=lost,
                motion=request.motion and info.exports_motion, quantizers=request.quantizer and info.codec == "h264",
                threads=self._threads, frame_threads=self._frame_threads(len(jobs)), on_idle=spare.add,
            )  # fmt: skip
            try:
                for frame in decoded:
                    if frame is not None:
                        seen += 1
                        yield frame  # type: ignore[misc]
            except OPEN_ERRORS as error:
                if isinstance(error, VideoError):
                    raise
                raise VideoError(f"{self._source.label}: reading stopped ({reason(error)})") from error
            finally:
                spare.close()
        self._account(lost, seen)

    def _wants(self, decoded: DecodedFrame) -> bool:
        """Whether to give a picture whose index is known only from the order in which pictures come."""
        return decoded.index < self._table.num_frames and bool(self._wanted[decoded.index])

    def _frame_threads(self, jobs: int) -> int:
        """Threads inside a decoder: with more than one, vectors and concealed damage depend on chance."""
        alone = self._info.exports_motion or jobs > 1 or self._table.is_corrupt.any()
        return 1 if alone else self._threads

    def _account(self, lost: DecodeLosses, seen: int) -> None:
        asked, label = int(self._wanted.sum()), self._source.label
        losses = self.losses = replace(
            _losses_of_file(self._table, self._info),
            failed_packets=lost.failed_packets,
            corrupt_frames=lost.corrupt_frames,
            missing_frames=asked - seen,
        )
        if asked == 0:
            return
        self._on_losses(losses)
        if seen == 0:
            raise VideoError(
                f"{label}: none of {asked} frame(s) could be decoded ({losses}); the file is damaged or encrypted"
            )
        if lost.failed_packets > _MAX_FAILED_SHARE * (lost.failed_packets + lost.decoded_frames):
            raise VideoError(f"{label}: most packets cannot be decoded ({losses}); damaged or encrypted")
        if losses:
            warnings.warn(f"{label}: {losses}", DamagedVideoWarning, stacklevel=4)


class FrameLoop(Iterator[Frame]):
    """Iterator over frames, in display order. Decoding begins with the first one asked of it."""

    # The pass knows nothing of the loop: a loop that is left is gone at once, and its threads with it.
    def __init__(self, one_pass: FramePass) -> None:
        self._pass = one_pass
        self._frames = one_pass.frames()

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Leave the loop: its threads end, its file is closed."""
        self._frames.close()

    @property
    def losses(self) -> StreamLosses | None:
        """What this loop could not give; None until it has run to its end."""
        return self._pass.losses


def _losses_of_file(table: PacketTable, info: StreamInfo) -> StreamLosses:
    """What the packets alone show to be lost."""
    cut = bool(len(table) and table.is_corrupt[-1])
    if info.header_seconds is not None and table.exact:
        cut = cut or table.duration_seconds < 0.95 * info.header_seconds - 1.0
    return StreamLosses(
        packets=len(table),
        discarded=int(table.is_discard.sum()),
        corrupt_packets=int(table.is_corrupt.sum()),
        cut=cut,
    )


def _frames_held(request: FrameRequest, info: StreamInfo) -> int:
    """Frames of a job that may be kept back until it is known to be sound."""
    rgb = (request.size or info.display_size) if request.rgb else (0, 0)
    luma = request.luma_size or (0, 0)
    nbytes = 3 * rgb[0] * rgb[1] + 2 * luma[0] * luma[1]
    return max(2, min(_FRAMES_HELD, _BYTES_HELD // max(1, nbytes)))
