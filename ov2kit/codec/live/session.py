"""LiveSession: a stream from its first packet to its end, over however many containers it comes in."""

from collections.abc import Callable, Iterator

from av.container import InputContainer
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.group import LiveGroup, Reason
from ov2kit.codec.live.modules import Modules
from ov2kit.codec.live.progress import LiveProgress
from ov2kit.codec.live.run import LiveRun
from ov2kit.codec.live.shedding import Shedding
from ov2kit.codec.live.whole import WholeRun
from ov2kit.codec.scoring.estimated_bits import EstimatedBitsScorer
from ov2kit.codec.video.decode import prepare_decoder
from ov2kit.codec.video.source import AnyPacket
from ov2kit.errors import VideoError


class LiveSession:
    """Groups of a stream; frames, times and tokens are counted on when it goes on in another container.

    Args:
        modules: of the tokenizer.
        on_leave: called with each container once its stream is no longer needed.
        shedding: what is left out where the stream comes too fast.
    """

    def __init__(
        self,
        modules: Modules,
        on_leave: Callable[[InputContainer], None] = lambda container: None,
        shedding: Shedding = Shedding(),  # noqa: B008 - frozen
    ) -> None:
        self._modules, self.on_leave, self.shedding = modules, on_leave, shedding
        self._container: InputContainer | None = None
        self._run: LiveRun | WholeRun | None = None
        self._stream: AVStream | None = None
        self.progress = LiveProgress()

    def add(
        self,
        packet: AnyPacket,
        arrived: float,
        container: InputContainer,
        stream: AVStream,
        label: str,
        gap_seconds: float = 0.0,
    ) -> Iterator[LiveGroup]:
        """The next packet; groups that are complete with it.

        Args:
            packet: in decode order, one coded picture; belongs to the session from now on.
            arrived: on the clock of `time.monotonic`.
            container: of the packet.
            stream: of the packet. Where it is another one than that of the last packet, the open group ends.
            label: name of the source for messages.
            gap_seconds: from the last packet to this one, where the stream is another one.

        Raises:
            VideoError: the decoder is in use elsewhere, or the stream cannot be put in order as it comes.
        """
        if stream is not self._stream:
            yield from self.pause("reconnected")
            self._begin(container, stream, label, gap_seconds)
        assert self._run is not None
        yield from self._run.add(packet, arrived)

    def _begin(self, container: InputContainer, stream: AVStream, label: str, gap_seconds: float) -> None:
        context = stream.codec_context
        if context.is_open:
            raise VideoError(
                f"{label}: the decoder of this stream is in use; push its packets before any is decoded, and decode "
                "none of them elsewhere"
            )
        prepare_decoder(context, motion=True, quantizers=isinstance(self._modules.scorer, EstimatedBitsScorer))
        context.options = {**context.options, "max_pixels": str(self._modules.options.max_source_pixels)}
        begin = self.progress.seconds + (gap_seconds if self.progress.frames else 0.0)
        if self._modules.live.is_bounded:
            self._run = LiveRun(container, stream, label, self._modules, self.progress, begin, self.shedding)
        else:
            self._run = WholeRun(container, stream, label, self._modules, self.progress, begin)
        self._container, self._stream = container, stream

    def expire(self) -> Iterator[LiveGroup]:
        """Nothing came in for as long as the delay is."""
        if self._run is not None:
            yield from self._run.expire()

    def pause(self, reason: Reason) -> Iterator[LiveGroup]:
        """The source fell silent, or this stretch of it ended."""
        if self._run is not None:
            yield from self._run.pause(reason)
        if reason != "silence":
            self.leave()

    def leave(self) -> None:
        """Forget the stretch that is open."""
        container, self._run, self._stream, self._container = self._container, None, None, None
        if container is not None:
            self.on_leave(container)
