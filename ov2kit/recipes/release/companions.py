"""The small files beside a model's weights: tokenizer, processor, chat template, and whatever came along.

As text by file name they travel inside Lightning checkpoints, so that a checkpoint alone can become a
directory that answers questions. Weights and what `save_pretrained` writes itself are not among them.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ov2kit.errors import CheckpointError
from ov2kit.files import is_safe_name

CONFIG = "config.json"
GENERATION = "generation_config.json"
#: what `save_pretrained` writes itself; everything else beside it belongs to tokenizer or processor
_WRITTEN = (CONFIG, GENERATION)
_WEIGHTS: tuple[str, ...] = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
)


def companion_files(folder: Path) -> list[Path]:
    """Files of a model directory that go with the weights, in order of their names.

    Raises:
        CheckpointError: there is no such directory.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: the directory with the files of tokenizer and processor is gone; name another with files_from"
        )
    return [file for file in sorted(folder.iterdir()) if file.is_file() and _goes_along(file.name)]


def read_companions(folder: Path) -> dict[str, str]:
    """Those of them that are text, by name; others (a sentencepiece model, say) are left out."""
    found = {}
    for file in companion_files(folder):
        try:
            found[file.name] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def companions_of(processor: Any) -> dict[str, str]:
    """What a `Processor` writes, as text by file name."""
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        return read_companions(Path(folder))


def write_companions(files: Mapping[str, str], folder: Path) -> None:
    """Put them into a directory.

    Raises:
        CheckpointError: a name that leads elsewhere, or a file that is none of these.
    """
    for name, text in files.items():
        if not is_safe_name(name) or not _goes_along(name) or not isinstance(text, str):
            raise CheckpointError(f"{name!r}: not the name of a tokenizer's or processor's file; nothing was written")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _goes_along(name: str) -> bool:
    return name not in _WRITTEN and not name.startswith(".") and not name.endswith(_WEIGHTS)
