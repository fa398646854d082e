"""The second stage: decode the candidates of each group and score their blocks.

Groups come one by one, so that memory follows the budget and not the length of the video; only
scores that depend on the whole clip need all of it first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.grouping import ReadinessGrouping
from ov2kit.codec.scoring.scorer import BlockScores, luma_size
from ov2kit.codec.selection.plan import GroupPlan
from ov2kit.codec.tokenizers.groups import (
    Clip,
    Groups,
    grouping_for,
    groups_of_packets,
    groups_of_scores,
    sample_frames,
)
from ov2kit.codec.tokenizers.interface import Progress
from ov2kit.codec.tokenizers.provenance import StageClock, add_seconds
from ov2kit.codec.video.frame import Frame, StreamLosses
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.pictures import picture_bytes

# 640 x 360 in 4:2:0, with kernels 854 x 480 and more; larger ones take less time where decoding threads scale them
_MOST_BYTES_OF_PICTURE, _MOST_BYTES_COMPILED = 1 << 19, 1 << 20
_MOST_BYTES_OF_GROUP = 96 << 20


@dataclass(frozen=True)
class Decoded:
    """A group with the frames that could be decoded of it, at least one.

    `losses` are those of the clip, known with its last group and None before.
    """

    plan: GroupPlan
    frames: Sequence[Frame]
    losses: StreamLosses | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Scored:
    """A group with its frames and their block scores; `seconds` are those of decoding and scoring."""

    plan: GroupPlan
    frames: Sequence[Frame]
    scores: BlockScores
    losses: StreamLosses | None
    seconds: Mapping[str, float]


#: scores a group whose frames are decoded; in any thread, and in any order of the groups
Scoring: TypeAlias = Callable[[], Scored]


def scored_groups(clip: Clip, progress: Progress | None) -> tuple[Groups, Iterator[Scoring]]:
    """The groups of a clip, and for each of them, once its frames are decoded, the call that scores it.

    Args:
        clip: the video.
        progress: called with the number of frames decoded so far and the number to decode.

    Raises:
        OptionError: the scorer covers too few frames to fill the canvases.
        VideoError: no frame can be decoded.
    """
    grouping = grouping_for(clip)
    if isinstance(grouping, ReadinessGrouping):
        (decoded,) = _decoded(clip, [_whole(clip, sample_frames(clip))], progress)
        scored = _score(clip, decoded, None)
        groups = groups_of_scores(clip, grouping, decoded.frames, scored.scores.values)
        sizes = [len(plan.candidates) for plan in groups.plans]
        return _after(groups, scored), _cut(scored, groups.plans, sizes)
    groups = groups_of_packets(clip, grouping)
    if not clip.scorer.needs_whole_clip:
        return groups, scored_in_turn(clip, groups, progress)
    parts = list(_decoded(clip, groups.plans, progress))
    frames = [frame for part in parts for frame in part.frames]
    decoded = Decoded(parts[0].plan, frames, parts[-1].losses, add_seconds(*(part.seconds for part in parts)))
    scored = _score(clip, decoded, None)
    return _after(groups, scored), _cut(scored, [part.plan for part in parts], [len(part.frames) for part in parts])


def scored_in_turn(
    clip: Clip, groups: Groups, progress: Progress | None, before: Frame | None = None
) -> Iterator[Scoring]:
    """The call that scores a group, as soon as its frames are decoded; `before` is the last frame before them."""
    for decoded in _decoded(clip, groups.plans, progress):
        yield partial(_score, clip, decoded, before)
        before = decoded.frames[-1]


def _cut(whole: Scored, plans: Sequence[GroupPlan], sizes: Sequence[int]) -> Iterator[Scoring]:
    """Groups of so many frames each out of a clip that was scored at once."""
    at = 0
    for plan, size in zip(plans, sizes, strict=True):
        part = slice(at, at + size)
        scores = replace(whole.scores, values=whole.scores.values[part])
        yield partial(Scored, plan, whole.frames[part], scores, whole.losses, {})
        at += size


def _after(groups: Groups, whole: Scored) -> Groups:
    """Groups that had to wait for the scores of the whole clip."""
    return replace(groups, seconds=add_seconds(whole.seconds, groups.seconds))


def _whole(clip: Clip, candidates: np.ndarray) -> GroupPlan:
    """The clip as one group."""
    return GroupPlan(0, clip.stream.packets.num_frames, clip.budget.canvases, candidates, int(candidates[0]))


def frame_request(clip: Clip, plans: Sequence[GroupPlan]) -> FrameRequest:
    """What the frames of these groups must carry to be scored and shown."""
    request = _with_pictures(clip, clip.scorer.request(clip.stream.info, clip.size, clip.grid), plans)
    if clip.options.anchor == "sharpest" and request.luma_size is None:
        request = replace(request, luma_size=luma_size(clip.size, clip.grid))
    return request


def _decoded(clip: Clip, plans: Sequence[GroupPlan], progress: Progress | None) -> Iterator[Decoded]:
    """Each group as soon as its last candidate is decoded; one that is lost to damage is left out."""
    request = frame_request(clip, plans)
    indices = np.concatenate([plan.candidates for plan in plans])
    frames = clip.stream.requested(indices.tolist(), request)
    todo = iter(plans)
    plan, held, clock = next(todo), list[Frame](), StageClock()
    for done in range(1, len(indices) + 2):
        with clock("decode"):
            frame = next(frames, None)
        if frame is None:
            break
        if progress is not None:
            progress(done, len(indices))
        while frame.index >= plan.stop:
            if held:
                yield Decoded(plan, held, frames.losses, clock.seconds)
                clock = StageClock()
            plan, held = next(todo), []
        held.append(frame)
        if frame.index == plan.candidates[-1] and plan is not plans[-1]:  # losses are known after the last one
            yield Decoded(plan, held, frames.losses, clock.seconds)
            held, clock = [], StageClock()
    if held:
        yield Decoded(plan, held, frames.losses, clock.seconds)


def _with_pictures(clip: Clip, request: FrameRequest, plans: Sequence[GroupPlan]) -> FrameRequest:
    """Pictures kept as decoded where they are small, so that only those of which blocks are chosen are scaled.

    Large ones are scaled at once: by the threads that decode them, and to a fraction of their memory.
    """
    info = clip.stream.info
    each = picture_bytes(info.coded_size, info.pix_fmt)
    counts = [len(plan.candidates) for plan in plans]
    held = sum(counts) if clip.scorer.needs_whole_clip else max(counts)
    most = _MOST_BYTES_COMPILED if uses_kernels() else _MOST_BYTES_OF_PICTURE
    is_small = each <= most and held * each <= _MOST_BYTES_OF_GROUP
    return replace(request, rgb=not is_small, picture=is_small)


def _score(clip: Clip, decoded: Decoded, before: Frame | None) -> Scored:
    clock, stream = StageClock(), clip.stream
    with clock("score"):
        scores = clip.scorer.scores(decoded.frames, stream.info, clip.grid, before=before, threads=stream.threads)
    return Scored(decoded.plan, decoded.frames, scores, decoded.losses, add_seconds(decoded.seconds, clock.seconds))
