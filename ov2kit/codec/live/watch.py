"""LiveWatch: a source, read as it comes, with a clock for what does not come."""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType

from ov2kit.codec.live.group import LiveGroup
from ov2kit.codec.live.inputs import LiveSource, input_of
from ov2kit.codec.live.options import LiveOptions
from ov2kit.codec.live.progress import LiveProgress
from ov2kit.codec.live.reader import Fault, Reader
from ov2kit.codec.live.session import LiveSession
from ov2kit.codec.live.shedding import Shedding
from ov2kit.errors import VideoError, check_flag, check_number

_LONGEST_LOOK = 0.25  # seconds until `stop` is looked at again
_MOST_LAG = 10.0  # seconds that packets of a source may wait that cannot be held back
_REPORT_SECONDS = 5.0  # between two reports of what was left out


class LiveWatch(Iterator[LiveGroup]):
    """Iterator over the groups of a source. Leave it with `close`, or use it in `with`.

    Made by `LiveTokenizer.watch`, see there.

    Args:
        session: of the stream.
        options: of the stream.
        source: see `LiveTokenizer.watch`.
        reconnect: open a source again that has died.
        give_up_seconds: end when nothing has come for so long.
        max_lag_seconds: how long a packet may wait before groups are left out.
        max_source_pixels: most pixels of a picture.
        on_fault: called with what happened to the source, in words.

    Attributes:
        label: name of the source for messages.
        is_file: nothing is lost, and nobody held back, when groups are taken slowly.
    """

    def __init__(
        self,
        session: LiveSession,
        options: LiveOptions,
        source: LiveSource,
        *,
        reconnect: bool,
        give_up_seconds: float,
        max_lag_seconds: float | None,
        max_source_pixels: int,
        on_fault: Callable[[str], None] | None,
    ) -> None:
        check_flag("reconnect", reconnect)
        check_number("give_up_seconds", give_up_seconds, above=0)
        self._session, self._options, self._give_up, self._on_fault = session, options, give_up_seconds, on_fault
        if max_lag_seconds != math.inf:
            check_number("max_lag_seconds", max_lag_seconds, above=0, optional=True)
        found = input_of(source, give_up_seconds)
        if max_lag_seconds is None:
            max_lag_seconds = math.inf if found.can_wait else _MOST_LAG
        if found.ends_alone:
            self._give_up = math.inf
        self.label, self.is_file = found.label, found.ends_alone
        self._reader = Reader(
            found, reconnect=reconnect, timeout_seconds=give_up_seconds, max_source_pixels=max_source_pixels
        )
        session.on_leave = self._reader.release
        session.shedding = Shedding(max_lag_seconds, self._reader.is_full)
        self._reported_shed, self._reported_at = (0, 0.0), -math.inf
        self._stopped = threading.Event()
        self._groups = self._run()

    def __next__(self) -> LiveGroup:
        return next(self._groups)

    def __enter__(self) -> "LiveWatch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def progress(self) -> LiveProgress:
        """How far the stream has come."""
        return self._session.progress

    def stop(self) -> None:
        """End soon with what has been seen: the open group comes, then the loop ends. May be called from anywhere."""
        self._stopped.set()

    def close(self) -> None:
        """Leave the loop; the source is closed."""
        self._groups.close()
        self._session.leave()
        self._reader.close()

    def _run(self) -> Generator[LiveGroup, None, None]:
        delay = self._options.delay_seconds
        last = silent_since = time.monotonic()
        has_expired = is_silent = False
        fault: str | None = None
        died: float | None = None
        try:
            while not self._stopped.is_set():
                item = self._reader.get(min(_LONGEST_LOOK, max(0.01, last + self._give_up - time.monotonic())))
                now = time.monotonic()
                if isinstance(item, Fault):
                    fault = item.message
                    if item.is_final and self.progress.packets == 0:
                        break  # which is the error below
                    self._report(fault)
                    if item.is_final:
                        break
                    died = died or item.seconds
                    continue
                if item is not None:
                    gap = item.seconds - last if died is not None else 0.0
                    last = silent_since = item.seconds
                    has_expired, is_silent, died = False, False, None
                    yield from self._session.add(
                        item.packet, item.seconds, item.container, item.stream, self.label, gap_seconds=gap
                    )
                    self._report_shed(now, _REPORT_SECONDS)
                    continue
                if delay is not None and not has_expired and now - silent_since >= delay:
                    has_expired = True
                    yield from self._session.expire()
                if not is_silent and now - silent_since >= self._options.silence_seconds:
                    is_silent = True
                    yield from self._session.pause("silence")
                if now - last >= self._give_up:
                    self._report(f"nothing came for {self._give_up:g} s")
                    fault = fault or f"nothing came for {self._give_up:g} s"
                    break
            yield from self._session.pause("end")
            self._report_shed(time.monotonic(), 0.0)
            if self.progress.packets == 0 and fault is not None:
                raise VideoError(f"{self.label}: {fault.removeprefix(self.label + ': ')}")
        finally:
            self._reader.close(0.0)

    def _report_shed(self, now: float, every: float) -> None:
        """Say what was left out since the last time, seldom."""
        groups, seconds = self.progress.shed_groups, self.progress.shed_seconds
        if groups > self._reported_shed[0] and now - self._reported_at >= every:
            new, long = groups - self._reported_shed[0], seconds - self._reported_shed[1]
            self._report(f"{new} groups of {long:.1f} s are left out: they come faster than they can be tokenized")
            self._reported_shed, self._reported_at = (groups, seconds), now

    def _report(self, message: str) -> None:
        if self._on_fault is not None:
            self._on_fault(message)
