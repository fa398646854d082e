"""Options of `CodecTokenizer` in one frozen value: presets resolved, everything checked once."""

from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar, get_args

from torch import nn

from ov2kit.codec.grouping import ContainerGrouping, ReadinessGrouping
from ov2kit.codec.grouping.energy import Cost
from ov2kit.codec.scoring.external_maps import MapKind
from ov2kit.codec.scoring.saliency_scorer import Saliency
from ov2kit.codec.scoring.scorer import Motion
from ov2kit.codec.selection.candidates import Anchor, Candidates
from ov2kit.codec.tokenizers.budget import CanvasBudget, check_canvas_options, plan_budget
from ov2kit.codec.tokenizers.presets import GroupingName, Preset, Scores, Selection
from ov2kit.errors import OptionError, check_choice, check_number, check_order
from ov2kit.geometry import ResizeRule

_T = TypeVar("_T")


class Setting(Generic[_T]):
    """An attribute that reads the option of the same name from `settings`; it cannot be set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, tokenizer: Any, owner: type | None = None) -> _T:
        value: _T = getattr(tokenizer.settings, self.name)
        return value

    def __set__(self, tokenizer: Any, value: _T) -> None:
        raise AttributeError(f"{self.name} cannot change after a tokenizer is built; build another one")


@dataclass(frozen=True, kw_only=True)
class CodecOptions:
    """Arguments of `CodecTokenizer`, see there, as they take effect.

    Raises:
        BudgetError: budgets that cannot be met.
        OptionError: an option is unknown, of a wrong type or out of range.
    """

    preset: Preset
    budget_canvases: int | None
    budget_tokens: int | None
    grouping: GroupingName | nn.Module
    selection: Selection
    candidates: Candidates
    candidates_per_canvas: int
    canvases_per_group: int
    frame_share: float | None
    anchor: Anchor
    patch: int
    merge: int
    block: int
    min_pixels: int
    max_pixels: int
    canvas_size: tuple[int, int] | None
    resize_rule: ResizeRule
    motion: Motion
    scores: Scores
    saliency: Saliency | None
    map_kind: MapKind
    rank_damping: float
    peak_weight: float
    bin_seconds: float
    min_seconds: float
    max_seconds: float
    smooth_bins: int
    cost: Cost
    threads: int | None
    max_source_pixels: int

    def __post_init__(self) -> None:
        if not isinstance(self.grouping, nn.Module):
            check_choice("grouping", self.grouping, get_args(GroupingName))
        choices = {
            "selection": Selection, "candidates": Candidates, "anchor": Anchor, "cost": Cost, "scores": Scores,
            "motion": Motion, "map_kind": MapKind,
        }  # fmt: skip
        for name, known in choices.items():
            check_choice(name, getattr(self, name), get_args(known))
        check_number("candidates_per_canvas", self.candidates_per_canvas, low=1, integer=True)
        check_number("canvases_per_group", self.canvases_per_group, low=2, integer=True)  # I and P
        check_number("frame_share", self.frame_share, above=0, high=1, optional=True)
        check_canvas_options(
            budget_canvases=self.budget_canvases, budget_tokens=self.budget_tokens,
            patch=self.patch, merge=self.merge, block=self.block, min_pixels=self.min_pixels,
            max_pixels=self.max_pixels, canvas_size=self.canvas_size, threads=self.threads,
        )  # fmt: skip
        check_number("rank_damping", self.rank_damping, low=0)
        check_number("peak_weight", self.peak_weight, low=0)
        for name in ("bin_seconds", "min_seconds", "max_seconds"):
            check_number(name, getattr(self, name), above=0)
        check_order("min_seconds", self.min_seconds, "max_seconds", self.max_seconds)
        check_number("smooth_bins", self.smooth_bins, low=0, integer=True)
        check_number("max_source_pixels", self.max_source_pixels, low=1, integer=True)
        if self.saliency is not None and self.scores == "bit-cost":
            raise OptionError("scores='bit-cost' takes no saliency module; leave one of the two out")

    @property
    def side(self) -> int:
        """Edge of a chosen block in pixels."""
        return self.patch * self.merge * self.block

    def budget(self, display_size: tuple[int, int]) -> CanvasBudget:
        """Canvases of a video of this (height, width) as shown."""
        return plan_budget(
            display_size,
            budget_canvases=self.budget_canvases,
            budget_tokens=self.budget_tokens,
            side=self.patch * self.merge,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            rule=self.resize_rule,
            canvas_size=self.canvas_size,
            block=self.block,
        )

    def described(self) -> dict[str, Any]:
        """As provenance has them: what does not change the result is left out, modules are their `repr`."""
        left_out = ("preset", "threads", "max_source_pixels")
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        if self.frame_share is None:
            del options["frame_share"]
        grouping: object = self.grouping
        if grouping == "readiness":
            grouping = ReadinessGrouping(canvases_per_group=self.canvases_per_group)
        elif grouping == "container":
            grouping = ContainerGrouping()
        if isinstance(grouping, ReadinessGrouping):  # it samples evenly: it cannot know groups before scores
            options["candidates"] = "uniform"
        options["grouping"] = grouping if isinstance(grouping, str) else repr(grouping)
        options["saliency"] = "none" if self.saliency is None else repr(self.saliency)
        return options
