"""The gradient of a step: that of a sum over tokens, until the tokens of the whole step are known; then of their mean.

A step's batches, of all processes, have any number of supervised tokens each: a mean of their means would be another
step than that of the whole.
"""

import math
from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

#: sums over tokens are divided by this until the tokens of the whole step are known
SCALE = 1024.0


def take_mean(parameters: Iterable[nn.Parameter], factor: float | Tensor, clip: float | None) -> Tensor:
    """Turn the gradients of sums into those of the mean, in place, then clip them together.

    Args:
        parameters: those that have a gradient.
        factor: what each gradient is multiplied by: `SCALE`, over the tokens, and what else it was divided by.
        clip: largest norm of all gradients together; none for None or 0.

    Returns:
        () the norm before it was clipped.
    """
    learning = list(parameters)
    for parameter in learning:
        cast(Tensor, parameter.grad).mul_(factor)
    norm = nn.utils.clip_grad_norm_(learning, clip or math.inf)
    return cast(Tensor, norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
