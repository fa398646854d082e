"""The two public algorithms, and one of our own, as choices of the tokenizer's options.

`"paper"` is what LLaVA-OneVision-2 describes (arXiv 2605.25979, section 2.2); `"release"` is what its
public front end (codec-video-prep 0.2.5) runs; see docs/paper_and_release.md for the differences. `"event"`
chooses what happens rather than what is hard to encode; see docs/events.md.
"""

from functools import partial
from typing import Literal, TypedDict

from ov2kit.codec.scoring.byte_share import ByteShareSaliency
from ov2kit.codec.scoring.event_saliency import EventSaliency
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.selection.candidates import Candidates
from ov2kit.geometry import ResizeRule

Preset = Literal["paper", "release", "event"]
GroupingName = Literal["bitcost", "readiness", "fixed", "container"]
Selection = Literal["stratified", "topk"]
Scores = Literal["saliency", "bit-cost"]


class PresetChoices(TypedDict):
    """What a preset decides where the caller does not.

    The saliency of ``"paper"`` keeps its signals (motion, residual, bit-cost prior); their weights and
    the scale over the group are chosen by what agrees with the bits really spent, see
    docs/saliency.md. ``"release"`` scores by bits per block, which stock FFmpeg does not report:
    `BitCostMap` estimates them, see docs/bitcost.md; the saliency is what it scores by with
    ``scores="saliency"``. Both sample the nearest pixel of the reference, at half the work of four.
    """

    scores: Scores
    saliency: partial[MotionResidualSaliency] | partial[ByteShareSaliency] | partial[EventSaliency]
    grouping: GroupingName
    selection: Selection
    candidates: Candidates
    resize_rule: ResizeRule


PRESETS: dict[Preset, PresetChoices] = {
    "paper": {
        "scores": "saliency",
        "saliency": partial(
            MotionResidualSaliency, weights=(0.5, 1.0), normalize="group", bit_cost_weight=4.0, sampling="nearest"
        ),
        "grouping": "bitcost",
        "selection": "stratified",
        "candidates": "bitcost",
        "resize_rule": "image",
    },
    "release": {
        "scores": "bit-cost",
        "saliency": partial(ByteShareSaliency, sampling="nearest"),
        "grouping": "readiness",
        "selection": "topk",
        "candidates": "uniform",
        "resize_rule": "codec",
    },
    "event": {
        "scores": "saliency",
        "saliency": partial(EventSaliency),
        "grouping": "bitcost",
        "selection": "stratified",
        "candidates": "uniform",
        "resize_rule": "image",
    },
}
