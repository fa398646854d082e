"""FramePass: one sequential pass over a stream, which gives the frames that were asked for."""

import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Protocol, TypeAlias

import numpy as np

from ov2kit.codec.video.decode_plan import DecodePlan, plan_decode
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.frame_maker import FrameMaker
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.references import DecodedFrame
from ov2kit.codec.video.source import OPEN_ERRORS, reason
from ov2kit.codec.video.spare_threads import SpareThreads
from ov2kit.errors import DamagedVideoWarning, VideoError

_MAX_FAILED_SHARE = 0.5


Emit: TypeAlias = "Callable[[DecodedFrame], Future[Frame] | Frame]"


class FrameDecoding(Protocol):
    """One run of a plan, such as `ov2kit.codec.video.decode.Decoding`."""

    losses: DecodeLosses

    def results(self) -> Generator[Frame, None, None]: ...


class FramePass:
    """Plan, decode, account.

    Args:
        label: name of the input for messages.
        table: of the stream.
        info: of the stream.
        wanted: (F,) bool over frames.
        request: what the frames carry.
        threads: decoders at work at the same time.
        on_losses: called with the losses once all frames have been given.
        decoding: of a plan: what to make of each picture, and what to call once a thread has no job left, are given.
        can_retry: the stream can be read a second time while it is read.
    """

    def __init__(
        self,
        label: str,
        table: PacketTable,
        info: StreamInfo,
        wanted: np.ndarray,
        request: FrameRequest,
        *,
        threads: int,
        on_losses: Callable[[StreamLosses], None],
        decoding: "Callable[[DecodePlan, Emit, Callable[[], None]], FrameDecoding]",
        can_retry: bool = True,
    ) -> None:
        self._decoding, self._can_retry = decoding, can_retry
        self._label, self._table, self._info = label, table, info
        self._wanted, self._request, self._threads = wanted, request, threads
        self._on_losses = on_losses
        self.losses: StreamLosses | None = None

    def frames(self) -> Generator[Frame, None, None]:
        """The frames, once.

        Raises:
            VideoError: not a single wanted frame could be decoded, or most packets failed.
        """
        plan = plan_decode(self._table, self._info, self._wanted, self._request, self._threads, self._can_retry)
        maker = FrameMaker(self._request, self._table, self._info)
        seen = 0
        with ExitStack() as closes:
            decoders = min(plan.threads, len(plan.jobs))
            spare = closes.enter_context(closing(SpareThreads(maker.frame, self._threads, decoders)))
            # To scale a whole picture is worth waking a thread for; luma at scoring size is not.
            emit = spare if self._request.rgb else maker.frame
            decoding = self._decoding(plan, emit, spare.add)
            try:
                for frame in closes.enter_context(closing(decoding.results())):
                    seen += 1
                    yield frame
            except OPEN_ERRORS as error:
                if isinstance(error, VideoError):
                    raise
                raise VideoError(f"{self._label}: reading stopped ({reason(error)})") from error
        self._account(decoding.losses, seen, plan)

    def _account(self, lost: DecodeLosses, seen: int, plan: DecodePlan) -> None:
        asked, label = int(self._wanted.sum()), self._label
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
        # Pictures that nobody wants may be passed over; they count like those that were decoded.
        known = plan.rank is not None
        packets = sum(stop - start for job in plan.jobs for start, stop in job.ranges) if known else 0
        if lost.failed_packets > _MAX_FAILED_SHARE * max(packets, lost.failed_packets + lost.decoded_frames):
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
