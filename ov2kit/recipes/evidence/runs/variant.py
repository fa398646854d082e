"""A variant: everything that a run of the experiment depends on but its seed."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ov2kit.codec.selection.candidates import Candidates
from ov2kit.codec.selection.whole_frames import FRAME_SHARE
from ov2kit.codec.tokenizers.presets import GroupingName, Selection
from ov2kit.errors import OptionError, check_choice, check_keys, check_number, check_type
from ov2kit.recipes.architecture.parts import PositionsName
from ov2kit.recipes.data.visual_tokenizers import SaliencyName
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.encode import ENCODINGS

SourceName = Literal["codec", "frames", "hybrid", "blank", "live"]
#: what is dropped after the encoder: nothing, or all but `budget` canvases' worth of tokens
PruningName = Literal["none", "evs", "uniqueness"]
Precision = Literal["float32", "bfloat16"]
#: what the model sees by: `Visibility` of the recipes, windows of space within a group, and groups with those before
SeenBy = Literal["group", "full", "canvas", "window", "spatial", "causal"]
#: how events are read: by tokens' exact times, or by probes in the encoder, whose positions alone say when
ReadoutName = Literal["times", "positions"]
#: connectors of the recipes that take packed rows at this size
ConnectorName = Literal["merger", "mlp", "resampler", "pool", "average"]


RUN, RUN_VERSION = "run", 1  # of what is written of a run


class SweepError(OptionError):
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
        source: "codec", "frames", "hybrid" of the two, "blank": frames whose pixels are all 0, which shows what
            guessing is worth, or "live": codec tokens of clips that come as one stream, four after one another.
        budget: canvases whose worth of tokens the read-out gets.
        encoded: canvases that the encoder sees, more than `budget` where `pruning` drops the rest.
        pruning: "none", "evs" or "uniqueness": after the encoder, as many tokens as `budget` canvases have are kept.
        delay_seconds: of a live source, see `LiveTokenizer`; without one each clip is waited for and has `budget`.
        tokens_per_second: mean rate of a live source with a delay; what `budget` canvases are over a clip of the mean
            length when omitted.
        frame_share: of the canvases of a hybrid that are whole frames.
        canvas: edge of a canvas in pixels.
        grouping: "bitcost", "readiness", "fixed" or "container".
        candidates: "bitcost", "uniform" or "all": which frames of a group are looked at.
        saliency: "motion+residual", "motion", "residual", "luma", "event" or "random", as in `saliency_options`.
        rank_damping: lambda.
        peak_weight: alpha_peak.
        block: merged tokens per edge of a chosen block.
        selection: "stratified" or "topk".
        bin_seconds: time step of grouping; a group holds about four canvases of clips of ten seconds by the defaults.
        min_seconds: shortest group.
        max_seconds: longest group.
        positions: "release", "exact", "2d" or "none", as in `recipes.architecture.position_module`.
        visibility: "group", "full", "canvas", "window" (2 canvases), "spatial" (windows of 4 x 4 patches) or "causal"
            (a group and those before it).
        connector: "merger", "mlp", "resampler", "pool" or "average", as in `recipes.architecture.build_connector`.
        width: channels of the encoder.
        depth: its blocks.
        steps: optimizer steps.
        batch: clips per step.
        lr: peak learning rate; what validation chose for the source when omitted, see docs/evidence.md.
        encoder_lr: that of the encoder, the connector and what reads their channels, where it is another.
        precision: "float32", or "bfloat16": encoder and connector under autocast.
        readout: "times": a read-out that gets the exact time and place of each token; "positions": probes in the
            encoder, which know of time what its positions say.

    Raises:
        SweepError: a value is unknown, of a wrong type or out of range.
    """

    train: int = 256
    val: int = 48
    test: int = 96
    data_seed: int = 0
    size: int = 64
    encoding: str = "h264-mix"
    difficulty: tuple[tuple[str, Any], ...] = ()
    source: SourceName = "codec"
    budget: int = 8
    encoded: int | None = None
    pruning: PruningName = "none"
    delay_seconds: float | None = None
    tokens_per_second: float | None = None
    frame_share: float = FRAME_SHARE
    canvas: int = 64
    grouping: GroupingName = "bitcost"
    candidates: Candidates = "bitcost"
    saliency: SaliencyName = "motion+residual"
    rank_damping: float = 0.35
    peak_weight: float = 0.35
    block: int = 1
    selection: Selection = "stratified"
    bin_seconds: float = 0.1
    min_seconds: float = 0.4
    max_seconds: float = 3.0
    positions: PositionsName = "release"
    visibility: SeenBy = "group"
    connector: ConnectorName = "merger"
    width: int = 32
    depth: int = 2
    steps: int = 600
    batch: int = 8
    lr: float | None = None
    encoder_lr: float | None = None
    precision: Precision = "float32"
    readout: ReadoutName = "times"

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            check_choice(name, getattr(self, name), known, SweepError)
        for name, least in _LEAST.items():
            check_number(name, getattr(self, name), low=least, integer=True, error=SweepError)
        for name, unit in (("size", 16), ("canvas", 16), ("width", 32)):
            if getattr(self, name) % unit:
                raise SweepError(f"{name} must be a multiple of {unit}, got {getattr(self, name)}")
        if self.canvas % (16 * self.block):
            raise SweepError(f"block must divide the {self.canvas // 16} tokens of a canvas edge, got {self.block}")
        if self.batch > self.train:
            raise SweepError(f"batch must be at most the {self.train} clips of train, got {self.batch}")
        for name in ("rank_damping", "peak_weight"):
            check_number(name, getattr(self, name), low=0, error=SweepError)
        check_number("frame_share", self.frame_share, above=0, high=1, error=SweepError)
        for name in ("lr", "encoder_lr"):
            check_number(name, getattr(self, name), above=0, optional=True, error=SweepError)
        for name in ("bin_seconds", "min_seconds", "max_seconds"):
            check_number(name, getattr(self, name), above=0, error=SweepError)
        check_number("encoded", self.encoded, low=self.budget, integer=True, optional=True, error=SweepError)
        if (self.pruning == "none") != (self.canvases == self.budget):
            raise SweepError(
                f"pruning keeps what {self.budget} canvases hold: expected more canvases as encoded with it, and none "
                f"given without it, got pruning {self.pruning!r}, encoded {self.encoded}"
            )
        if self.pruning != "none" and (
            self.source not in ("frames", "blank") or self.connector not in ("merger", "mlp")
        ):
            raise SweepError(
                f"pruning compares places of whole frames: expected source frames and connector merger or mlp, got "
                f"{self.source} and {self.connector}"
            )
        check_readout(self.readout, self.pruning, self.connector, self.visibility)
        self._check_live()
        check_type("difficulty", self.difficulty, tuple, "a tuple of (name, value) pairs", error=SweepError)
        try:
            Difficulty(**dict(self.difficulty))
        except (TypeError, ValueError) as error:
            raise SweepError(f"difficulty: {error}") from error
        if self.lr is None:
            object.__setattr__(self, "lr", _RATES.get(self.source, _RATES["codec"]))

    def _check_live(self) -> None:
        check_number("delay_seconds", self.delay_seconds, low=0, optional=True, error=SweepError)
        check_number("tokens_per_second", self.tokens_per_second, above=0, optional=True, error=SweepError)
        if self.delay_seconds is not None and self.source != "live":
            raise SweepError(f"delay_seconds is of source live; expected that or no delay, got source {self.source!r}")
        if self.tokens_per_second is not None and self.delay_seconds is None:
            raise SweepError(
                "tokens_per_second is the rate of a live source with a delay; expected delay_seconds with it, or budget"
            )
        if self.delay_seconds is not None and self.grouping == "readiness":
            raise SweepError(
                "grouping readiness looks at a whole clip; expected bitcost, fixed or container with delay_seconds"
            )

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Variant":
        """A variant from plain values; `difficulty` may be a mapping.

        Raises:
            SweepError: a name that is no field, or a value that cannot be.
        """
        check_keys("a variant", given, [field.name for field in fields(cls)], SweepError)
        difficulty = given.get("difficulty", ())
        if isinstance(difficulty, dict):
            pairs = ((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(difficulty.items()))
            given = {**given, "difficulty": tuple(pairs)}
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """Values that JSON and YAML can hold; `of` takes them back."""
        return {**asdict(self), "difficulty": {k: list(v) if isinstance(v, tuple) else v for k, v in self.difficulty}}

    @property
    def canvases(self) -> int:
        """How many the encoder sees."""
        return self.budget if self.encoded is None else self.encoded

    def data_key(self) -> str:
        """Names the set of videos."""
        return self._key(_DATA)

    def canvas_key(self) -> str:
        """Names the canvases: runs that differ in the model alone share them."""
        names = (name for name in _TOKENS if name not in self._unused())
        return self._key((*_DATA, *names), table=_TABLE, budget=self.canvases)

    def run_key(self, seed: int) -> str:
        """Names a run."""
        unused = self._unused()
        return self._key(tuple(f.name for f in fields(self) if f.name not in unused), seed=seed, table=_TABLE)

    def _unused(self) -> tuple[str, ...]:
        """Fields that do not matter to the source."""
        return {"hybrid": (), "codec": ("frame_share",), "live": ("frame_share",)}.get(
            self.source, ("frame_share", *_CODEC_ONLY, *_SPANS)
        )

    def _key(self, names: tuple[str, ...], **more: Any) -> str:
        plain = self.plain()
        default = {f.name: f.default for f in fields(self)}
        kept = {name: plain[name] for name in names if name not in _LATER or plain[name] != default[name]}
        text = json.dumps({**kept, **more}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_readout(readout: str, pruning: str, connector: str, visibility: str) -> None:
    """Refuse what probes cannot read.

    Raises:
        SweepError: an unknown read-out, or one by positions beside something that it has no place for.
    """
    check_choice("readout", readout, get_args(ReadoutName), SweepError)
    if readout == "positions" and (pruning != "none" or connector not in ("merger", "mlp") or visibility == "spatial"):
        raise SweepError(
            f"readout 'positions' reads probes one by one, and not the tokens: expected pruning none, connector merger "
            f"or mlp and a visibility without windows of space, got {pruning}, {connector} and {visibility}"
        )


_KNOWN: dict[str, tuple[str, ...]] = {
    "source": get_args(SourceName),
    "encoding": ("h264-mix", *ENCODINGS),
    "grouping": get_args(GroupingName),
    "candidates": get_args(Candidates),
    "saliency": get_args(SaliencyName),
    "selection": get_args(Selection),
    "positions": get_args(PositionsName),
    "visibility": get_args(SeenBy),
    "connector": get_args(ConnectorName),
    "pruning": get_args(PruningName),
    "precision": get_args(Precision),
    "readout": get_args(ReadoutName),
}
_LEAST = {
    "train": 1, "val": 1, "test": 1, "data_seed": 0, "size": 32, "budget": 1, "canvas": 16, "block": 1,
    "width": 32, "depth": 1, "steps": 1, "batch": 1,
}  # fmt: skip
#: Part of the keys of canvases and runs, so that results from when "pool", "2d" and "random" were other modules than
#: those of the recipes are not taken for results of today's.
_TABLE = "recipes"
_DATA = ("train", "val", "test", "data_seed", "size", "encoding", "difficulty")
_CODEC_ONLY = ("grouping", "candidates", "saliency", "rank_damping", "peak_weight", "block", "selection")
_SPANS = ("bin_seconds", "min_seconds", "max_seconds")
_LIVE = ("delay_seconds", "tokens_per_second")
_TOKENS = ("source", "budget", "frame_share", "canvas", *_LIVE, *_CODEC_ONLY, *_SPANS)
#: Fields that came later: at their defaults they are no part of a key, so that runs from before are found again.
_LATER = (*_SPANS, *_LIVE, "encoded", "pruning", "encoder_lr", "precision", "readout")
