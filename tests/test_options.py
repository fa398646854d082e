"""Every public constructor and option, given what nobody means: refused by an error of ours that names it.

Constructors and functions are found through `__all__` of every package, so a new one is tested as soon as it is
public; one that needs arguments fails here until `GIVEN` holds valid ones. What counts as valid follows from the
annotation; `VALID` lists what is valid beyond that, and must be accepted.
"""

import importlib
import inspect
import json
import math
import pkgutil
import signal
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from torch import nn

import ov2kit
from ov2kit import Canvases, Segments
from ov2kit.codec import EventSaliency, MotionResidualSaliency, RandomSaliency, save_assets
from ov2kit.errors import Ov2kitError
from ov2kit.positional.pairing import mark
from ov2kit.recipes import VisualLayout, build, small_tokenizer
from ov2kit.recipes.data.options import Sources
from tests.paths import SAMPLE

#: modules without `__all__` whose classes are public all the same
ALSO = {
    "ov2kit.recipes.evidence.runs.variant": ["Variant"],
    "ov2kit.recipes.evidence.films.difficulty": ["Difficulty"],
    "ov2kit.recipes.evidence.runs.small_model": ["JumpModel"],
    "ov2kit.recipes.data.visual_tokenizers": ["saliency_options"],
    "ov2kit.recipes.data.options": ["Sources", "Tokens", "Order", "Loading"],
    "ov2kit.recipes.data.packing": ["PackBuffer"],
    "ov2kit.recipes.training.optim": ["cosine_with_warmup"],
    "ov2kit.recipes.spatial.space": ["Space"],
    "ov2kit.recipes.spatial.frames": ["VideoFrames"],
    "ov2kit.recipes.spatial.region_growing": ["RegionGrowing"],
    "ov2kit.recipes.spatial.augment": ["Crop"],
    "ov2kit.recipes.evidence.films.tracking_scene": ["TrackingScene"],
    "ov2kit.recipes.evidence.films.event_scene": ["EventScene"],
    "ov2kit.geometry": ["smart_resize"],
}
#: what our own code makes and hands out: facts, not options
RECORDS = {
    "Backend", "Choice", "EventShown", "Frame", "Gated", "GroupTrace", "HotaCounts", "JumpScoreRow", "LiveGroup",
    "PacketTable", "Plan",
    "PointTrackScore", "Provenance", "ReadyGroup", "Started", "TokenCount", "Windows",
}  # fmt: skip
#: protocols, and functions of data alone, without options
NOT_HERE = {
    "Connector", "Grouping", "Positions", "Scorer", "Tokenizer", "even_subset", "packet_columns", "parse_lengths",
    "read_subtitles",
}  # fmt: skip

SIDE = {"width": 8, "out_width": 8}
COS, SIN = mark(torch.ones(2, 4), torch.zeros(2, 4), "half")
GRID = torch.arange(16).reshape(1, 4, 4)


def one_canvas() -> dict[str, Any]:
    positions = torch.cartesian_prod(torch.zeros(1).int(), torch.arange(2).int(), torch.arange(2).int())
    return {
        "images": torch.zeros(1, 3, 28, 28, dtype=torch.uint8),
        "positions": positions.int().view(1, 2, 2, 3),
        "groups": torch.zeros(1, dtype=torch.int32),
        "is_anchor": torch.ones(1, dtype=torch.bool),
        "frame_times": {0: 0.0},
    }


def sample() -> dict[str, Any]:
    ids = torch.zeros(3, dtype=torch.int64)
    return {
        "input_ids": ids, "labels": ids, "pixel_values": torch.zeros(0, 588), "positions": torch.zeros(0, 3).int(),
        "layout": VisualLayout(),
    }  # fmt: skip


def rotation() -> dict[str, Any]:
    return {"x": torch.zeros(2, 1, 4), "cos": COS, "sin": SIN}


def made_sample() -> Any:
    from ov2kit.recipes import Sample

    return Sample(**sample())


def predictions() -> Path:
    """A file of predictions, in a folder of annotations."""
    line = {"id": "a", "video": "a.mp4", "question": "When?", "answer": "[1.0]", "prediction": "1.0s"}
    folder = Path("annotated")
    folder.mkdir(exist_ok=True)
    (folder / "a.mp4").touch()
    (folder / "annotations.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "predictions.jsonl").write_text(json.dumps({**line, "error": None}) + "\n")
    return folder / "predictions.jsonl"


@cache
def tokenizer() -> Any:
    return small_tokenizer()


@cache
def parts() -> dict[str, Any]:
    model = build("tiny")
    names = ("encoder", "connector", "language_model")
    return {"config": {"image_token_id": 1}, **{name: getattr(model, name) for name in names}}


def heads() -> dict[str, Any]:
    return {"q": torch.zeros(4, 1, 8), "segments": Segments.from_lengths([4])}


#: valid arguments, small where the defaults are large
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "Canvases": one_canvas,
    "Segments": lambda: {"lengths": (2,), "cu_seqlens": torch.tensor([0, 2], dtype=torch.int32)},
    "BitCostGrouping": lambda: {"target_groups": 2},
    "RunningGrouping": lambda: {"seconds_per_group": 8.0},
    "TokenRate": lambda: {"tokens_per_second": 90.0, "burst_tokens": 900.0},
    "SaliencyScorer": lambda: {"saliency": MotionResidualSaliency()},
    "EventScorer": lambda: {"saliency": EventSaliency()},
    "RandomScorer": lambda: {"saliency": RandomSaliency()},
    "QuerySaliency": lambda: {"query": [1.0] * 11},
    "EmbeddingClassifier": lambda: {"embed": lambda texts: torch.ones(len(texts), 4)},
    "ExternalMapScorer": lambda: {"score_maps": {}},
    "FixedGrouping": lambda: {"groups": 2},
    "VideoStream": lambda: {"source": SAMPLE},
    "LearnedPositions": lambda: {"width": 8},
    "MRoPE": lambda: {"head_dim": 12, "sections": (2, 2, 2)},
    "RoPE3D": lambda: {"head_dim": 32},
    "MLP": lambda: {"width": 8, "hidden": 8},
    "Block": lambda: {name: nn.Identity() for name in ("norm1", "attention", "norm2", "mlp")},
    "GroupVisibleAttention": lambda: {"width": 8, "heads": 2},
    "WindowedAttention": lambda: {"width": 8, "heads": 2},
    "OneVisionEncoder": lambda: {"width": 32, "depth": 1, "heads": 1, "mlp_width": 8},
    "OneVisionViT": lambda: {"embed_dim": 32, "depth": 1, "num_heads": 1},
    "PatchEmbedding": lambda: {"width": 8},
    "PoolingHead": lambda: {"width": 8, "heads": 2, "mlp_width": 8},
    "AttentionPool": lambda: {**SIDE, "heads": 2},
    "AveragePool": lambda: SIDE,
    "ConvAbstractor": lambda: SIDE,
    "EVSPruner": lambda: {"width": 8},
    "Identity": lambda: {"width": 8},
    "MLPConnector": lambda: SIDE,
    "PatchMerger": lambda: SIDE,
    "PerceiverResampler": lambda: {**SIDE, "heads": 2, "depth": 1},
    "QueryTransformer": lambda: {**SIDE, "hidden": 8, "heads": 2, "depth": 1},
    "TokenMerger": lambda: {"width": 8},
    "UniquenessPruner": lambda: {"width": 8},
    "Sample": sample,
    "Batch": lambda: {**sample(), "attention_mask": torch.ones(1, 3)},
    "ConversationIndex": lambda: {"paths": Path(ov2kit.__file__).parent / "recipes" / "configs" / "sample.jsonl"},
    "LlavaOneVision2": parts,
    "build": lambda: {"config": "tiny"},
    "rewrite_prompt": lambda: {"text": "", "runs": []},
    "color_query": lambda: {"question": "the red car"},
    "parse_spans": lambda: {"text": "1 to 2"},
    "parse_starts": lambda: {"text": "[1.0]"},
    "Space": lambda: {"width": 1000, "height": 1000},
    "VideoFrames": lambda: {"video": SAMPLE},
    "Crop": lambda: {"left": 0.1, "top": 0.1, "right": 0.9, "bottom": 0.9},
    "parse_count": lambda: {"text": "three"},
    "parse_relation": lambda: {"text": "left"},
    "depth_between": lambda: {"one": 1.0, "other": 2.0},
    "point_track_score": lambda: {"predicted": {}, "truth": {}, "masks": dict},
    "ConversationData": lambda: {"sources": Sources("talks.jsonl")},
    "Sources": lambda: {"path": "talks.jsonl"},
    "Processor": lambda: {"tokenizer": tokenizer()},
    "PackBuffer": lambda: {"capacity": 8},
    "load_assets": lambda: {"directory": save_assets(Canvases(**one_canvas()), "read", overwrite=True)},
    "compare_predictions": lambda: {"a": predictions(), "b": predictions(), "resamples": 10},
    "evaluate_jumpscore": lambda: {
        "model_answer": lambda video, question: "[1.0]",
        "folder": predictions().parent,
        "out": "scores",
        "overwrite": True,
    },
    "save_assets": lambda: {"canvases": Canvases(**one_canvas()), "directory": "made", "overwrite": True},
    "apply_rope": lambda: {"q": torch.zeros(2, 1, 4), "k": torch.zeros(2, 1, 4), "cos": COS, "sin": SIN},
    "event_shown": lambda: {
        "shown": {},
        "event": {0: np.ones((1, 1), dtype=bool)},
        "start": 0.0,
        "stop": 1.0,
        "seconds": [0.0],
    },
    "shown_blocks": lambda: {"positions": torch.zeros(1, 2, 2, 3).int(), "merge": 2, "grid": (1, 1)},
    "rotate": rotation,
    "grid_positions": lambda: {"t": 1, "h": 2, "w": 2},
    "to_block_layout": lambda: {"x": GRID, "merge": 2},
    "from_block_layout": lambda: {"x": torch.arange(16), "grid": (1, 4, 4), "merge": 2},
    "packed_positions": lambda: {"grid_thw": [(1, 4, 4)]},
    "times_in_seconds": lambda: {"positions": torch.zeros(1, 3).int(), "frame_times": {0: 0.0}},
    "virtual_frames": lambda: {"t": 2},
    "smart_resize": lambda: {"height": 100, "width": 100},
    "patchify": lambda: {"images": torch.zeros(1, 3, 28, 28), "patch": 14},
    "spatial_windows": lambda: {"segments": Segments.from_lengths([16]), "grid_thw": [(1, 4, 4)], "window": (2, 2)},
    "attend": lambda: {"q": heads()["q"], "k": heads()["q"], "v": heads()["q"], "segments": heads()["segments"]},
    "choose": lambda: {**heads(), "want": "eager"},
    "collate": lambda: {"samples": [made_sample()], "pad_id": 0},
    "pack": lambda: {"samples": [made_sample()], "pad_id": 0},
    "pack_bins": lambda: {"lengths": [3, 2], "capacity": 8},
    "release_config": lambda: {"size": "tiny"},
    "saliency_options": lambda: {"name": "motion"},
    "boundary_f": lambda: {"predicted": torch.ones(4, 4).bool(), "target": torch.ones(4, 4).bool()},
    "average_precision": lambda: {"predicted": [1.0], "truth": [1.0], "tolerance": 0.1},
    "aggregate_jumpscore": lambda: {"rows": []},
    "jumpscore_row": lambda: {"prediction": "[1.0]", "answer": "[1.0]"},
    "temporal_row": lambda: {"prediction": "from 1 to 2", "answer": (1.0, 2.0)},
    "hota_counts": lambda: {"predicted_ids": [[1]], "target_ids": [[1]], "similarity": [[[1.0]]]},
    "plain_image_messages": lambda: {"messages": [{"role": "user", "content": "hello"}]},
    "cosine_with_warmup": lambda: {"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0), "steps": 4},
}

#: arguments of which 0 is a valid value
ZERO = {
    "Canvases": "fps",
    "BitCostGrouping": "target_groups bin_seconds min_seconds max_seconds smooth_bins",
    "LiveTokenizer": "delay_seconds",
    "BitCostGate": "quantile cooldown_seconds",
    "RunningGrouping": "delay_seconds smooth_bins threshold",
    "CodecTokenizer": "min_pixels rank_damping peak_weight smooth_bins",
    "FrameTokenizer": "min_pixels",
    "ImageTokenizer": "min_pixels",
    "MotionResidualSaliency": "bit_cost_weight",
    "RandomSaliency": "seed",
    "ReadinessGrouping": "min_gain threshold",
    "compare_predictions": "threshold seed",
    "evaluate_jumpscore": "rank",
    "SaliencyBlockSelector": "p_canvases rank_damping peak_weight",
    "TopKBlockSelector": "p_canvases",
    "VideoStream": "stream",
    "AttentionPool": "eps",
    "AveragePool": "eps",
    "ConvAbstractor": "depth eps",
    "MLPConnector": "eps",
    "PatchMerger": "eps",
    "PerceiverResampler": "eps",
    "QueryTransformer": "eps",
    "Block": "drop_path",
    "OneVisionEncoder": "norm_eps drop_path",
    "OneVisionViT": "num_classes drop_path_rate",
    "PoolingHead": "eps",
    "grid_positions": "t h w",
    "smart_resize": "height width min_pixels max_pixels",
    "Sources": "val_share max_bad_share",
    "Tokens": "min_pixels rank_damping peak_weight decimals mirror",
    "Order": "seed",
    "Loading": "num_workers",
    "LitLlavaOneVision2": "answer_batches min_lr warmup_share weight_decay",
    "Processor": "decimals",
    "build_tokenizers": "rank_damping peak_weight min_pixels seed",
    "Sample": "record",
    "collate": "pad_id",
    "pack": "pad_id",
    "plain_image_messages": "decimals",
    "JAndF": "tolerance",
    "average_precision": "tolerance",
    "boundary_f": "tolerance",
    "Variant": "data_seed rank_damping peak_weight",
    "Difficulty": "hop feints rest drift snow noise lighting switches texture camouflage glow",
    "saliency_options": "seed",
    "depth_between": "least",
    "RegionGrowing": "reach",
    "Crop": "left top",
    "TrackingScene": "pace travel hops pillars drift noise texture",
    "event_shown": "start",
    "EventSaliency": "tolerance habit habit_quantile lasting echo spread",
    "QuerySaliency": "weight",
    "EventScene": "noise contrast camouflage",
    "cosine_with_warmup": "warmup_share min_lr",
}
#: (owner, argument) -> other labels of `WRONG` that are valid there although the annotation does not say so
VALID: dict[tuple[str, str], set[str]] = {
    ("ConversationData", "sources"): {"misspelt", "digits", "empty list"},  # a path there is deprecated
    ("RandomSaliency", "seed"): {"minus one"},
    ("saliency_options", "seed"): {"minus one"},
    ("build_tokenizers", "seed"): {"minus one"},
    ("ReadinessGrouping", "min_gain"): {"minus one"},
    ("ReadinessGrouping", "threshold"): {"minus one"},  # as in the release: not above 0 is none
    ("compare_predictions", "threshold"): {"minus one"},
    ("smart_resize", "height"): {"minus one"},  # as in the release: an empty picture
    ("smart_resize", "width"): {"minus one"},
    ("OneVisionEncoder", "global_layers"): {"empty list"},
    ("VisualLayout", "grids"): {"empty list"},
    ("VisualLayout", "groups"): {"empty list"},
    ("VisualLayout", "clips"): {"empty list"},
    ("Sample", "record"): {"minus one"},
    ("Processor", "mean"): {"minus one inside"},
}
for _owner, _arguments in ZERO.items():
    for _argument in _arguments.split():
        VALID.setdefault((_owner, _argument), set()).add("zero")
#: what a message calls an argument that is better known by another name
CALLED = {
    ("VideoFrames", "video"): "path, bytes or a binary file object",
    ("VideoStream", "source"): "path, bytes or a binary file object",
    ("choose", "want"): "backend",
    ("saliency_options", "name"): "saliency",
}

NAN = math.nan
WRONG: dict[str, Any] = {
    "misspelt": "startified",
    "digits": "6",
    "nan": NAN,
    "inf": math.inf,
    "-inf": -math.inf,
    "minus one": -1,
    "zero": 0,
    "one and a half": 1.5,
    "true": True,
    "none": None,
    "object": object(),
    "empty list": [],
    "mapping": {"startified": NAN},
}


class Hung(BaseException):
    """A call that does not come back."""


@contextmanager
def seconds_at_most(limit: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def public() -> Iterator[tuple[str, Any]]:
    """(name, class or function) of everything public, each once."""
    packages = [m.name for m in pkgutil.walk_packages(ov2kit.__path__, "ov2kit.") if m.ispkg]
    seen = set()
    for name in ["ov2kit", *packages, *ALSO]:
        module = importlib.import_module(name)
        for each in [*getattr(module, "__all__", []), *ALSO.get(name, [])]:
            thing = getattr(module, each)
            kind = inspect.isclass(thing) or inspect.isfunction(thing)
            if kind and id(thing) not in seen and each not in RECORDS | NOT_HERE:
                seen.add(id(thing))
                yield each, thing


def options(thing: Any) -> dict[str, Any]:
    """Annotation of each argument that is an option: all of a constructor's, of a function those that are no data."""
    call = thing.__init__ if inspect.isclass(thing) else thing
    try:
        hints = typing.get_type_hints(call)
    except NameError:  # a name that only a type checker imports
        hints = {name: each for name, each in call.__annotations__.items() if not isinstance(each, str)}
    found = {}
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        plain = flat(hints.get(name, Any)) <= {int, float, bool, str, type(None)} or is_choice(hints.get(name, Any))
        if inspect.isclass(thing) or plain or parameter.default is not parameter.empty:
            found[name] = hints.get(name, Any)
    return found


def members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [each for member in get_args(annotation) for each in members(member)]
    return [annotation]


def flat(annotation: Any) -> set[Any]:
    return {get_origin(each) or each for each in members(annotation)}


def is_choice(annotation: Any) -> bool:
    return any(get_origin(each) is Literal for each in members(annotation))


def allowed(annotation: Any, good: Any) -> set[str]:
    """Labels of `WRONG` that an annotation allows."""
    kinds, labels = flat(annotation), set()
    labels |= {"none"} if type(None) in kinds or good is None else set()
    any_length = Sequence in kinds or any(... in get_args(each) for each in members(annotation))
    labels |= {"one too many"} if any_length else set()
    labels |= {"true"} if bool in kinds else set()
    labels |= {"one and a half"} if float in kinds else set()
    labels |= {"misspelt", "digits"} if str in kinds else set()
    labels |= {"empty list"} if kinds & {list, Sequence} else set()
    labels |= {"mapping"} if kinds & {dict, Mapping} else set()
    return labels


def wrong_values(annotation: Any, good: Any) -> dict[str, Any]:
    """`WRONG`, and sequences like a good one with one number wrong, or one number too many."""
    values = dict(WRONG)
    if isinstance(good, tuple) and good and all(isinstance(n, int | float) for n in good):
        for label in ("misspelt", "nan", "inf", "minus one", "true"):
            values[f"{label} inside"] = (*good[:-1], WRONG[label])
        values["one too many"] = (*good, good[-1])
    return values


CASES = [
    pytest.param(owner, thing, argument, annotation, id=f"{owner}-{argument}")
    for owner, thing in public()
    for argument, annotation in options(thing).items()
]
_HEAVY = {"LitLlavaOneVision2", "build"}


@pytest.fixture(autouse=True, scope="module")
def elsewhere(tmp_path_factory):
    """What a call writes, it writes here."""
    with chdir(tmp_path_factory.mktemp("options")):
        yield


def call(owner: str, thing: Any, **changed: Any) -> Any:
    with seconds_at_most(20):
        return thing(**{**GIVEN.get(owner, dict)(), **changed})


def good_value(owner: str, thing: Any, argument: str) -> Any:
    given = GIVEN.get(owner, dict)()
    return given[argument] if argument in given else inspect.signature(thing).parameters[argument].default


@pytest.mark.parametrize(("owner", "thing"), [pytest.param(*each, id=each[0]) for each in public()])
def test_valid_arguments_are_taken(owner, thing):
    if options(thing):
        call(owner, thing)


@pytest.mark.filterwarnings(r"ignore:ConversationData\(path, option=:DeprecationWarning")
@pytest.mark.parametrize(("owner", "thing", "argument", "annotation"), CASES)
def test_wrong_values_are_refused_by_name(owner, thing, argument, annotation):
    valid = VALID.get((owner, argument), set())
    taken, raw = [], []
    good = good_value(owner, thing, argument)
    name = CALLED.get((owner, argument), argument)
    for label, value in wrong_values(annotation, good).items():
        may = label in allowed(annotation, good) or label in valid
        if may and label not in valid and owner in _HEAVY:
            continue
        try:
            call(owner, thing, **{argument: value})
        except (ValueError, TypeError) as error:
            if not isinstance(error, Ov2kitError) or not (may or name in str(error)):
                raw.append(f"{label}: {type(error).__name__}: {error}")
            elif label in valid:
                raw.append(f"{label} should be valid: {error}")
        except Exception as error:
            raw.append(f"{label}: {type(error).__name__}: {error}")
        except Hung:
            raw.append(f"{label}: hangs")
        else:
            if not may:
                taken.append(label)
    assert not taken, f"{owner}({argument}=...) takes {taken}"
    assert not raw, f"{owner}({argument}=...): " + "; ".join(raw)


def test_the_table_of_valid_values_is_not_stale():
    arguments = {(owner, argument) for owner, thing in public() for argument in options(thing)}
    assert set(VALID) <= arguments
    assert set(GIVEN) <= {owner for owner, _ in arguments}
    assert len(arguments) > 300  # the walk still finds them
