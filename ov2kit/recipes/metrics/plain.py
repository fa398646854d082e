"""Arrays and tensors as plain Python values, which compare and hash by what they hold."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def plain(value: Any) -> Any:
    """A value with every array, tensor and NumPy scalar in it as lists and numbers.

    A tensor is compared by identity: two of equal value are two keys, and ``isinstance(x, float)`` is false
    for it. So whatever is looked up, compared or counted goes through here first.

    Args:
        value: numbers, text, tensors (any device), arrays, or lists and tuples of them, nested at will;
            other objects come back as they are.

    Returns:
        Lists in the place of arrays and tuples. A float of less than 64 bits becomes the shortest decimal
        that it stands for, so 0.35 is 0.35 whether it comes as a number or in a float32 tensor.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            value = np.asarray(value).astype(np.str_).astype(np.float64)
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def tensor(value: ArrayLike | Tensor) -> Tensor:
    """A tensor as it is, an array without a copy, or (nested) lists of numbers, arrays and tensors."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor | np.ndarray) for item in value):
        return torch.stack([tensor(item) for item in value])
    return torch.as_tensor(value)
