"""preprocessor_config.json of a model directory: what a picture is before it becomes patches.

Source: the Qwen2-VL image processor of transformers, which the release uses, with codec defaults of
its own under "codec". Keys that are not read here are kept and written back.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ov2kit.canvases import CLIP_MEAN, CLIP_STD
from ov2kit.errors import CheckpointError
from ov2kit.files import check_file, kind_of, write_text

FILE = "preprocessor_config.json"
OWN = "ov2kit"  # where options that no other tool knows are kept


@dataclass(frozen=True)
class PreprocessorFacts:
    """How pictures are cut and normalized.

    Args:
        patch: patch edge in pixels.
        merge: patches per block edge.
        mean: per channel, for pixels in [0, 1].
        std: per channel.
        min_pixels: smallest canvas area of pictures and sampled frames.
        max_pixels: largest.
        codec: options of the codec front end under its own names.
        own: options of `Processor`.
        rest: the whole file as it was read.
    """

    patch: int = 14
    merge: int = 2
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    min_pixels: int = 3136
    max_pixels: int = 150_000
    codec: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)

    def codec_options(self) -> dict[str, Any]:
        """Options of a `CodecTokenizer` that the codec front end of the release has as well."""
        names = {
            "target_canvas": "budget_canvases",
            "images_per_group": "canvases_per_group",
            "min_pixels": "min_pixels",
            "max_pixels": "max_pixels",
        }
        return {ours: self.codec[theirs] for theirs, ours in names.items() if _is_count(self.codec.get(theirs))}


def read_preprocessor(directory: str | os.PathLike[str]) -> PreprocessorFacts:
    """Facts of a model directory.

    Raises:
        CheckpointError: the file is missing, no JSON, or a value in it is impossible.
    """
    path = Path(directory).expanduser() / FILE
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: no such directory; give the directory of a downloaded model")
    if kind_of(path) is None:
        raise CheckpointError(f"{path.parent}: no {FILE} there; it says patch size and normalization")
    check_file(path, "a JSON file", CheckpointError)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(facts).__name__}")
    size = facts.get("size") if isinstance(facts.get("size"), dict) else {}
    assert isinstance(size, dict)
    default = PreprocessorFacts()
    if facts.get("temporal_patch_size", 1) != 1:
        raise CheckpointError(f"{path}: temporal_patch_size must be 1, got {facts['temporal_patch_size']}")

    def count(name: str, *elsewhere: Any, otherwise: int) -> int:
        value = next((v for v in (facts.get(name), *elsewhere) if v is not None), otherwise)
        if not _is_count(value):
            raise CheckpointError(f"{path}: {name} must be a whole number above 0, got {value!r}")
        return int(value)

    def channels(name: str, otherwise: Sequence[float]) -> tuple[float, ...]:
        value = facts.get(name, otherwise)
        is_three = isinstance(value, Sequence) and len(value) == 3 and all(isinstance(v, int | float) for v in value)
        if not is_three or (name == "image_std" and 0 in value):
            raise CheckpointError(f"{path}: {name} must be three numbers (no 0 in image_std), got {value!r}")
        return tuple(float(v) for v in value)

    def mapping(name: str) -> dict[str, Any]:
        value = facts.get(name) or {}
        if not isinstance(value, dict):
            raise CheckpointError(f"{path}: {name} must be a JSON object, got {value!r}")
        return value

    return PreprocessorFacts(
        patch=count("patch_size", otherwise=default.patch),
        merge=count("merge_size", otherwise=default.merge),
        mean=channels("image_mean", CLIP_MEAN),
        std=channels("image_std", CLIP_STD),
        min_pixels=count("min_pixels", size.get("shortest_edge"), otherwise=default.min_pixels),
        max_pixels=count("max_pixels", size.get("longest_edge"), otherwise=default.max_pixels),
        codec=mapping("codec"),
        own=mapping(OWN),
        rest=facts,
    )


def write_preprocessor(directory: str | os.PathLike[str], facts: PreprocessorFacts) -> Path:
    """Write `preprocessor_config.json`: what was read, with the facts as they are now."""
    written = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        **facts.rest,
        "patch_size": facts.patch,
        "merge_size": facts.merge,
        "temporal_patch_size": 1,
        "image_mean": list(facts.mean),
        "image_std": list(facts.std),
        "min_pixels": facts.min_pixels,
        "max_pixels": facts.max_pixels,
        "codec": dict(facts.codec),
        OWN: dict(facts.own),
    }
    if isinstance(written.get("size"), dict):
        edges = {"shortest_edge": facts.min_pixels, "longest_edge": facts.max_pixels}
        written["size"] = {**written["size"], **edges}
    path = Path(directory) / FILE
    write_text(path, json.dumps(written, indent=2) + "\n")
    return path


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
