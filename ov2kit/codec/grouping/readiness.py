"""Grouping by readiness: a group closes once its best blocks hold enough and stop growing.

What the released front end runs by default. Source: the codec wheel of LLaVA-OneVision-2,
readiness groups. Letters: T sampled frames, hb x wb blocks per frame, G groups.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ov2kit.codec.grouping.energy import covered_span, sort_packets
from ov2kit.codec.grouping.interface import check_budget
from ov2kit.errors import OptionError, VideoError, check_choice, check_flag, check_number, check_order

ThresholdMode = Literal["legacy", "auto", "fixed", "clamped_sqrt_bpppf"]
_LEAST_FRAMES = 4
_BITS_PER_PIXEL_RANGE = (0.015, 0.09)


@dataclass(frozen=True)
class ReadyGroup:
    """One group in frames.

    Args:
        start: first frame, the anchor.
        end: one past the last frame.
        score: sum of the best block scores of the other frames, as many as fit the P-canvases.
        covered_bins: how many of the time bins those blocks fall in.
        reason: ``"ready"``, ``"low_gain"`` (ready and no longer growing), ``"max_frames"`` or
            ``"tail"`` (the frames ran out).
    """

    start: int
    end: int
    score: float
    covered_bins: int
    reason: Literal["ready", "low_gain", "max_frames", "tail"]


class ReadinessGrouping(nn.Module):
    """Extend a group frame by frame until its best blocks reach a threshold and cover its time.

    A group may end at any length from `min_frames` to `max_frames` at which the sum of its best
    block scores reaches the threshold and those blocks fall in enough of the time bins; it ends at
    the first such length whose relative gain over the length before is under `min_gain`, else at
    the last such length, else at `max_frames`.

    Args:
        min_frames: shortest group, but for the tail.
        max_frames: longest group.
        canvases_per_group: I and P; the best blocks are those that fill the P-canvases.
        window: frames per window of the mean that serves as threshold.
        coverage_bins: time bins; min(coverage_bins, P-canvases) of them must be covered. They divide the
            frames after the anchor as evenly as whole frames can be; where they are more than the
            frames, neighbors share a frame.
        min_gain: relative growth under which a ready group closes.
        threshold: sum of scores that makes a group ready; for ``"clamped_sqrt_bpppf"`` it is
            multiplied by the square root of the bits per pixel and frame within [0.015, 0.09].
        threshold_mode: ``"legacy"`` takes a positive `threshold`, else the mean of the sum over
            consecutive windows; ``"auto"`` always the mean; ``"fixed"`` always `threshold`.
        exact_release: drop a tail shorter than max(4, min_frames), as the release does without a
            word; otherwise it is kept as a group.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
    """

    def __init__(
        self,
        min_frames: int = 8,
        max_frames: int = 64,
        canvases_per_group: int = 4,
        window: int = 32,
        coverage_bins: int = 3,
        min_gain: float = 0.05,
        threshold: float | None = None,
        *,
        threshold_mode: ThresholdMode = "legacy",
        exact_release: bool = False,
    ) -> None:
        super().__init__()
        for name, frames in (("min_frames", min_frames), ("max_frames", max_frames), ("window", window)):
            check_number(name, frames, low=1, integer=True)
        check_order("min_frames", min_frames, "max_frames", max_frames)
        check_number("canvases_per_group", canvases_per_group, low=2, integer=True)
        check_number("coverage_bins", coverage_bins, low=1, integer=True)
        check_number("min_gain", min_gain)
        check_number("threshold", threshold, optional=True)
        check_choice("threshold_mode", threshold_mode, get_args(ThresholdMode))
        if threshold is None and threshold_mode in ("fixed", "clamped_sqrt_bpppf"):
            raise OptionError(f"threshold_mode {threshold_mode!r} needs a threshold")
        check_flag("exact_release", exact_release)
        self.min_frames, self.max_frames = min_frames, max_frames
        self.canvases_per_group, self.window = canvases_per_group, window
        self.coverage_bins, self.min_gain = coverage_bins, min_gain
        self.given_threshold, self.threshold_mode = threshold, threshold_mode
        self.exact_release = exact_release

    def extra_repr(self) -> str:
        return (
            f"min_frames={self.min_frames}, max_frames={self.max_frames}, "
            f"canvases_per_group={self.canvases_per_group}, window={self.window}, "
            f"coverage_bins={self.coverage_bins}, min_gain={self.min_gain}, threshold={self.given_threshold}, "
            f"threshold_mode={self.threshold_mode!r}, exact_release={self.exact_release}"
        )

    def forward(
        self,
        times: Tensor,
        nbytes: Tensor,
        is_key: Tensor,
        block_scores: Tensor | None = None,
        *,
        max_groups: int | None = None,
    ) -> Tensor:
        """Sampled frames with scores -> groups.

        Args:
            times: (T,) seconds of the sampled frames; frames and scores are sorted by them, and
                frames without a time are left out.
            nbytes: (T,) not used.
            is_key: (T,) not used.
            block_scores: (T, hb, wb) one score per block of each sampled frame.
            max_groups: the budget: `min_frames` and `max_frames` grow by the smallest factor
                (doubling, then halving) that gives no more groups.

        Returns:
            (G, 2) float64 [start, end) in seconds; where `exact_release` drops the tail the last
            group ends at the first frame left out.

        Raises:
            OptionError: `max_groups` is no whole number from 1 on.
            ValueError: no scores, or not one per frame.
            VideoError: no frame with a time.
        """
        check_budget(max_groups)
        if block_scores is None:
            raise ValueError(
                "ReadinessGrouping decides by the scores of the sampled frames: pass block_scores (T, hb, wb), "
                "or use BitCostGrouping, which needs packets only"
            )
        if block_scores.ndim != 3 or block_scores.shape[0] != len(times):
            raise ValueError(
                f"block_scores must be (T, hb, wb) with one frame per time; got {tuple(block_scores.shape)} "
                f"for {len(times)} times"
            )
        seconds, _, _ = sort_packets(times, nbytes, is_key)
        order = times.detach().to("cpu", torch.float64).sort(stable=True).indices  # NaN sorts last, -inf first
        order = order[times.detach().cpu()[order].isfinite()].to(block_scores.device)
        ranges = self.partition(block_scores[order], max_groups=max_groups).cpu()
        groups = torch.cat([seconds, seconds.new_tensor([covered_span(seconds)[1]])])[ranges]
        return groups[groups[:, 1] > groups[:, 0]].to(times.device)  # repeated times can leave a group without any

    def partition(
        self,
        block_scores: Tensor,
        *,
        bits_per_pixel: float | None = None,
        max_groups: int | None = None,
    ) -> Tensor:
        """(T, hb, wb) block scores -> (G, 2) long [start, end) in frames.

        Args:
            block_scores: any float dtype; the sums are made in float64 on the host.
            bits_per_pixel: bits per pixel and frame of the stream, for ``"clamped_sqrt_bpppf"``.
            max_groups: the budget, see `forward`.

        Raises:
            ValueError: wrong shape, or `bits_per_pixel` is missing where the threshold needs it.
            VideoError: no frame.
        """
        groups = self.trace(block_scores, bits_per_pixel=bits_per_pixel, max_groups=max_groups)
        ranges = [(group.start, group.end) for group in groups]
        return torch.tensor(ranges, dtype=torch.long, device=block_scores.device).reshape(-1, 2)

    def trace(
        self, block_scores: Tensor, *, bits_per_pixel: float | None = None, max_groups: int | None = None
    ) -> tuple[ReadyGroup, ...]:
        """As `partition`, with the score, coverage and reason of each group."""
        check_budget(max_groups)
        scores = _host_scores(block_scores)
        growth = _Growth(scores, (self.canvases_per_group - 1) * scores.shape[1], self.coverage_bins)
        threshold = self.threshold(block_scores, bits_per_pixel=bits_per_pixel)
        found = self._walk(growth, threshold, 1.0)
        if max_groups is None or len(found) <= max_groups:
            return found
        fails, fits = self.min_frames, 2 * self.min_frames
        while len(self._walk(growth, threshold, fits / self.min_frames)) > max_groups:
            fails, fits = fits, 2 * fits
        while fits - fails > 1:
            middle = (fits + fails) // 2
            if len(self._walk(growth, threshold, middle / self.min_frames)) > max_groups:
                fails = middle
            else:
                fits = middle
        return self._walk(growth, threshold, fits / self.min_frames)

    def threshold(self, block_scores: Tensor, *, bits_per_pixel: float | None = None) -> float:
        """The sum of scores that makes a group of these frames ready; units of `block_scores`."""
        given = self.given_threshold
        if self.threshold_mode == "clamped_sqrt_bpppf":
            if bits_per_pixel is None or given is None:
                raise ValueError("threshold_mode 'clamped_sqrt_bpppf' needs bits_per_pixel: bits per pixel and frame")
            low, high = _BITS_PER_PIXEL_RANGE
            return given * math.sqrt(min(max(bits_per_pixel, low), high))
        if given is not None and (self.threshold_mode == "fixed" or (self.threshold_mode == "legacy" and given > 0)):
            return given
        scores = _host_scores(block_scores)
        sums = []
        for start in range(0, len(scores), self.window):
            frames = scores[start : start + self.window]
            if len(frames) >= max(_LEAST_FRAMES, self.coverage_bins + 1):
                budget = (self.canvases_per_group - 1) * scores.shape[1]
                sums.append(float(frames[1:].flatten().topk(min(budget, frames[1:].numel())).values.sum()))
        return sum(sums) / len(sums) if sums else 0.0

    def _walk(self, growth: "_Growth", threshold: float, stretch: float) -> tuple[ReadyGroup, ...]:
        shortest, longest = round(self.min_frames * stretch), round(self.max_frames * stretch)
        groups = []
        start = 0
        while start < growth.count:
            left = growth.count - start
            if self.exact_release and left < max(_LEAST_FRAMES, shortest):
                break
            groups.append(self._grow(growth, start, shortest, longest, threshold))
            start = groups[-1].end
        return tuple(groups)

    def _grow(self, growth: "_Growth", start: int, shortest: int, longest: int, threshold: float) -> ReadyGroup:
        """The group that starts at `start`."""
        needed = min(self.coverage_bins, self.canvases_per_group - 1)
        last = min(start + longest, growth.count)
        ready: ReadyGroup | None = None
        before: float | None = None
        for end in range(start + max(2, shortest), last + 1):
            total = growth.total(start, end)
            if total >= threshold and (covered := growth.covered(start, end)) >= needed:
                ready = ReadyGroup(start, end, total, covered, "ready")
                if before is not None and total - before < self.min_gain * max(abs(before), 1e-12):
                    return ReadyGroup(start, end, total, covered, "low_gain")
            before = total
        if ready is not None:
            return ready
        reason: Literal["max_frames", "tail"] = "max_frames" if last < growth.count else "tail"
        return ReadyGroup(start, last, growth.total(start, last), growth.covered(start, last), reason)


class _Growth:
    """The best blocks of [start, end) but for its first frame, kept up to date frame by frame.

    A search walks over the same starts again and again; what was found of one is kept.

    Args:
        scores: (T, hb * wb) float64.
        most: blocks that are counted.
        bins: time bins.
    """

    def __init__(self, scores: Tensor, most: int, bins: int) -> None:
        # Ascending: a stable sort of two sorted halves is one merge.
        self._negated = scores.neg().sort(dim=1).values.numpy()
        self._most, self._bins = most, bins
        self.count = len(scores)
        self._found: dict[int, list[tuple[float, np.ndarray]]] = {}  # by start: sum, and the frame of each block
        self._best: dict[int, np.ndarray] = {}

    def total(self, start: int, end: int) -> float:
        """Sum of the best scores."""
        return self._at(start, end)[0]

    def covered(self, start: int, end: int) -> int:
        """How many time bins hold one of the best blocks."""
        return _covered_bins(self._at(start, end)[1], end - start, self._bins)

    def _at(self, start: int, end: int) -> tuple[float, np.ndarray]:
        found = self._found.setdefault(start, [(0.0, np.zeros(0, dtype=np.int32))])
        best = self._best.get(start, self._negated[0, :0])
        total, owner = found[-1]
        while len(found) < end - start:
            place = len(found)  # of the frame that is added, counted from the anchor
            added = self._negated[start + place]
            if len(best) == self._most:
                added = added[: added.searchsorted(best[-1])]  # of equal ones the earlier stay
            if len(added):
                joined = np.concatenate([best, added])
                order = joined.argsort(kind="stable")[: self._most]
                best = joined[order]
                owner = np.concatenate([owner, np.full(len(added), place, dtype=np.int32)])[order]
                total = 0.0 - float(torch.from_numpy(best).sum())
            found.append((total, owner))
        self._best[start] = best
        return found[end - start - 1]


def _covered_bins(frames: np.ndarray, length: int, bins: int) -> int:
    """How many time bins of a group hold one of the given frames.

    Args:
        frames: (N,) counted from the anchor, which is 0.
        length: frames of the group, the anchor included.
        bins: how many; their edges are whole frames, and one without width is one frame wide.
    """
    first, end = _bin_edges(length, bins)
    upto = np.bincount(frames + 1, minlength=length + 1).cumsum()
    return int((upto[end] > upto[first]).sum())


@lru_cache(4096)
def _bin_edges(length: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """First frame of each bin, and the one after its last; frames of the group only."""
    edges = np.linspace(1, max(2, length), bins + 1).astype(np.int64)
    first, end = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    return first.clip(max=length), end.clip(max=length)


def frame_limits(
    min_seconds: float, max_seconds: float, sample_fps: float, min_frames: int = 8, max_frames: int = 64
) -> tuple[int, int]:
    """(min_frames, max_frames) of the release from limits in seconds; 0 s keeps the limit in frames.

    Args:
        min_seconds: shortest group.
        max_seconds: longest group.
        sample_fps: sampled frames per second; 0 or less counts as 1.
        min_frames: used when `min_seconds` is 0; never under 4.
        max_frames: used when `max_seconds` is 0; never under the shortest.
    """
    rate = sample_fps if sample_fps > 0 else 1.0
    shortest = math.ceil(min_seconds * rate) if min_seconds > 0 else min_frames
    longest = math.ceil(max_seconds * rate) if max_seconds > 0 else max_frames
    shortest = max(_LEAST_FRAMES, shortest)
    return shortest, max(shortest, longest)


def _host_scores(block_scores: Tensor) -> Tensor:
    if block_scores.ndim != 3:
        raise ValueError(f"block_scores must be (T, hb, wb), got {tuple(block_scores.shape)}")
    if len(block_scores) == 0:
        raise VideoError("readiness grouping needs at least one sampled frame")
    return block_scores.detach().to("cpu", torch.float64).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).flatten(1)
