"""The first stage: from the packets of a clip, or from its scores, to groups with their share of the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from ov2kit.codec.grouping import BitCostGrouping, ContainerGrouping, FixedGrouping, GroupTrace, ReadinessGrouping
from ov2kit.codec.scoring.scorer import Scorer
from ov2kit.codec.selection.candidates import choose_anchor, uniform_off_keyframes
from ov2kit.codec.selection.plan import GroupPlan, frame_spans, packet_columns, plan_groups, share_canvases
from ov2kit.codec.selection.whole_frames import share_whole_frames
from ov2kit.codec.tokenizers.budget import CanvasBudget
from ov2kit.codec.tokenizers.interface import Video
from ov2kit.codec.tokenizers.options import CodecOptions
from ov2kit.codec.tokenizers.provenance import StageClock
from ov2kit.codec.video.frame import Frame
from ov2kit.errors import OptionError


@dataclass(frozen=True)
class Clip:
    """A video on its way through the stages, and what is to be made of it.

    Args:
        stream: the video.
        options: of the tokenizer.
        budget: canvases of this video.
        scorer: of blocks.
    """

    stream: Video
    options: CodecOptions
    budget: CanvasBudget
    scorer: Scorer

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a canvas in pixels."""
        return self.budget.height, self.budget.width

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of blocks on a canvas."""
        return self.budget.height // self.options.side, self.budget.width // self.options.side

    @property
    def most_groups(self) -> int:
        """Groups that the budget has canvases for."""
        return max(1, self.budget.canvases // self.options.canvases_per_group)


@dataclass(frozen=True)
class Groups:
    """All groups of a clip.

    Args:
        plans: one per group, in display order.
        trace: how bit-cost grouping found them; None for every other.
        seconds: wall seconds per stage.
    """

    plans: tuple[GroupPlan, ...]
    trace: GroupTrace | None
    seconds: Mapping[str, float]


def grouping_for(clip: Clip) -> nn.Module:
    """The grouping module of a clip: some follow from its budget."""
    options = clip.options
    if isinstance(options.grouping, nn.Module):
        return options.grouping
    if options.grouping == "readiness":
        return ReadinessGrouping(canvases_per_group=options.canvases_per_group)
    if options.grouping == "container":
        return ContainerGrouping()
    if options.grouping == "fixed":
        return FixedGrouping(clip.most_groups)
    return BitCostGrouping(
        clip.most_groups,
        options.bin_seconds,
        options.min_seconds,
        options.max_seconds,
        options.smooth_bins,
        options.cost,
    )


def groups_of_packets(clip: Clip, grouping: nn.Module) -> Groups:
    """Groups and their candidates from the packet table alone; nothing is decoded.

    Raises:
        OptionError: the scorer covers too few frames to fill the canvases.
    """
    clock, trace = StageClock(), None
    table, options = clip.stream.packets, clip.options
    with clock("group"):
        if isinstance(grouping, BitCostGrouping):
            trace = grouping.explain(*packet_columns(table), max_groups=clip.most_groups)
            seconds = trace.seconds()
        else:
            seconds = grouping(*packet_columns(table), max_groups=clip.most_groups)
        plans = plan_groups(
            table,
            frame_spans(seconds, table.frame_seconds),
            clip.budget.canvases,
            options.canvases_per_group,
            options.candidates_per_canvas,
            options.candidates,
            options.anchor,
            allowed=clip.scorer.covered,
            frame_share=options.frame_share,
        )
        filled = sum(min(plan.canvases, len(plan.candidates)) for plan in plans)
        _check_cover(clip, np.arange(table.num_frames), filled, sum(plan.canvases for plan in plans))
    return Groups(tuple(plans), trace, clock.seconds)


def sample_frames(clip: Clip) -> np.ndarray:
    """(n,) display indices, even over the clip, that groups are made of once they are scored.

    Raises:
        OptionError: the scorer covers too few of them to fill the canvases.
    """
    count = max(1, clip.budget.canvases * clip.options.candidates_per_canvas)
    sampled = uniform_off_keyframes(clip.stream.packets, count)
    covered = clip.scorer.covered(sampled)
    if len(covered) == 0:
        raise OptionError(
            f"readiness grouping needs score_maps of the frames it samples, {count} evenly over the video; "
            f"none of them has one. Pass a map for every frame, or grouping='bitcost'"
        )
    most = min(clip.budget.canvases, len(sampled))
    _check_cover(clip, sampled, min(most, len(covered)), most)
    return covered


def groups_of_scores(clip: Clip, grouping: nn.Module, frames: Sequence[Frame], scores: Tensor) -> Groups:
    """Cut sampled frames where enough was seen; all of them are candidates.

    Args:
        grouping: decides by scores.
        frames: as sampled, decoded.
        scores: (T, hb, wb) of these frames.
    """
    clock = StageClock()
    table, options = clip.stream.packets, clip.options
    indices = np.array([frame.index for frame in frames])
    with clock("group"):
        seconds = grouping(*packet_columns(table, indices), block_scores=scores, max_groups=clip.most_groups)
        spans = frame_spans(seconds, table.frame_seconds[indices])
        nbytes = np.array([frame.nbytes for frame in frames])
        shares = share_canvases(
            clip.budget.canvases,
            options.canvases_per_group,
            np.array([b - a for a, b in spans]),
            np.array([nbytes[a:b].sum() for a, b in spans]),
        )
        is_entry = table.display("is_entry")[indices]
        whole = share_whole_frames(shares, options.frame_share)
        plans = []
        for (a, b), share, frames_whole in zip(spans, shares.tolist(), whole.tolist(), strict=True):
            anchor = choose_anchor(indices[a:b], is_entry[a:b], options.anchor)
            plans.append(GroupPlan(int(indices[a]), int(indices[b - 1]) + 1, share, indices[a:b], anchor, frames_whole))
    return Groups(tuple(plans), None, clock.seconds)


def _check_cover(clip: Clip, frames: np.ndarray, filled: int, wanted: int) -> None:
    """Refuse scores of so few of the frames that canvases would be left out."""
    covered = len(clip.scorer.covered(frames))
    if filled < wanted and covered < len(frames):
        raise OptionError(
            f"score_maps cover {covered} of {len(frames)} frames, which fills {filled} of {wanted} canvases; "
            "pass a map for every frame"
        )
