"""A variant: everything that a run of the experiment depends on but its seed."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ov2kit.errors import Ov2kitError


class SweepError(Ov2kitError):
    """A sweep file that cannot be run."""


#: at 0.004 frames fail to learn from some seeds
_RATES = {"codec": 4e-3, "frames": 2e-3}


@dataclass(frozen=True)
class Variant:
    """One point of the experiment; every field is one axis.

    Args:
        train: clips.
        val: clips; thresholds are chosen on them.
        test: clips; scores are of them.
        data_seed: of the set.
        size: of the videos, pixels.
        encoding: see `make_jumpset`.
        difficulty: options of `Difficulty` that differ from its defaults, as (name, value) pairs.
        source: "codec", "frames", or "blank": frames whose pixels are all 0, which tells what guessing is worth.
        budget: canvases.
        canvas: edge of a canvas in pixels.
        grouping: "bitcost", "readiness", "fixed" or "container".
        candidates: "bitcost", "uniform" or "all": which frames of a group are looked at.
        saliency: "motion+residual", "motion", "residual", "luma" or "random".
        rank_damping: lambda.
        peak_weight: alpha_peak.
        block: merged tokens per edge of a chosen block.
        selection: "stratified" or "topk".
        positions: "release", "exact", "2d" or "none".
        visibility: "group", "full", "canvas", "window" (2 canvases) or "spatial" (windows of 4 x 4 patches).
        connector: "merger", "mlp", "resampler" or "pool".
        width: channels of the encoder.
        depth: its blocks.
        steps: optimiser steps.
        batch: clips per step.
        lr: peak learning rate; what validation chose for the source when omitted, see docs/evidence.md.
    """

    train: int = 256
    val: int = 48
    test: int = 96
    data_seed: int = 0
    size: int = 64
    encoding: str = "h264-mix"
    difficulty: tuple[tuple[str, Any], ...] = ()
    source: str = "codec"
    budget: int = 8
    canvas: int = 64
    grouping: str = "bitcost"
    candidates: str = "bitcost"
    saliency: str = "motion+residual"
    rank_damping: float = 0.35
    peak_weight: float = 0.35
    block: int = 1
    selection: str = "stratified"
    positions: str = "release"
    visibility: str = "group"
    connector: str = "merger"
    width: int = 32
    depth: int = 2
    steps: int = 600
    batch: int = 8
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.lr is None:
            object.__setattr__(self, "lr", _RATES.get(self.source, _RATES["codec"]))

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Variant":
        """A variant from plain values; `difficulty` may be a mapping.

        Raises:
            SweepError: a name that is no field.
        """
        known = {field.name for field in fields(cls)}
        if extra := sorted(set(given) - known):
            raise SweepError(f"unknown field {extra[0]!r} of a variant; known: {', '.join(sorted(known))}")
        difficulty = given.get("difficulty", ())
        if isinstance(difficulty, dict):
            pairs = ((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(difficulty.items()))
            given = {**given, "difficulty": tuple(pairs)}
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """Values that JSON and YAML can hold; `of` takes them back."""
        return {**asdict(self), "difficulty": {k: list(v) if isinstance(v, tuple) else v for k, v in self.difficulty}}

    def data_key(self) -> str:
        """Names the set of videos."""
        return self._key(_DATA)

    def canvas_key(self) -> str:
        """Names the canvases: runs that differ in the model alone share them."""
        tokens = _TOKENS if self.source == "codec" else ("source", "budget", "canvas")
        return self._key(_DATA + tokens)

    def run_key(self, seed: int) -> str:
        """Names a run."""
        unused = () if self.source == "codec" else _CODEC_ONLY
        return self._key(tuple(f.name for f in fields(self) if f.name not in unused), seed=seed)

    def _key(self, names: tuple[str, ...], **more: Any) -> str:
        plain = self.plain()
        text = json.dumps({**{name: plain[name] for name in names}, **more}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_DATA = ("train", "val", "test", "data_seed", "size", "encoding", "difficulty")
_CODEC_ONLY = ("grouping", "candidates", "saliency", "rank_damping", "peak_weight", "block", "selection")
_TOKENS = ("source", "budget", "canvas", *_CODEC_ONLY)
