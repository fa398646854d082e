"""Positions to rotations: 3D RoPE, its ablations, and the order of tokens.

Every position module has one interface (`Positions`): `module(positions) -> (cos, sin) or None`,
`module.embed(x, positions) -> x` and `module.pairing`, so one can stand in for another.
"""

from typing import Any

from ov2kit.errors import deprecated
from ov2kit.geometry import from_block_layout, grid_positions, to_block_layout
from ov2kit.positional import rotation
from ov2kit.positional.interface import Positions
from ov2kit.positional.learned import LearnedPositions, NoPositions
from ov2kit.positional.mrope import MRoPE
from ov2kit.positional.positions import packed_positions, times_in_seconds, virtual_frames
from ov2kit.positional.rope3d import RoPE3D
from ov2kit.positional.rotation import apply_rope, rotate

__all__ = [
    "LearnedPositions",
    "MRoPE",
    "NoPositions",
    "Positions",
    "RoPE3D",
    "apply_rope",
    "from_block_layout",
    "grid_positions",
    "packed_positions",
    "rotate",
    "times_in_seconds",
    "to_block_layout",
    "virtual_frames",
]


def __getattr__(name: str) -> Any:
    if name in ("rotate_", "rotate_for_inference"):
        deprecated(f"ov2kit.positional.{name}", "apply_rope, or GroupVisibleAttention, which calls it", "0.2")
        return getattr(rotation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
