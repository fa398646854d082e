"""WholeRun: a stretch of a stream that is kept until it ends: what a delay without bound means."""

import time
from collections.abc import Iterator

from av.container import InputContainer
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.group import LiveGroup, Reason
from ov2kit.codec.live.group_video import on_stream
from ov2kit.codec.live.held import HeldVideo
from ov2kit.codec.live.modules import Modules
from ov2kit.codec.live.progress import LiveProgress
from ov2kit.codec.tokenizers.chosen import choose
from ov2kit.codec.tokenizers.groups import Clip
from ov2kit.codec.tokenizers.join import join_groups
from ov2kit.codec.tokenizers.scored import scored_groups
from ov2kit.codec.tokenizers.threads import in_one_torch_thread
from ov2kit.codec.video.source import AnyPacket


class WholeRun:
    """All packets of a stretch, tokenized as a clip once it ends. As `LiveRun`, but nothing comes before the end.

    Args:
        container: of the stream, for what its header says.
        stream: whose decoder is prepared and has decoded nothing.
        label: name of the source for messages.
        modules: of the tokenizer; its budget is that of the stretch.
        progress: how far the stream has come; goes on here.
        begin_seconds: time of the first frame.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: AVStream,
        label: str,
        modules: Modules,
        progress: LiveProgress,
        begin_seconds: float,
    ) -> None:
        self._container, self._stream, self._label = container, stream, label
        self._modules, self._progress, self._begin = modules, progress, begin_seconds
        self._packets: list[AnyPacket] = []
        self._arrived = 0.0

    def add(self, packet: AnyPacket, arrived: float) -> Iterator[LiveGroup]:
        """The next packet; it is kept."""
        self._progress.packets += 1
        self._packets.append(packet)
        self._arrived = arrived
        yield from ()

    def expire(self) -> Iterator[LiveGroup]:
        """There is no bound to wait for."""
        yield from ()

    def pause(self, reason: Reason) -> Iterator[LiveGroup]:
        """Silence is waited for; else the stretch has ended, and all of its groups come.

        Raises:
            VideoError: it holds no picture that decodes.
        """
        if reason == "silence":
            return
        options, progress = self._modules.options, self._progress
        video = HeldVideo(self._container, self._stream, self._packets, self._label, options.max_source_pixels)
        clip = Clip(video, options, options.budget(video.info.display_size), self._modules.scorer)
        groups, scored = scored_groups(clip, None)
        seconds, first = video.packets.frame_seconds, progress.frames
        for number, one in enumerate(in_one_torch_thread(scoring() for scoring in scored)):
            chosen = choose(clip, self._modules.selector, self._modules.packer, one)
            canvases = join_groups(
                clip, groups, [chosen], groups.seconds if number == 0 else {}, first_group=progress.groups
            )
            start, stop = one.plan.start, one.plan.stop
            end = float(seconds[stop]) if stop < len(seconds) else video.packets.duration_seconds
            progress.groups += 1
            yield LiveGroup(
                canvases=on_stream(canvases, first, self._begin) if first else canvases,
                number=progress.groups - 1,
                start_seconds=self._begin + float(seconds[start]),
                end_seconds=self._begin + end,
                reason="end",
                spent=1.0,
                waited_seconds=max(0.0, video.packets.duration_seconds - end),
                latency_seconds=time.monotonic() - self._arrived,
            )
        progress.frames += video.packets.num_frames
        progress.seconds = self._begin + video.packets.duration_seconds
