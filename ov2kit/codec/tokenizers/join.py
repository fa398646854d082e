"""The last stage: the canvases of groups one after the other, with how they were made."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.provenance import BitCostRecord, GroupRecord, Provenance
from ov2kit.codec.scoring.scorer import describe_signal
from ov2kit.codec.tokenizers.chosen import Chosen
from ov2kit.codec.tokenizers.groups import Clip, Groups
from ov2kit.codec.tokenizers.provenance import StageClock, add_seconds, describe


def join_groups(
    clip: Clip, groups: Groups, chosen: Sequence[Chosen], before: Mapping[str, float], *, first_group: int = 0
) -> Canvases:
    """Groups one after the other, as `Canvases`.

    Args:
        clip: the video.
        groups: all of its groups.
        chosen: those that are joined, at least one.
        before: wall seconds per stage of what came before any of them.
        first_group: number of the first of them.
    """
    clock, numbers = StageClock(), range(first_group, first_group + len(chosen))
    with clock("pack"):
        images, positions, is_anchor = (
            torch.cat([getattr(each, name) for each in chosen]) for name in ("images", "positions", "is_anchor")
        )
        ids = [torch.full((len(each.images),), g, dtype=torch.int32) for g, each in zip(numbers, chosen, strict=True)]
    signals: Counter[str] = Counter()
    for each in chosen:
        signals[each.signal] += each.frames
    seconds = add_seconds(before, *(each.seconds for each in chosen), clock.seconds)
    return Canvases(
        images=images,
        positions=positions,
        groups=torch.cat(ids),
        is_anchor=is_anchor,
        frame_times={frame: time for each in chosen for frame, time in each.frame_times.items()},
        patch=clip.options.patch,
        merge=clip.options.merge,
        signal=max(signals, key=lambda name: signals[name]),
        fps=clip.stream.packets.fps,
        provenance=_provenance(clip, groups, chosen, signals, seconds).to_dict(),
    )


def _provenance(
    clip: Clip, groups: Groups, chosen: Sequence[Chosen], signals: Counter[str], seconds: Mapping[str, float]
) -> Provenance:
    exports_motion, trace = clip.stream.info.exports_motion, groups.trace
    return describe(
        clip.stream,
        preset=clip.options.preset,
        signal=describe_signal(signals, clip.options.motion, exports_motion, chosen[-1].bits_from),
        options=clip.options.described(),
        losses=chosen[-1].losses,
        seconds=seconds,
        groups=tuple(_record(each, clip.stream.packets.frame_seconds) for each in chosen),
        bit_cost=None
        if trace is None
        else BitCostRecord(
            bin_seconds=trace.bin_seconds,
            start_seconds=trace.start_seconds,
            stretch=trace.stretch,
            threshold=trace.threshold,
            energy=tuple(round(e, 1) for e in trace.energy.tolist()),
            triggers=tuple(trace.triggers),
            cuts=tuple(trace.cuts),
        ),
    )


def _record(chosen: Chosen, seconds: np.ndarray) -> GroupRecord:
    """A group in provenance."""
    start, stop = chosen.plan.start, chosen.plan.stop
    return GroupRecord(
        frames=(start, stop),
        seconds=(float(seconds[start]), float(seconds[stop - 1])),
        canvases=len(chosen.images),
        anchor=chosen.anchor,
        whole=None if chosen.whole == (chosen.anchor,) else chosen.whole,
        candidates=chosen.frames,
    )
