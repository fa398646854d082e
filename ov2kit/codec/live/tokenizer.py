"""LiveTokenizer: a stream that has not ended -> the canvases of each group as soon as it closes."""

import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.group import LiveGroup
from ov2kit.codec.live.inputs import LiveSource
from ov2kit.codec.live.modules import Modules
from ov2kit.codec.live.options import LiveOptions, check_causal
from ov2kit.codec.live.progress import LiveProgress
from ov2kit.codec.live.pushed_bytes import PushedBytes
from ov2kit.codec.live.scales import causal_scorer
from ov2kit.codec.live.session import LiveSession
from ov2kit.codec.live.watch import LiveWatch
from ov2kit.codec.tokenizers.codec import CodecTokenizer
from ov2kit.codec.video.source import AnyPacket, packets_of_pictures
from ov2kit.errors import OptionError, VideoError, check_type


class LiveTokenizer:
    """Tokenize a stream group by group, with bounded delay and memory.

    Everything that `CodecTokenizer` decides with a whole clip at hand is decided from what has been seen: the
    quota of a group comes from a running mean of the bit cost, a cut looks ahead only as far as the delay
    allows, scales of saliency are those of the group or a running mean, and a rate of tokens takes the place
    of the budget. See docs/live.md for what that costs. One instance follows one stream at a time.

    Args:
        tokenizer: whose options, saliency and selection are used; ``grouping`` is "bitcost", "container" or "fixed"
            unless the delay is unbounded. Its number of canvases counts only then.
        delay_seconds: how much of what comes after a group may be waited for. With None the stream is
            kept until it ends, and the canvases are those that `tokenizer` makes of the whole clip.
        tokens_per_second: mean rate of merged tokens, padding included; never exceeded but for the burst.
        burst_tokens: what may be saved up for busy times; by default two ordinary groups, or 16 seconds.
        silence_seconds: when nothing comes in for so long, the open group ends.
        max_gap_seconds: a longer step ahead of the time stamps is a jump of the clock, not a gap.
        half_life_seconds: of the running mean of the bit cost.

    Raises:
        OptionError: an option is of a wrong type or out of range, or looks at a whole clip.

    Example:
        >>> live = LiveTokenizer(CodecTokenizer(max_pixels=50_000), delay_seconds=1.0)
        >>> groups = live.push(open("clip.mp4", "rb").read()) + live.finish()
        >>> last = groups[-1]
        >>> last.reason
        'end'
    """

    def __init__(
        self,
        tokenizer: CodecTokenizer | None = None,
        *,
        delay_seconds: float | None = 2.0,
        tokens_per_second: float = 90.0,
        burst_tokens: float | None = None,
        silence_seconds: float = 5.0,
        max_gap_seconds: float = 60.0,
        half_life_seconds: float = 60.0,
    ) -> None:
        check_type("tokenizer", tokenizer, CodecTokenizer, "a CodecTokenizer", optional=True)
        self.tokenizer = CodecTokenizer() if tokenizer is None else tokenizer
        self.settings = LiveOptions(
            delay_seconds=delay_seconds, tokens_per_second=tokens_per_second, burst_tokens=burst_tokens,
            silence_seconds=silence_seconds, max_gap_seconds=max_gap_seconds, half_life_seconds=half_life_seconds,
        )  # fmt: skip
        if self.settings.is_bounded:
            check_causal(self.tokenizer.settings)
            causal_scorer(self.tokenizer.scorer)
        self._session: LiveSession | None = None
        self._bytes: PushedBytes | None = None
        self._pushed_stream: AVStream | None = None
        self._split: Any = None

    @property
    def progress(self) -> LiveProgress:
        """How far the stream of `push` has come."""
        return LiveProgress() if self._session is None else self._session.progress

    def _new_session(self) -> LiveSession:
        tokenizer = self.tokenizer
        bounded = self.settings.is_bounded
        scorer = causal_scorer(tokenizer.scorer) if bounded else tokenizer.scorer
        modules = Modules(tokenizer.settings, self.settings, scorer, tokenizer.selector, tokenizer.packer)
        return LiveSession(modules)

    def watch(
        self,
        source: LiveSource,
        *,
        reconnect: bool = True,
        give_up_seconds: float = 30.0,
        max_lag_seconds: float | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> LiveWatch:
        """Groups of a source as it comes; a stream of its own, beside the one of `push`.

        Args:
            source: an address (``rtsp://``, ``udp://``, ``tcp://``, ``http://`` and others that FFmpeg knows), the
                path of a named pipe, of a file that may still grow, "-" for standard input, or an object with `read`.
            reconnect: open a network address or a named pipe again when it has died; what is missing between is a gap
                of that many seconds.
            give_up_seconds: the stream has ended when nothing has come for so long, of the network or of a file.
            max_lag_seconds: packets of a source that comes faster than it is tokenized wait no longer: whole groups are
                left out, and before that candidates. Infinity holds the source back instead. By default 10 for
                sources that cannot be held back (``rtsp``, ``rtp``, ``udp``, ``srt``, ``rtmp``), infinity for others.
            on_fault: called with what happened to the source, in words: it ended, cannot be opened, sent nothing, came
                too fast.

        Returns:
            An iterator. It ends with the stream, or with its `stop`; `VideoError` if not a single packet came.

        Raises:
            VideoError: the source is of no kind that can be read.
            OptionError: an option is of a wrong type or out of range.

        Example:
            >>> with LiveTokenizer(delay_seconds=0.5).watch("clip.mp4", give_up_seconds=0.1) as groups:
            ...     print(sum(len(group.canvases) for group in groups) > 0)
            True
        """
        return LiveWatch(
            self._new_session(), self.settings, source, reconnect=reconnect, give_up_seconds=give_up_seconds,
            max_lag_seconds=max_lag_seconds,
            max_source_pixels=self.tokenizer.settings.max_source_pixels, on_fault=on_fault,
        )  # fmt: skip

    def push(self, data: "bytes | Packet[Any]") -> list[LiveGroup]:
        """The next part of the stream.

        Args:
            data: bytes of a container that can be read as it comes (MPEG-TS, Matroska, FLV, fragmented MP4,
                raw streams, MP4 with its index in front), cut anywhere; or a video packet of PyAV in decode
                order, which belongs to this tokenizer from now on and must not be decoded elsewhere.

        Returns:
            Groups that are complete with it. What they are does not depend on how bytes are cut.

        Raises:
            VideoError: the bytes are no video, or the stream cannot be put in order as it comes.
            OptionError: neither bytes nor a video packet, or both in turn.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            return self._push_bytes(bytes(data))
        if not isinstance(data, Packet) or not isinstance(data.stream, AVStream):
            raise OptionError(f"push takes bytes or a video packet of PyAV, got {type(data).__name__}")
        if self._bytes is not None:
            raise OptionError("this stream came as bytes so far; call finish() before packets")
        if data.size == 0 and data.pts is None and data.dts is None:
            return []  # a demuxer's way to say that it is done
        groups: list[LiveGroup] = []
        if data.stream is not self._pushed_stream:
            groups += self._flush_split()
            self._pushed_stream = data.stream
            self._split = packets_of_pictures(data.stream)
        return groups + self._add(self._split(data))

    def _push_bytes(self, data: bytes) -> list[LiveGroup]:
        if self._pushed_stream is not None:
            raise OptionError("this stream came as packets so far; call finish() before bytes")
        if self._bytes is None:
            self._bytes = PushedBytes(self.tokenizer.settings.max_source_pixels)
        try:
            return self._add(self._bytes.push(data))
        except VideoError:
            self._leave()
            raise

    def finish(self) -> list[LiveGroup]:
        """The stream has ended: the last groups. The next `push` begins another stream.

        Raises:
            VideoError: what was pushed is no video.
        """
        groups = self._flush_split()
        try:
            if self._bytes is not None:
                groups += self._add(self._bytes.finish())
            if self._session is not None:
                groups += self._session.pause("end")
        finally:
            self._leave()
        return groups

    def _leave(self) -> None:
        """Forget the stream."""
        if self._bytes is not None:
            self._bytes.close()
        self._session = self._bytes = self._pushed_stream = self._split = None

    def expire(self) -> list[LiveGroup]:
        """Call it when nothing has come for `delay_seconds`: a group that is due ends with what is there."""
        return [] if self._session is None else list(self._session.expire())

    def pause(self) -> list[LiveGroup]:
        """Call it when nothing has come for `silence_seconds`: the open group ends. More may be pushed."""
        return [] if self._session is None else list(self._session.pause("silence"))

    def _flush_split(self) -> list[LiveGroup]:
        return [] if self._split is None else self._add(self._split(None))

    def _add(self, packets: "list[AnyPacket] | Iterator[AnyPacket]") -> list[LiveGroup]:
        groups: list[LiveGroup] = []
        for packet in packets:
            arrived = time.monotonic()
            if self._session is None:
                self._session = self._new_session()
            if self._bytes is not None:
                container, stream, label = self._bytes.container, self._bytes.stream, self._bytes.label
            else:
                stream, label = self._pushed_stream, "<pushed packets>"
                container = None if stream is None else cast(InputContainer, stream.container)
            assert container is not None
            assert stream is not None
            groups += self._session.add(packet, arrived, container, stream, label)
        return groups
