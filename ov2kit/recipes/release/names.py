"""What the tensors of a model are called in a released checkpoint.

Source: tensor names of LLaVA-OneVision-2 (`model.visual.*`, `model.language_model.*`, `lm_head.weight`);
of a mixture of experts the files hold one tensor per expert and projection, where transformers keeps
all experts of a layer in one.
Letters: E experts, F their hidden width, C width.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_EXPERTS = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)$")
_EXPERT_PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


@dataclass(frozen=True)
class Place:
    """Where one tensor of a model stands in a release.

    Args:
        name: of the tensor in the model's state dict.
        parts: names in the release: one, or per expert its projections.
        shapes: of the parts.
        alias: name of a tensor that is tied to this one and usually left out.
    """

    name: str
    parts: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    alias: str | None = None

    def join(self, tensors: list[Tensor], shape: torch.Size) -> Tensor:
        """The model's tensor from its parts."""
        if len(self.parts) == 1:
            return tensors[0]
        return torch.cat(tensors).view(shape)

    def split(self, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(name in the release, view of the model's tensor) of every part."""
        if len(self.parts) == 1:
            yield self.parts[0], tensor
            return
        rows = tensor.flatten(0, 1).split([shape[0] for shape in self.shapes])  # type: ignore[no-untyped-call]
        yield from zip(self.parts, rows, strict=True)


def places(model: nn.Module) -> list[Place]:
    """The place of every tensor of a `LlavaOneVision2`; tied tensors are named once."""
    seen: dict[int, int] = {}
    found: list[Place] = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            first = found[seen[id(tensor)]]
            found[seen[id(tensor)]] = Place(first.name, first.parts, first.shapes, name)
            continue
        seen[id(tensor)] = len(found)
        found.append(_place(name, tensor.shape))
    return found


def _place(name: str, shape: torch.Size) -> Place:
    match = _EXPERTS.match(name)
    if match is None or len(shape) != 3:
        return Place(name, (name,), (tuple(shape),))
    layer, kind = match.groups()
    projections = _EXPERT_PARTS[kind]
    parts = tuple(f"{layer}.{expert}.{part}.weight" for expert in range(shape[0]) for part in projections)
    return Place(name, parts, ((shape[1] // len(projections), shape[2]),) * len(parts))


def part_name(model: Any, name: str) -> str:
    """A tensor's name by its part: `encoder.x`, `connector.x`, `language_model.x`.

    Learning rates go by these, and checkpoints of `ov2kit fit` of version 1 have them.
    """
    language = f"language_model.{model.language_model.base_model_prefix}."
    for start, part in (
        ("model.visual.merger.", "connector."),
        ("model.visual.", "encoder."),
        ("model.connector.", "connector."),
        ("model.language_model.", language),
    ):
        if name.startswith(start):
            return part + name.removeprefix(start)
    return f"language_model.{name}"


def from_part_names(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the model's own names, of one under these or under those of version 1."""
    own = {part_name(model, name): name for name in model.state_dict()}
    return {own.get(name, name): tensor for name, tensor in state.items()}


def to_release(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of a model, or of a state dict of it, under the release's names, as views."""
    state = model.state_dict() if state is None else state
    return {part: view for place in places(model) for part, view in place.split(state[place.name])}
