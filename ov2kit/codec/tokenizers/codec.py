"""CodecTokenizer: a video file -> codec canvases.

packets -> groups -> candidate frames -> decode -> scores -> chosen blocks -> canvases, group by
group, so that memory follows the budget and not the length of the video.
Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2), C(V) = (X, U, G).
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ov2kit.canvases import Canvases
from ov2kit.codec.grouping.energy import Cost
from ov2kit.codec.scoring.estimated_bits import EstimatedBitsScorer
from ov2kit.codec.scoring.external_maps import ExternalMapScorer, MapKind, ScoreMaps
from ov2kit.codec.scoring.saliency_scorer import Saliency, scorer_of
from ov2kit.codec.scoring.scorer import Motion, Scorer
from ov2kit.codec.selection.blocks import SaliencyBlockSelector, TopKBlockSelector
from ov2kit.codec.selection.candidates import Anchor, Candidates
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.tokenizers.chosen import Chosen, choose
from ov2kit.codec.tokenizers.groups import Clip, Groups
from ov2kit.codec.tokenizers.interface import Progress
from ov2kit.codec.tokenizers.join import join_groups
from ov2kit.codec.tokenizers.options import CodecOptions, Setting
from ov2kit.codec.tokenizers.presets import PRESETS, GroupingName, Preset, Scores, Selection
from ov2kit.codec.tokenizers.provenance import StageClock, add_seconds
from ov2kit.codec.tokenizers.scored import Scoring, scored_groups
from ov2kit.codec.tokenizers.side_by_side import side_by_side
from ov2kit.codec.tokenizers.threads import in_one_torch_thread, one_torch_thread
from ov2kit.codec.video.source import MAX_SOURCE_PIXELS, VideoSource
from ov2kit.errors import check_choice


class CodecTokenizer(nn.Module):
    """Turn a video into canvases of the blocks its codec spent its bits on.

    Args:
        budget_canvases: most canvases; 32 when no budget is given.
        budget_tokens: most merged tokens instead; the canvas shrinks so that the budget is used.
        preset: ``"paper"``, ``"release"`` or ``"event"``; decides whatever option below is None.
        grouping: "bitcost", "readiness", "fixed", "container", or a module with their interface.
        selection: "stratified" (damped, by quantiles of time) or "topk".
        candidates: which frames are decoded: "bitcost", "uniform" or "all" (slow, and the whole
            group's pictures are held). Readiness grouping samples evenly whatever this says.
        candidates_per_canvas: frames decoded per canvas of the budget.
        canvases_per_group: I and P canvases of an ordinary group.
        frame_share: share of the canvases that hold whole frames, up to 1, at least one in each group: at moments of
            the group at equal steps from its anchor. By default one in each group, the anchor.
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
        saliency: module that scores blocks: a `MotionResidualSaliency`, a `ByteShareSaliency`, an
            `EventSaliency` (which uses no vectors, whatever `motion` says), a `QuerySaliency`, which knows what is
            asked about, or a `RandomSaliency`, which chooses blocks at random, to compare with; by default the one of
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

    preset = Setting[Preset]()
    budget_canvases = Setting[int | None]()
    budget_tokens = Setting[int | None]()
    canvases_per_group = Setting[int]()
    frame_share = Setting[float | None]()
    patch = Setting[int]()
    merge = Setting[int]()
    block = Setting[int]()
    min_pixels = Setting[int]()
    max_pixels = Setting[int]()
    canvas_size = Setting[tuple[int, int] | None]()
    scores = Setting[Scores]()

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
        frame_share: float | None = None,
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
        choices = PRESETS[check_choice("preset", preset, PRESETS)]
        if scores is None:
            scores = choices["scores"] if saliency is None else "saliency"
        if saliency is None and scores == "saliency":
            saliency = choices["saliency"]()
        if budget_canvases is None and budget_tokens is None:
            budget_canvases = 32
        self.settings = CodecOptions(
            preset=preset,
            budget_canvases=budget_canvases,
            budget_tokens=budget_tokens,
            grouping=choices["grouping"] if grouping is None else grouping,
            selection=choices["selection"] if selection is None else selection,
            candidates=choices["candidates"] if candidates is None else candidates,
            candidates_per_canvas=candidates_per_canvas,
            canvases_per_group=canvases_per_group,
            frame_share=frame_share,
            anchor=anchor,
            patch=patch,
            merge=merge,
            block=block,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            canvas_size=canvas_size,
            resize_rule=choices["resize_rule"],
            motion=motion,
            scores=scores,
            saliency=saliency,
            map_kind=map_kind,
            rank_damping=rank_damping,
            peak_weight=peak_weight,
            bin_seconds=bin_seconds,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            smooth_bins=smooth_bins,
            cost=cost,
            threads=threads,
            max_source_pixels=max_source_pixels,
        )
        self.grouping = grouping if isinstance(grouping, nn.Module) else None  # a custom module moves with this one
        self.scorer: Scorer = EstimatedBitsScorer(motion) if saliency is None else scorer_of(saliency, motion)
        self.selector = (
            TopKBlockSelector()
            if self.settings.selection == "topk"
            else SaliencyBlockSelector(rank_damping=rank_damping, peak_weight=peak_weight)
        )
        self.packer = CanvasPacker(patch, merge)

    def forward(
        self, video: VideoSource | VideoStream, score_maps: ScoreMaps | None = None, *, progress: Progress | None = None
    ) -> Canvases:
        """Tokenize one video.

        Args:
            video: path, bytes, binary file object, or a `VideoStream`.
            score_maps: external map of each frame by display index (a mapping or a sequence), as
                (rows, cols) arrays of any grid over the picture as shown: bits per macroblock from
                a patched decoder, for example. Wins over every other signal. A frame without a map gives no
                blocks; there must be maps of enough frames to fill the canvases. Several threads may ask for maps
                at a time; ``threads=1`` asks from one.
            progress: called with the number of frames decoded so far and the number to decode.

        Returns:
            Canvases within the budget, with provenance.

        Raises:
            VideoError: the input cannot be opened or decoded.
            BudgetError: the budget is too small for one canvas.
            OptionError: the score maps cover too few frames to fill the canvases.
        """
        clip, opened = self._open(video, score_maps)
        with one_torch_thread():
            groups, calls = self._steps(clip, progress)
            chosen = list(side_by_side(calls, clip.stream.threads))
            return join_groups(clip, groups, chosen, add_seconds(opened, groups.seconds))

    def stream(
        self, video: VideoSource | VideoStream, score_maps: ScoreMaps | None = None, *, progress: Progress | None = None
    ) -> Iterator[Canvases]:
        """Tokenize one video group by group: each group's canvases as soon as they are ready.

        Joined in order, the tensors are those of `forward`, group ids included. Each part has the
        frame times, the signal and the provenance of its own group; losses are known
        with the last one. Groups that depend on scores of the whole clip (``grouping="readiness"``,
        ``normalize="clip"``) only come once all of it is decoded. Leaving the loop early ends the decoding.

        Args:
            video: as in `forward`.
            score_maps: as in `forward`.
            progress: as in `forward`.

        Raises:
            VideoError, BudgetError, OptionError: as in `forward`, when the first part is asked for.

        Example:
            >>> for part in CodecTokenizer(budget_canvases=8).stream("clip.mp4"):
            ...     print(int(part.groups[0]), tuple(part.images.shape))
            0 (4, 3, 280, 504)
            1 (4, 3, 280, 504)
        """
        clip, seconds = self._open(video, score_maps)
        with one_torch_thread():
            groups, calls = self._steps(clip, progress)
        for number, chosen in enumerate(in_one_torch_thread(call() for call in calls)):
            before = add_seconds(seconds, groups.seconds) if number == 0 else {}
            with one_torch_thread():
                part = join_groups(clip, groups, [chosen], before, first_group=number)
            yield part

    def _open(self, video: VideoSource | VideoStream, score_maps: ScoreMaps | None) -> tuple[Clip, Mapping[str, float]]:
        clock, settings = StageClock(), self.settings
        with clock("packets"):
            if not isinstance(video, VideoStream):
                video = VideoStream(video, threads=settings.threads, max_source_pixels=settings.max_source_pixels)
        scorer = self.scorer if score_maps is None else ExternalMapScorer(score_maps, settings.map_kind)
        return Clip(video, settings, settings.budget(video.info.display_size), scorer), clock.seconds

    def _steps(self, clip: Clip, progress: Progress | None) -> tuple[Groups, Iterator[Callable[[], Chosen]]]:
        """All groups of a clip, and for each of them, once it is decoded, the call that makes its canvases."""
        groups, scored = scored_groups(clip, progress)
        return groups, (partial(self._chosen, clip, scoring) for scoring in scored)

    def _chosen(self, clip: Clip, scoring: Scoring) -> Chosen:
        return choose(clip, self.selector, self.packer, scoring())

    def with_frame_share(self, frame_share: float | None) -> "CodecTokenizer":
        """This tokenizer, its modules included, with another share of whole frames.

        Raises:
            OptionError: it is out of range.
        """
        changed = copy.copy(self)
        changed.settings = replace(self.settings, frame_share=frame_share)
        return changed

    def options(self) -> dict[str, Any]:
        """Constructor arguments as they took effect, for provenance."""
        return self.settings.described()
