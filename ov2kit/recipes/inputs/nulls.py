"""Null is absent: what tables write where a row has no value, taken out of records and messages.

Arrow, `datasets` and pandas give every row every column of the table, at every depth: a column that another
row uses stands there as null (NaN where pandas made floats of it), and a struct as one of nulls alone.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_MISSING = ("NAType", "NaTType")  # of pandas, known by name so that pandas need not be there


def is_null(value: Any) -> bool:
    """Whether a value is none: None, NaN, or what pandas writes for a missing one."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _MISSING


def without_nulls(value: Any) -> Any:
    """A copy of mappings and lists in which nulls do not stand, at any depth.

    A mapping with nothing but nulls is null itself; nulls in a list are left out of it. Scalars and
    lists of numpy (as Parquet files are read) become plain ones. Pictures, canvases and other objects
    are handed on as they are.

    Returns:
        The copy, or None where all of it is null.
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.dtype.kind in "OU"):
        value = value.tolist()
    if is_null(value):
        return None
    if isinstance(value, Mapping):
        kept = {key: v for key, each in value.items() if (v := without_nulls(each)) is not None}
        return kept if kept or not value else None
    if isinstance(value, list | tuple):
        return [v for each in value if (v := without_nulls(each)) is not None]
    return value
