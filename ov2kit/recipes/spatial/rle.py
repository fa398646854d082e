"""Masks as run lengths, in the form that COCO and the video sets use.

The coding itself is that of pycocotools, which wrote the form and still keeps it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.errors import DataError, MissingExtraError

Mask = NDArray[np.bool_]
#: {"size": [height, width], "counts": text}
Rle = dict[str, Any]


def encode_mask(mask: Mask) -> Rle:
    """(H, W) bool -> run lengths that JSON can hold."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask must be (H, W) bool, got {mask.shape} {mask.dtype}")
    coded = _coder().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": coded["counts"].decode("ascii")}


def decode_mask(given: object) -> Mask:
    """Run lengths -> (H, W) bool.

    Args:
        given: {"size", "counts"} with counts as text, bytes or a list of numbers, or a list of such whose union counts.

    Raises:
        DataError: another form.
    """
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) and given:
        parts = [decode_mask(part) for part in given]
        if len({part.shape for part in parts}) > 1:
            raise DataError(f"masks of one object have {sorted({part.shape for part in parts})}; expected one size")
        union: Mask = np.logical_or.reduce(parts)
        return union
    if not isinstance(given, Mapping) or "size" not in given or "counts" not in given:
        raise DataError(f"a mask must be run lengths with 'size' and 'counts', got {str(given)[:40]!r}")
    try:
        height, width = (int(side) for side in given["size"])
        counts = given["counts"]
        coder = _coder()
        if isinstance(counts, (list, tuple)):
            runs = [int(n) for n in counts]
            if min(runs, default=0) < 0 or sum(runs) != height * width:
                raise ValueError(f"runs of {sum(runs)} pixels")
            coded = coder.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        else:
            coded = {"size": [height, width], "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
            if int(coder.area([coded])[0]) > height * width:
                raise ValueError("more pixels than the mask has")
        mask: Mask = coder.decode(coded).astype(bool)
    except (ValueError, TypeError, AttributeError, UnicodeError) as error:
        raise DataError(f"run lengths of size {given['size']} cannot be read ({error})") from error
    return mask


def _coder() -> Any:
    try:
        from pycocotools import mask
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "masks as run lengths need pycocotools, which is not installed; run: pip install 'ov2kit[recipes]'"
        ) from error
    return mask
