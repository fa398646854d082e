"""AdamW over the parts of a model, and a cosine with warm-up."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ov2kit.errors import check_number, check_numbers
from ov2kit.recipes.training.learning_rates import parameter_groups


def adamw(
    model: nn.Module,
    parts: Mapping[str, float],
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-5,
    weight_decay: float = 0.0,
) -> AdamW:
    """AdamW over `parameter_groups(model, parts, weight_decay)`.

    Raises:
        OptionError: `betas` or `eps` out of range.
    """
    check_numbers("betas", betas, length=2, low=0, below=1)
    check_number("eps", eps, above=0)
    check_number("weight_decay", weight_decay, low=0)
    return AdamW(parameter_groups(model, parts, weight_decay), betas=betas, eps=eps)


def cosine_share(step: int, steps: int, warmup: int) -> float:
    """Share of the way from the least to the full rate: 0 to 1 over the warm-up, then a cosine to 0.

    Args:
        step: updates done so far; 0 gives 1 / `warmup`, the last update (steps - 1) gives 0.
        steps: updates of the whole run; later ones stay at 0.
        warmup: updates until the full rate is reached.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return 0.5 * (1 + math.cos(math.pi * done))


def cosine_with_warmup(optimizer: Optimizer, steps: int, warmup_share: float = 0.002, min_lr: float = 0.0) -> LambdaLR:
    """Every group from its own rate down to `min_lr` over `steps` updates, after a linear warm-up from 0.

    Args:
        optimizer: its groups' `lr` are the full rates.
        steps: updates of the whole run.
        warmup_share: of `steps`, rounded up.
        min_lr: rate of the last update; a group with a lower full rate stays at that one.

    Raises:
        ValueError: no steps, or a share outside [0, 1).
    """
    check_number("steps", steps, low=1, integer=True)
    check_number("warmup_share", warmup_share, low=0, below=1)
    check_number("min_lr", min_lr, low=0)
    warmup = min(math.ceil(warmup_share * steps - 1e-9), steps - 1)

    def factor_for(rate: float) -> Any:
        floor = min(min_lr / rate, 1.0) if rate else 1.0

        def factor(step: int) -> float:
            share = cosine_share(step, steps, warmup)
            return share if step < warmup else floor + (1 - floor) * share

        return factor

    return LambdaLR(optimizer, [factor_for(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups])
