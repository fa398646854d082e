"""LiveRun: one stretch of a stream that one decoder reads, packet by packet, group by group.

packets -> clock -> cuts -> the stages of `CodecTokenizer` on the frames of a group. What is held is
the open group and what the delay waits for, however long the stream is.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.closing import Closing, Ending, OpenGroup
from ov2kit.codec.live.group import LiveGroup, Reason
from ov2kit.codec.live.group_decode import GroupDecode, LiveDecoder
from ov2kit.codec.live.group_video import GroupVideo, MadeFrames, on_stream
from ov2kit.codec.live.intake import Intake
from ov2kit.codec.live.modules import Cuts, Modules
from ov2kit.codec.live.progress import LiveProgress
from ov2kit.codec.live.rate import TokenRate, canvases_of_group
from ov2kit.codec.live.shedding import Shedding
from ov2kit.codec.live.window import HeldPacket, Window
from ov2kit.codec.selection.plan import plan_groups
from ov2kit.codec.tokenizers.budget import CanvasBudget
from ov2kit.codec.tokenizers.chosen import choose
from ov2kit.codec.tokenizers.groups import Clip, Groups
from ov2kit.codec.tokenizers.join import join_groups
from ov2kit.codec.tokenizers.scored import frame_request, scored_in_turn
from ov2kit.codec.tokenizers.threads import one_torch_thread
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.frame_maker import FrameMaker
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.references import References
from ov2kit.codec.video.scan import stream_info
from ov2kit.codec.video.source import AnyPacket


class LiveRun:
    """Groups of one stretch of a stream.

    Args:
        container: of the stream, for what its header says.
        stream: whose decoder is prepared and has decoded nothing.
        label: name of the source for messages.
        modules: of the tokenizer, with its options.
        progress: how far the stream has come; goes on here.
        begin_seconds: time of the first frame.
        shedding: what is left out where the stream comes too fast.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: AVStream,
        label: str,
        modules: Modules,
        progress: LiveProgress,
        begin_seconds: float,
        shedding: Shedding,
    ) -> None:
        self._container, self._stream, self._label = container, stream, label
        self._modules, self._progress, self._begin = modules, progress, begin_seconds
        self._decoder = LiveDecoder(stream.codec_context)
        self._intake = Intake(stream, self._decoder, begin_seconds, modules.live.max_gap_seconds, label)
        self._window = Window(self._intake.frame_seconds)
        self._references = References(np.zeros(0, dtype=bool), self._decoder.lost)
        self._counted_from = progress.frames  # what the references count frames from
        self._info: StreamInfo | None = None
        self._cuts: Cuts | None = None
        self._closings: deque[Closing] = deque()
        self._open: OpenGroup | None = None
        self._closed_seconds = begin_seconds  # a picture before this comes too late
        self._new_headers = -1  # number of the packet that brought them
        self._newest = begin_seconds  # decoding time of the last packet
        self._is_paused = False
        self._shedding = shedding
        self._arrived = -math.inf  # the last packet
        self._shed_seconds = 0.0  # since the last group

    def add(self, packet: AnyPacket, arrived: float) -> Iterator[LiveGroup]:
        """The next packet; groups that are complete with it.

        Args:
            packet: of the stream; belongs to the run from now on.
            arrived: on the clock of `time.monotonic`.

        Raises:
            VideoError: the stream cannot be put in order as it comes.
            BudgetError: the burst has no room for two canvases.
        """
        self._progress.packets += 1
        self._arrived = arrived
        found = list(self._intake(packet, arrived))
        if found and self._cuts is None:
            self._begin_with([item for item, _, _ in found])
        for item, jump, has_new_headers in found:
            self._take(item, jump, has_new_headers)
            yield from self._give()

    def expire(self) -> Iterator[LiveGroup]:
        """Nothing has come in for as long as the delay is: a cut that is due is made with what is there."""
        if self._cuts is not None:
            self._close(self._cuts.decide())
        yield from self._give(force=True)

    def pause(self, reason: Reason) -> Iterator[LiveGroup]:
        """The source fell silent, or ended: the open group ends. After silence packets may come again."""
        if self._cuts is not None and not self._is_paused:
            # After silence a picture may still come that is shown before one that is there.
            known = self._newest + 1e-6
            self._end(reason, known, known if reason == "silence" else math.inf)
            self._is_paused = True
        yield from self._give(force=True, drain=reason != "silence")

    def _begin_with(self, items: list[HeldPacket]) -> None:
        """The first picture is there: what the stream is, and what may be spent on it."""
        first = Window(self._intake.frame_seconds)
        for item in items:
            if item.begins > 0 and item.seconds < self._begin - 1e-9:  # shown before a picture that decodes
                item.begins = item.nbytes = 0
            first.add(item)
        picture = self._decoder.picture
        self._info = stream_info(self._container, self._stream, first.table(), picture)
        size = self._budget(1)
        if self._progress.rate is None:
            self._progress.rate = self._modules.rate(size.tokens_per_canvas)
        self._cuts = self._modules.cuts(size.tokens_per_canvas, self._begin, self._may_cut)

    def _budget(self, canvases: int) -> CanvasBudget:
        assert self._info is not None
        return replace(self._modules.options.budget(self._info.display_size), canvases=canvases)

    @property
    def _rate(self) -> TokenRate:
        assert self._progress.rate is not None
        return self._progress.rate

    def _may_cut(self, seconds: float) -> bool:
        return self._rate.level(seconds) >= 2 * self._budget(1).tokens_per_canvas

    def _take(self, item: HeldPacket, jump: float, has_new_headers: bool) -> None:
        """One packet on the clock: ends of groups that it shows, then the packet itself."""
        cuts = self._cuts
        assert cuts is not None
        start = item.seconds if item.begins > 0 else max(item.dts, self._newest)
        if jump:
            self._progress.jumps += 1
            self._end("jump", start)
        elif item.dts - self._newest > cuts.longest_seconds:
            self._end("gap", start)
        elif has_new_headers and self._window.pictures:
            self._end("headers", start)
        elif self._is_paused:
            self._close(cuts.close(start))
        self._is_paused = False
        self._new_headers = item.number if has_new_headers else self._new_headers
        self._close(cuts.until(item.dts))
        if item.begins > 0 and item.seconds < self._closed_seconds - 1e-9:
            self._progress.late_packets += 1
            item.begins = item.nbytes = 0
        cuts.add(item)
        self._newest = max(self._newest, item.dts)
        self._window.add(item)
        if item.begins > 0:
            self._progress.seconds = max(self._progress.seconds, item.seconds + self._intake.frame_seconds)

    def _end(self, reason: Reason, start_seconds: float, end_seconds: float = math.inf) -> None:
        """End the open group with what is there, or with what is shown before its end; the next begins at a time."""
        assert self._cuts is not None
        self._close(self._cuts.close(start_seconds), reason, end_seconds)
        self._closed_seconds = max(self._closed_seconds, start_seconds)

    def _close(self, endings: Iterable[Ending], reason: Reason | None = None, end_seconds: float = math.inf) -> None:
        """Groups that end at a time; with a reason, one more that ends with what is there."""
        there, share = self._progress.frames + self._window.pictures, 0.0
        for ending in endings:
            if ending.seconds == math.inf:
                share = ending.share
            else:
                self._closings.append(Closing(ending.seconds, there, ending.reason, ending.share))
                self._closed_seconds = max(self._closed_seconds, ending.seconds)
        if reason is not None:
            self._closings.append(Closing(end_seconds, there, reason, share))

    def _give(self, *, force: bool = False, drain: bool = False) -> Iterator[LiveGroup]:
        """Groups whose frames are all there.

        Args:
            force: make do with those that are there.
            drain: the decoder gives what it holds back; it takes nothing more after that.
        """
        while self._open is not None or self._closings:
            if self._open is None and not self._start(force):
                return
            if self._open is None:
                continue
            if not self._open.decode.advance(force=force, drain=drain and not self._closings):
                return
            group = self._finish(self._open)
            self._open = None
            if group is not None:
                yield group

    def _start(self, force: bool) -> bool:
        """Plan the next group that ends; whether there is more to do now."""
        closing, window, progress = self._closings[0], self._window, self._progress
        stop = closing.frames - progress.frames
        if closing.end_seconds != math.inf:
            stop = window.frames_before(closing.end_seconds)
        if stop <= 0:
            self._closings.popleft()
            return True
        table = window.table()
        if not self._look(table.order[0], force):
            return False
        self._closings.popleft()
        begin = window.start_seconds
        end = min(closing.end_seconds, begin + float(table.frame_seconds[stop - 1]) + table.frame_duration)
        lag = 0.0 if force else self._shedding.lag(self._arrived)
        if self._shedding.leaves_out(lag):
            self._shed(table, stop)
            return True
        size, options = self._budget(1), self._modules.options
        level = self._rate.level(end)
        if level + 1e-6 < size.tokens_per_canvas:
            progress.skipped_groups += 1
            self._forget(table, stop)
            return True
        share = canvases_of_group(
            level, self._rate, size.tokens_per_canvas, options.canvases_per_group, closing.share, end - begin
        )
        candidates = self._shedding.candidates(options.candidates_per_canvas, lag)
        progress.thinned_groups += candidates < options.candidates_per_canvas
        (plan,) = plan_groups(
            table, [(0, stop)], share, share, candidates, options.candidates, options.anchor,
            allowed=self._modules.scorer.covered, frame_share=options.frame_share,
        )  # fmt: skip
        self._rate.take(plan.canvases * size.tokens_per_canvas, end)
        assert self._info is not None
        video = GroupVideo(self._label, self._info, table)
        clip = Clip(video, options, replace(size, canvases=share), self._modules.scorer)
        wanted = np.zeros(table.num_frames, dtype=bool)
        wanted[plan.candidates] = True
        self._references.move(wanted, progress.frames - self._counted_from)
        self._counted_from = progress.frames
        maker = FrameMaker(frame_request(clip, [plan]), table, self._info)
        decode = GroupDecode(self._decoder, window, table, plan.candidates, stop, maker, self._references)
        arrived = max(i.arrived for i, frame in zip(window, table.frame_of_packet, strict=False) if frame < stop)
        self._open = OpenGroup(clip, video, plan, decode, begin, end, arrived, closing)
        return True

    def _look(self, first: int, force: bool) -> bool:
        """Follow a change of the picture's size; False if the picture that shows it is still to come."""
        info, decoder = self._info, self._decoder
        assert info is not None
        items = list(self._window)
        if 0 <= self._new_headers <= items[first].number:
            for item in items:
                if any(number >= self._new_headers for number, _ in decoder.carried):
                    break
                decoder.feed(item)
            if not force and not any(number >= self._new_headers for number, _ in decoder.carried):
                return False
            self._new_headers = -1
        picture = decoder.picture
        if picture is not None and (picture.height, picture.width) != info.coded_size:
            self._info = stream_info(self._container, self._stream, self._window.table(), picture)
            assert self._cuts is not None
            ordinary = self._modules.seconds_per_group(self._budget(1).tokens_per_canvas)
            self._cuts.seconds_per_group = ordinary
        return True

    def _finish(self, group: OpenGroup) -> LiveGroup | None:
        """Score, select and pack; None where not a single frame could be decoded."""
        progress, lost, plan, clip = self._progress, self._decoder.lost, group.plan, group.clip
        frames = group.decode.frames
        failed, lost.failed_packets = lost.failed_packets, 0
        corrupt, lost.corrupt_frames = lost.corrupt_frames, 0
        progress.failed_packets += failed
        table, begin = group.video.packets, progress.frames
        before = progress.before
        if before is not None and frames and _shape(before) == _shape(frames[0]):
            before = replace(before, index=before.index - begin)
        else:  # pictures of another size
            before = None
        self._forget(table, plan.stop)
        if not frames:
            return None
        losses = StreamLosses(
            packets=len(table), failed_packets=failed, corrupt_frames=corrupt,
            missing_frames=len(plan.candidates) - len(frames),
        )  # fmt: skip
        group.video.made = MadeFrames(frames, losses)
        groups = Groups((plan,), None, {})
        with one_torch_thread():
            (scoring,) = scored_in_turn(clip, groups, None, before)
            chosen = choose(clip, self._modules.selector, self._modules.packer, scoring())
            canvases = join_groups(clip, groups, [chosen], {}, first_group=progress.groups)
        progress.before = replace(frames[-1], index=frames[-1].index + begin, rgb=None, motion=None, picture=None)
        progress.groups += 1
        shed, self._shed_seconds = self._shed_seconds, 0.0
        return LiveGroup(
            canvases=on_stream(canvases, begin, group.begin_seconds),
            number=progress.groups - 1,
            start_seconds=group.begin_seconds,
            end_seconds=group.end_seconds,
            reason=group.closing.reason,
            spent=group.closing.share,
            waited_seconds=max(0.0, self._newest - group.end_seconds),
            latency_seconds=time.monotonic() - group.arrived,
            shed_seconds=shed,
        )

    def _shed(self, table: PacketTable, stop: int) -> None:
        """Leave the next group out, and what has to be decoded for its frames alone."""
        progress, times = self._progress, table.frame_seconds
        seconds = float(times[stop] if stop < len(times) else times[-1] + table.frame_duration) - float(times[0])
        progress.shed_groups += 1
        progress.shed_seconds += seconds
        self._shed_seconds += seconds
        self._forget(table, stop)
        if self._new_headers < 0 and self._window.skip_to_entry():
            self._decoder.restart()
            self._references = References(np.zeros(0, dtype=bool), self._decoder.lost)
            self._counted_from = progress.frames
            progress.before = None

    def _forget(self, table: PacketTable, stop: int) -> None:
        self._window.forget(table, stop)
        self._progress.frames += stop


def _shape(frame: Frame) -> object:
    return None if frame.luma is None else frame.luma.shape
