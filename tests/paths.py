"""Where things are: the project, its stored references, its sample clip."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
SAMPLE = ROOT / "ov2kit" / "codec" / "sample" / "bbb_360p.mp4"


def read_golden(name: str) -> Any:
    """A stored reference: JSON as it is, `.npz` as NumPy arrays, `.safetensors` as tensors."""
    path = GOLDEN / name
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    return load_file(path)
