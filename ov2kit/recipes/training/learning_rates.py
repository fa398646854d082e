"""Which parameters learn how fast: a learning rate for each part of the model.

A part is a prefix of parameter names (`connector`, `encoder.blocks.3`); the longest one that fits
wins, and what no part names is frozen. A stage's YAML gives its rates as `model.train`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ov2kit.errors import check_number, check_type

_ALL = {"encoder": 1e-5, "connector": 1e-5, "language_model": 1e-5}


def learning_rates(train: Mapping[str, float] | None) -> dict[str, float]:
    """The rate of each part as a stage gives it; every part at 1e-5 when omitted.

    Raises:
        OptionError: not a mapping, or a rate that is no number of at least 0.
    """
    check_type("train", train, Mapping, "a mapping of parts to learning rates", optional=True)
    for part, rate in (train or {}).items():
        check_number(f"train[{part!r}]", rate, low=0)
    return dict(_ALL if train is None else train)


def named_by_part(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters, each under the name that begins with its part."""
    name_of = getattr(model, "part_name", str)
    for name, parameter in model.named_parameters():
        yield name_of(name), parameter


def part_of(name: str, parts: Mapping[str, float]) -> str | None:
    """The longest part that `name` is in, whole words between dots; None when no part has it."""
    inside = [part for part in parts if name == part or name.startswith(f"{part}.")]
    return max(inside, key=len, default=None)


def learns(name: str, parts: Mapping[str, float]) -> bool:
    """Whether a parameter learns, by its name that begins with its part."""
    place = part_of(name, parts)
    return place is not None and parts[place] > 0


def freeze_all_but(model: nn.Module, parts: Mapping[str, float]) -> None:
    """Let exactly the parameters of `parts` learn; a part with rate 0, and quantized weights, stay frozen too.

    Args:
        model: whose parameters get `requires_grad` set.
        parts: learning rate of each part.

    Raises:
        ValueError: a part that no parameter is in, a rate below 0, or nothing left to learn.
    """
    names = [name for name, _ in named_by_part(model)]
    for part, rate in parts.items():
        if not any(part_of(name, {part: rate}) for name in names):
            known = ", ".join(sorted({name.split(".")[0] for name in names}))
            raise ValueError(f"no parameter is in the part {part!r}; expected the start of a name in {known}")
        check_number(f"the learning rate of {part!r}", rate, low=0)
    for name, parameter in named_by_part(model):
        parameter.requires_grad_(learns(name, parts) and parameter.is_floating_point())
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"nothing is left to learn with {dict(parts)}; give at least one part a rate above 0")


def parameter_groups(model: nn.Module, parts: Mapping[str, float], weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Groups for an optimizer: per part, matrices with weight decay, then norms and biases without.

    Args:
        model: after `freeze_all_but`; only parameters that ask for a gradient are taken.
        parts: learning rate of each part.
        weight_decay: of parameters with at least two dimensions.

    Returns:
        Dicts of `params`, `lr`, `weight_decay`, `part`; in the order of `parts`, none of them empty.
    """
    learning = [(name, p) for name, p in named_by_part(model) if p.requires_grad]
    groups = []
    for part, rate in parts.items():
        inside = [parameter for name, parameter in learning if part_of(name, parts) == part]
        for decays in (True, False):
            chosen = [parameter for parameter in inside if (parameter.ndim >= 2) == decays]
            if chosen:
                decay = weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "part": part})
    return groups
