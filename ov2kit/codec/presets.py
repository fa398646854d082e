"""The two public algorithms, as choices of the tokenizer's options.

`"paper"` is what LLaVA-OneVision-2 describes (arXiv 2605.25979, section 2.2); `"release"` is what its
public front end (codec-video-prep 0.2.5) runs. docs/paper_and_release.md tells them apart.
"""

from typing import Literal, TypedDict

from ov2kit.codec.candidates import Candidates
from ov2kit.geometry import ResizeRule

Preset = Literal["paper", "release"]
Grouping = Literal["bitcost", "readiness", "fixed", "container"]
Selection = Literal["stratified", "topk"]


class PresetChoices(TypedDict):
    """What a preset decides where the caller does not."""

    grouping: Grouping
    selection: Selection
    candidates: Candidates
    resize_rule: ResizeRule


PRESETS: dict[Preset, PresetChoices] = {
    "paper": {"grouping": "bitcost", "selection": "stratified", "candidates": "bitcost", "resize_rule": "image"},
    "release": {"grouping": "readiness", "selection": "topk", "candidates": "uniform", "resize_rule": "codec"},
}
