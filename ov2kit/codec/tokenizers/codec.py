"""CodecTokenizer: a video file -> codec canvases.

packets -> groups -> candidate frames -> decode -> scores -> chosen blocks -> canvases, group by
group, so that memory follows the budget and not the length of the video.
Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2), C(V) = (X, U, G).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ov2kit.canvases import Canvases
from ov2kit.codec.grouping import BitCostGrouping, ContainerGrouping, FixedGrouping, GroupTrace, ReadinessGrouping
from ov2kit.codec.grouping.energy import Cost
from ov2kit.codec.provenance.provenance import BitCostRecord, GroupRecord, Provenance
from ov2kit.codec.scoring.estimated_bits import EstimatedBitsScorer
from ov2kit.codec.scoring.external_maps import ExternalMapScorer, MapKind, ScoreMaps
from ov2kit.codec.scoring.saliency_scorer import Saliency, scorer_of
from ov2kit.codec.scoring.scorer import Motion, Scorer, describe_signal, luma_size
from ov2kit.codec.selection.blocks import SaliencyBlockSelector, TopKBlockSelector
from ov2kit.codec.selection.candidates import Anchor, Candidates, choose_anchor, uniform_off_keyframes
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.codec.selection.plan import GroupPlan, frame_spans, packet_columns, plan_groups, share_canvases
from ov2kit.codec.signals.macroblocks import Moved
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.tokenizers.budget import CanvasBudget, check_canvas_options, plan_budget
from ov2kit.codec.tokenizers.presets import PRESETS, GroupingName, Preset, Scores, Selection
from ov2kit.codec.tokenizers.provenance import StageClock, describe
from ov2kit.codec.tokenizers.threads import one_torch_thread
from ov2kit.codec.video.frame import Frame
from ov2kit.codec.video.source import MAX_SOURCE_PIXELS, VideoSource
from ov2kit.errors import OptionError, check_choice, check_number, check_order


@dataclass(frozen=True)
class _Scored:
    """A group with what was decoded of it."""

    plan: GroupPlan
    frames: list[Frame]
    scores: Tensor


class CodecTokenizer(nn.Module):
    """Turn a video into canvases of the blocks its codec spent its bits on.

    Args:
        budget_canvases: most canvases; 32 when no budget is given.
        budget_tokens: most merged tokens instead; the canvas shrinks so that the budget is used.
        preset: ``"paper"`` or ``"release"``; decides whatever option below is None.
        grouping: "bitcost", "readiness", "fixed", "container", or a module with their interface.
        selection: "stratified" (damped, by quantiles of time) or "topk".
        candidates: which frames are decoded: "bitcost", "uniform" or "all" (slow, and the whole
            group's pictures are held). Readiness grouping samples evenly whatever this says.
        candidates_per_canvas: frames decoded per canvas of the budget.
        canvases_per_group: I and P canvases of an ordinary group.
        anchor: which frame of a group is shown whole.
        patch: patch edge in pixels.
        merge: patches per block edge.
        block: merged tokens per edge of the blocks that are chosen; 1 chooses single tokens.
        min_pixels: smallest canvas area in pixels.
        max_pixels: largest canvas area in pixels.
        canvas_size: (height, width) in pixels instead.
        motion: "auto" (vectors of the stream, else luma difference), "stream" (the same), "estimate"
            (FFmpeg's motion search where the stream gives no vectors) or "none" (luma only).
        scores: "saliency" (motion and residual) or "bit-cost" (the bits of each macroblock, estimated
            by `BitCostMap`).
        saliency: module that scores blocks: a `MotionResidualSaliency`, a `ByteShareSaliency`, or a
            `RandomSaliency`, which chooses blocks at random, to compare with; by default the one of
            the preset. Passing one implies ``scores="saliency"``.
        map_kind: what external score maps hold, "bits" or "scores"; see `ExternalMapScorer`.
        rank_damping: lambda of the stratified selection.
        peak_weight: alpha of the stratified selection.
        bin_seconds: width of a bit-cost bin.
        min_seconds: shortest group, before the budget stretches it.
        max_seconds: longest group, before the budget stretches it.
        smooth_bins: radius of the moving average over bins.
        cost: "bytes" or "log1p" of the bytes per packet.
        threads: see `VideoStream`.
        max_source_pixels: see `VideoStream`.

    Raises:
        BudgetError: budgets that cannot be met.
        OptionError: an option is unknown, of a wrong type or out of range.

    Example:
        >>> canvases = CodecTokenizer(budget_canvases=8)("clip.mp4")
        >>> canvases.pixel_values().shape, canvases.flat_positions().shape
        (torch.Size([5760, 588]), torch.Size([5760, 3]))
    """

    def __init__(
        self,
        budget_canvases: int | None = None,
        *,
        budget_tokens: int | None = None,
        preset: Preset = "paper",
        grouping: GroupingName | nn.Module | None = None,
        selection: Selection | None = None,
        candidates: Candidates | None = None,
        candidates_per_canvas: int = 8,
        canvases_per_group: int = 4,
        anchor: Anchor = "first",
        patch: int = 14,
        merge: int = 2,
        block: int = 1,
        min_pixels: int = 3136,
        max_pixels: int = 150_000,
        canvas_size: tuple[int, int] | None = None,
        motion: Motion = "auto",
        scores: Scores | None = None,
        saliency: Saliency | None = None,
        map_kind: MapKind = "bits",
        rank_damping: float = 0.35,
        peak_weight: float = 0.35,
        bin_seconds: float = 0.5,
        min_seconds: float = 1.5,
        max_seconds: float = 6.0,
        smooth_bins: int = 1,
        cost: Cost = "bytes",
        threads: int | None = None,
        max_source_pixels: int = MAX_SOURCE_PIXELS,
    ) -> None:
        super().__init__()
        self._by_budget = ""
        choices = PRESETS[check_choice("preset", preset, PRESETS)]
        if grouping is not None and not isinstance(grouping, nn.Module):
            check_choice("grouping", grouping, get_args(GroupingName))
        if selection is not None:
            check_choice("selection", selection, get_args(Selection))
        if candidates is not None:
            check_choice("candidates", candidates, get_args(Candidates))
        check_number("candidates_per_canvas", candidates_per_canvas, low=1, integer=True)
        check_number("canvases_per_group", canvases_per_group, low=2, integer=True)  # I and P
        check_choice("anchor", anchor, get_args(Anchor))
        check_canvas_options(
            budget_canvases=budget_canvases, budget_tokens=budget_tokens, patch=patch, merge=merge, block=block,
            min_pixels=min_pixels, max_pixels=max_pixels, canvas_size=canvas_size, threads=threads,
        )  # fmt: skip
        check_number("rank_damping", rank_damping, low=0)
        check_number("peak_weight", peak_weight, low=0)
        for name, seconds in (("bin_seconds", bin_seconds), ("min_seconds", min_seconds), ("max_seconds", max_seconds)):
            check_number(name, seconds, above=0)
        check_order("min_seconds", min_seconds, "max_seconds", max_seconds)
        check_number("smooth_bins", smooth_bins, low=0, integer=True)
        check_choice("cost", cost, get_args(Cost))
        check_number("max_source_pixels", max_source_pixels, low=1, integer=True)
        if budget_canvases is None and budget_tokens is None:
            budget_canvases = 32
        self.budget_canvases, self.budget_tokens = budget_canvases, budget_tokens
        self.preset: Preset = preset
        self.selection: Selection = selection or choices["selection"]
        self.candidates: Candidates = candidates or choices["candidates"]
        self.candidates_per_canvas, self.canvases_per_group = candidates_per_canvas, canvases_per_group
        self.anchor: Anchor = anchor
        self.patch, self.merge, self.block = patch, merge, block
        self.min_pixels, self.max_pixels, self.canvas_size = min_pixels, max_pixels, canvas_size
        self.resize_rule = choices["resize_rule"]
        self.rank_damping, self.peak_weight = rank_damping, peak_weight
        self.bin_seconds, self.min_seconds, self.max_seconds = bin_seconds, min_seconds, max_seconds
        self.smooth_bins, self.cost = smooth_bins, cost
        self.threads, self.max_source_pixels = threads, max_source_pixels
        self.grouping = grouping if isinstance(grouping, nn.Module) else self._built(grouping or choices["grouping"])
        if scores is not None:
            check_choice("scores", scores, get_args(Scores))
        if saliency is not None and scores == "bit-cost":
            raise OptionError("scores='bit-cost' takes no saliency module; leave one of the two out")
        self.scores: Scores = scores or ("saliency" if saliency is not None else choices["scores"])
        self.motion: Motion = check_choice("motion", motion, get_args(Motion))
        self.map_kind: MapKind = check_choice("map_kind", map_kind, get_args(MapKind))
        self.scorer: Scorer
        if self.scores == "bit-cost":
            self.scorer = EstimatedBitsScorer(motion)
        else:
            self.scorer = scorer_of(choices["saliency"]() if saliency is None else saliency, motion)
        self.packer = CanvasPacker(patch, merge)

    def _built(self, name: GroupingName) -> nn.Module | None:
        """A grouping by name; None for those whose size follows from the budget of each video."""
        if name == "readiness":
            return ReadinessGrouping(canvases_per_group=self.canvases_per_group)
        if name == "container":
            return ContainerGrouping()
        self._by_budget = name
        return None

    def forward(
        self,
        video: VideoSource | VideoStream,
        score_maps: ScoreMaps | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Canvases:
        """Tokenize one video.

        Args:
            video: path, bytes, binary file object, or a `VideoStream`.
            score_maps: external map of each frame by display index (a mapping or a sequence), as
                (rows, cols) arrays of any grid over the picture as shown: bits per macroblock from
                a patched decoder, for example. Wins over every other signal. A frame without a map gives no
                blocks; there must be maps of enough frames to fill the canvases.
            progress: called with the number of frames decoded so far and the number to decode.

        Returns:
            Canvases within the budget, with provenance.

        Raises:
            VideoError: the input cannot be opened or decoded.
            BudgetError: the budget is too small for one canvas.
            OptionError: the score maps cover too few frames to fill the canvases.
        """
        clock = StageClock()
        with clock("packets"):
            stream = video if isinstance(video, VideoStream) else self._opened(video)
        budget = plan_budget(
            stream.info.display_size,
            budget_canvases=self.budget_canvases,
            budget_tokens=self.budget_tokens,
            side=self._side,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            rule=self.resize_rule,
            canvas_size=self.canvas_size,
        )
        run = _Run(self, stream, budget, score_maps, clock, progress)
        with one_torch_thread():
            images, positions, is_anchor = zip(*run.canvases(), strict=True)
        with clock("pack"):
            return Canvases(
                images=torch.cat(images),
                positions=torch.cat(positions),
                groups=torch.cat([torch.full((len(p),), g, dtype=torch.int32) for g, p in enumerate(positions)]),
                is_anchor=torch.cat(is_anchor),
                frame_times=run.times,
                patch=self.patch,
                merge=self.merge,
                signal=max(run.signals, key=lambda name: run.signals[name]) if run.signals else "none",
                fps=stream.fps,
                provenance=run.provenance().to_dict(),
            )

    def _opened(self, video: VideoSource) -> VideoStream:
        return VideoStream(video, threads=self.threads, max_source_pixels=self.max_source_pixels)

    @property
    def _side(self) -> int:
        """Edge of a chosen block in pixels."""
        return self.patch * self.merge * self.block

    def options(self) -> dict[str, Any]:
        """Constructor arguments as they took effect, for provenance."""
        names = (
            "budget_canvases", "budget_tokens", "selection", "candidates", "candidates_per_canvas",
            "canvases_per_group", "anchor", "patch", "merge", "block", "min_pixels", "max_pixels", "canvas_size",
            "resize_rule", "rank_damping", "peak_weight", "bin_seconds", "min_seconds", "max_seconds", "smooth_bins",
            "cost", "motion", "map_kind", "scores",
        )  # fmt: skip
        options = {name: getattr(self, name) for name in names}
        if isinstance(self.grouping, ReadinessGrouping):  # it samples evenly: it cannot know groups before scores
            options["candidates"] = "uniform"
        options["grouping"] = self._by_budget if self.grouping is None else repr(self.grouping)
        options["saliency"] = repr(getattr(self.scorer, "saliency", None)) if self.scores == "saliency" else "none"
        return options


class _Run:
    """One video on its way through the tokenizer."""

    def __init__(
        self,
        tokenizer: CodecTokenizer,
        stream: VideoStream,
        budget: CanvasBudget,
        score_maps: ScoreMaps | None,
        clock: StageClock,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.progress = progress or (lambda done, total: None)
        self.tokenizer, self.stream, self.budget = tokenizer, stream, budget
        self.clock = clock
        side = tokenizer._side
        self.grid = (budget.height // side, budget.width // side)
        self.scorer = tokenizer.scorer if score_maps is None else ExternalMapScorer(score_maps, tokenizer.map_kind)
        self.bits_from: Moved | None = None
        self.times: dict[int, float] = {}
        self.signals: Counter[str] = Counter()
        self.trace: GroupTrace | None = None
        self.groups: list[GroupRecord] = []

    def canvases(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images, positions and anchor flags of each group."""
        for scored in self._scored():
            with self.clock("select"):
                anchor, blocks, canvas, p_canvases = self._select(scored)
            with self.clock("pack"):
                packed = self._pack(scored, anchor, blocks, canvas, p_canvases)
            yield packed

    def _scored(self) -> Iterator[_Scored]:
        if isinstance(self.tokenizer.grouping, ReadinessGrouping):
            yield from self._group_by_scores(self.tokenizer.grouping)
            return
        with self.clock("group"):
            plans = self._plan()
        held = self._decoded_by_group(plans)
        if self.scorer.needs_whole_clip:
            everything = list(held)
            scores = self._score([frame for _, frames in everything for frame in frames], None)
            at = 0
            for plan, frames in everything:
                yield _Scored(plan, frames, scores[at : at + len(frames)])
                at += len(frames)
            return
        before: Frame | None = None
        for plan, frames in held:
            yield _Scored(plan, frames, self._score(frames, before))
            before = frames[-1]

    def _plan(self) -> list[GroupPlan]:
        """Groups and candidates from the packet table alone."""
        table, options = self.stream.packets, self.tokenizer
        most = max(1, self.budget.canvases // options.canvases_per_group)
        grouping = options.grouping
        if grouping is None and options._by_budget == "fixed":
            grouping = FixedGrouping(most)
        if grouping is None:
            grouping = BitCostGrouping(
                most, options.bin_seconds, options.min_seconds, options.max_seconds, options.smooth_bins, options.cost
            )
        if isinstance(grouping, BitCostGrouping):
            self.trace = grouping.explain(*packet_columns(table), max_groups=most)
            seconds = self.trace.seconds()
        else:
            seconds = grouping(*packet_columns(table), max_groups=most)
        plans = plan_groups(
            table,
            frame_spans(seconds, table.frame_seconds),
            self.budget.canvases,
            options.canvases_per_group,
            options.candidates_per_canvas,
            options.candidates,
            options.anchor,
            allowed=self.scorer.covered,
        )
        filled = sum(min(plan.canvases, len(plan.candidates)) for plan in plans)
        self._check_cover(np.arange(table.num_frames), filled, sum(plan.canvases for plan in plans))
        return plans

    def _check_cover(self, frames: np.ndarray, filled: int, wanted: int) -> None:
        """Refuse score maps of so few of the frames that canvases would be left out."""
        covered = len(self.scorer.covered(frames))
        if filled < wanted and covered < len(frames):
            raise OptionError(
                f"score_maps cover {covered} of {len(frames)} frames, which fills {filled} of {wanted} canvases; "
                "pass a map for every frame"
            )

    def _decoded(self, indices: np.ndarray) -> Iterator[Frame]:
        size = (self.budget.height, self.budget.width)
        request = self.scorer.request(self.stream.info, size, self.grid)
        if self.tokenizer.anchor == "sharpest" and request.luma_size is None:
            request = replace(request, luma_size=luma_size(size, self.grid))
        frames = self.stream.frames(indices.tolist(), **asdict(request))
        for done in range(1, len(indices) + 2):
            with self.clock("decode"):
                frame = next(frames, None)
            if frame is None:
                return
            self.progress(done, len(indices))
            yield frame

    def _decoded_by_group(self, plans: list[GroupPlan]) -> Iterator[tuple[GroupPlan, list[Frame]]]:
        todo = iter(plans)
        plan = next(todo)
        held: list[Frame] = []
        for frame in self._decoded(np.concatenate([p.candidates for p in plans])):
            while frame.index >= plan.stop:
                if held:  # a damaged file may have lost a whole group
                    yield plan, held
                plan, held = next(todo), []
            held.append(frame)
        if held:
            yield plan, held

    def _group_by_scores(self, grouping: ReadinessGrouping) -> Iterator[_Scored]:
        """Readiness: sample, decode and score first, then cut where enough was seen."""
        table, options = self.stream.packets, self.tokenizer
        count = max(1, self.budget.canvases * options.candidates_per_canvas)
        sampled = uniform_off_keyframes(table, count)
        covered = self.scorer.covered(sampled)
        if len(covered) == 0:
            raise OptionError(
                f"readiness grouping needs score_maps of the frames it samples, {count} evenly over the video; "
                f"none of them has one. Pass a map for every frame, or grouping='bitcost'"
            )
        most = min(self.budget.canvases, len(sampled))
        self._check_cover(sampled, min(most, len(covered)), most)
        frames = list(self._decoded(covered))
        indices = np.array([frame.index for frame in frames])
        scores = self._score(frames, None)
        with self.clock("group"):
            most = max(1, self.budget.canvases // options.canvases_per_group)
            seconds = grouping(*packet_columns(table, indices), block_scores=scores, max_groups=most)
            spans = frame_spans(seconds, table.frame_seconds[indices])
            nbytes = np.array([frame.nbytes for frame in frames])
            shares = share_canvases(
                self.budget.canvases,
                options.canvases_per_group,
                np.array([b - a for a, b in spans]),
                np.array([nbytes[a:b].sum() for a, b in spans]),
            )
        for (a, b), share in zip(spans, shares.tolist(), strict=True):
            anchor = choose_anchor(indices[a:b], table.display("is_entry")[indices[a:b]], options.anchor)
            plan = GroupPlan(int(indices[a]), int(indices[b - 1]) + 1, share, indices[a:b], anchor)
            yield _Scored(plan, frames[a:b], scores[a:b])

    def _score(self, frames: list[Frame], before: Frame | None) -> Tensor:
        with self.clock("score"):
            found = self.scorer.scores(frames, self.stream.info, self.grid, before=before, threads=self.stream.threads)
        self.signals[found.signal] += len(frames)
        self.bits_from = found.bits_from
        return found.values

    def _select(self, scored: _Scored) -> tuple[int, Tensor, Tensor, int]:
        """Anchor (place among the frames), chosen merge-blocks, their P-canvas, and how many there are."""
        options, frames = self.tokenizer, scored.frames
        indices = [frame.index for frame in frames]
        anchor = indices.index(scored.plan.anchor) if scored.plan.anchor in indices else 0
        if options.anchor == "sharpest":
            anchor = _sharpest(frames)
        p_canvases = min(scored.plan.canvases, len(frames)) - 1
        selector: nn.Module
        if options.selection == "topk":
            selector = TopKBlockSelector(p_canvases)
        else:
            selector = SaliencyBlockSelector(p_canvases, options.rank_damping, options.peak_weight)
        per_canvas = self.grid[0] * self.grid[1]
        blocks = selector(scored.scores, per_canvas, anchor=anchor)
        canvas = torch.arange(len(blocks)) // per_canvas
        return anchor, *_in_tokens(blocks, canvas, options.block), p_canvases

    def _pack(
        self, scored: _Scored, anchor: int, blocks: Tensor, canvas: Tensor, p_canvases: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        frames = scored.frames
        pixels = torch.stack([frame.rgb for frame in frames if frame.rgb is not None])
        indices = torch.tensor([frame.index for frame in frames])
        packed: tuple[Tensor, Tensor, Tensor] = self.tokenizer.packer(
            pixels, indices, anchor, blocks, canvas, p_canvases=p_canvases
        )
        used = {anchor, *blocks[:, 0].tolist()}
        self.times |= {frames[t].index: frames[t].seconds for t in sorted(used)}
        seconds = self.stream.packets.frame_seconds
        self.groups.append(
            GroupRecord(
                frames=(scored.plan.start, scored.plan.stop),
                seconds=(float(seconds[scored.plan.start]), float(seconds[scored.plan.stop - 1])),
                canvases=1 + p_canvases,
                anchor=frames[anchor].index,
                candidates=len(frames),
            )
        )
        return packed

    def provenance(self) -> Provenance:
        options = self.tokenizer
        trace = self.trace
        return describe(
            self.stream,
            preset=options.preset,
            signal=describe_signal(
                self.signals,
                options.motion,
                self.stream.info.exports_motion,
                self.bits_from,
            ),
            options=options.options(),
            clock=self.clock,
            groups=tuple(self.groups),
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


def _in_tokens(blocks: Tensor, canvas: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Blocks of size x size tokens -> single tokens, in (frame, row, col) order within each canvas."""
    if size == 1:
        return blocks, canvas
    inner = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    corner = torch.cat([blocks[:, :1], blocks[:, 1:] * size], dim=1)
    tokens = corner[:, None] + torch.cat([torch.zeros_like(inner[:, :1]), inner], dim=1)
    tokens, canvas = tokens.reshape(-1, 3), canvas.repeat_interleave(size * size)
    order = torch.arange(len(tokens))
    for key in (tokens[:, 2], tokens[:, 1], tokens[:, 0], canvas):
        order = order[torch.argsort(key[order], stable=True)]
    return tokens[order], canvas[order]


def _sharpest(frames: list[Frame]) -> int:
    """The frame whose luma has most fine detail: variance of the Laplacian, the earlier of equals."""
    luma = torch.stack([frame.luma for frame in frames if frame.luma is not None]).float()
    inner = luma[:, 1:-1, 1:-1]
    laplacian = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    return int(laplacian.flatten(1).var(dim=1).argmax())
