"""From flags to the tokenizers of videos and pictures: each ablation is one value."""

from typing import Any, Literal, get_args

from ov2kit.codec import (
    CodecTokenizer,
    EventSaliency,
    FrameTokenizer,
    ImageTokenizer,
    MotionResidualSaliency,
    RandomSaliency,
)
from ov2kit.codec.tokenizers.presets import PRESETS, GroupingName, Preset
from ov2kit.errors import OptionError, check_choice, check_number

SaliencyName = Literal["motion+residual", "motion", "residual", "luma", "event", "random"]
#: of codec canvases, of sampled frames, of pictures
VisualTokenizers = tuple[CodecTokenizer, FrameTokenizer, ImageTokenizer]


def saliency_options(name: SaliencyName, preset: Preset = "paper", seed: int = 0) -> dict[str, Any]:
    """Arguments of `CodecTokenizer` that score blocks by one signal.

    "motion" and "residual" give the other signal no weight and leave the rest of the preset, its
    bit-cost prior included; "luma" compares with the frame before, without motion; "event" is the score of
    ``preset="event"``; "random" knows nothing of the video.

    Raises:
        OptionError: unknown name, or a signal alone in a preset that does not weigh signals.
    """
    check_choice("saliency", name, get_args(SaliencyName))
    check_choice("preset", preset, PRESETS)
    check_number("seed", seed, integer=True)
    if name == "motion+residual":
        return {}
    if name == "luma":
        return {"motion": "none"}
    if name == "event":
        return {"saliency": EventSaliency()}
    if name == "random":
        return {"saliency": RandomSaliency(seed)}
    choices = PRESETS[preset]["saliency"]
    if choices.func is not MotionResidualSaliency:
        raise OptionError(
            f"saliency {name!r}: preset {preset!r} does not weigh motion and residual against each other; "
            "use preset 'paper'"
        )
    weights = (1.0, 0.0) if name == "motion" else (0.0, 1.0)
    return {"saliency": choices(weights=weights)}


def build_tokenizers(
    *,
    preset: Preset = "paper",
    grouping: GroupingName | None = None,
    saliency: SaliencyName = "motion+residual",
    rank_damping: float = 0.35,
    peak_weight: float = 0.35,
    block: int = 1,
    budget_canvases: int | None = None,
    budget_tokens: int | None = None,
    min_pixels: int = 3136,
    max_pixels: int = 150_000,
    patch: int = 14,
    merge: int = 2,
    threads: int | None = None,
    seed: int = 0,
) -> VisualTokenizers:
    """Tokenizers for codec canvases, sampled frames and pictures, with the same budget and canvas.

    Args:
        preset: see `CodecTokenizer`, as for everything not named here.
        grouping: see there.
        saliency: what blocks are scored by, see `saliency_options`.
        rank_damping: lambda of the stratified selection.
        peak_weight: alpha of the stratified selection.
        block: merged tokens per edge of the blocks that are chosen.
        budget_canvases: most canvases of a video, and most frames; 32 when no budget is given.
        budget_tokens: most merged tokens of a video instead.
        min_pixels: smallest canvas area.
        max_pixels: largest canvas area.
        patch: patch edge in pixels.
        merge: patches per block edge.
        threads: of decoding.
        seed: of random saliency.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
        BudgetError: budgets that cannot be met.
    """
    if budget_canvases is None and budget_tokens is None:
        budget_canvases = 32
    sizes: dict[str, Any] = {"patch": patch, "merge": merge, "min_pixels": min_pixels, "max_pixels": max_pixels}
    budget: dict[str, Any] = {"budget_tokens": budget_tokens, "threads": threads}
    codec = CodecTokenizer(
        budget_canvases, preset=preset, grouping=grouping, rank_damping=rank_damping, peak_weight=peak_weight,
        block=block, **budget, **sizes, **saliency_options(saliency, preset, seed),
    )  # fmt: skip
    return codec, FrameTokenizer(budget_canvases, **budget, **sizes), ImageTokenizer(**sizes)
