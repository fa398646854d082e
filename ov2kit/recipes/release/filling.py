"""Tensors of a checkpoint -> the places of a model, all of them or an error that names what is wrong."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ov2kit.errors import CheckpointError
from ov2kit.recipes.release.names import Place
from ov2kit.recipes.release.tensors import TensorStore

_MANY = 6


def load(
    model: Any,
    wanted: list[Place],
    store: TensorStore,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Fill `wanted` parts of a model from files that hold these and nothing else.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape.
    """
    check_tensors(wanted, store.names, store.shape, str(store.path))
    separate = [place for place in wanted if _differs_from_twin(place, store)]

    def read(place: Place) -> Tensor:
        parts = [store.read(part, dtype, device) for part in place.parts]
        return place.join(parts, model.get_parameter(place.name).shape) if len(parts) > 1 else parts[0]

    fill(model, wanted, read)
    for place in separate:
        assert place.alias is not None
        owner, _, leaf = place.alias.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(store.read(place.alias, dtype, device)))
        model.language_model.config.tie_word_embeddings = model.config.tie_word_embeddings = False


def fill(model: nn.Module, wanted: Iterable[Place], read: Callable[[Place], Tensor]) -> None:
    """Put tensors into a model, as they are; what is tied stays tied."""
    for place in wanted:
        owner_name, _, leaf = place.name.rpartition(".")
        owner = model.get_submodule(owner_name)
        old = getattr(owner, leaf)
        tensor = read(place)
        new = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        setattr(owner, leaf, new)
        if place.alias is not None:
            other, _, tail = place.alias.rpartition(".")
            setattr(model.get_submodule(other), tail, new)


def check_tensors(
    wanted: Iterable[Place], names: set[str], shape: Callable[[str], tuple[int, ...]], where: str
) -> None:
    """Compare what a model has with what a checkpoint holds.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape.
    """
    shapes = {part: size for place in wanted for part, size in zip(place.parts, place.shapes, strict=True)}
    allowed = {place.alias for place in wanted if place.alias is not None}
    missing = sorted(set(shapes) - names)
    unexpected = sorted(names - set(shapes) - allowed)
    wrong = [
        f"{name} is {list(shape(name))}, the config asks for {list(size)}"
        for name, size in sorted(shapes.items())
        if name in names and shape(name) != size
    ]
    complaints = [
        f"{len(found)} {what}: {', '.join(found[:_MANY])}{', ...' if len(found) > _MANY else ''}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if found
    ]
    if complaints:
        raise CheckpointError(f"{where}: the tensors do not fit the config; " + "; ".join(complaints))


def _differs_from_twin(place: Place, store: TensorStore) -> bool:
    """Whether the tensor that this one is tied to is stored with values of its own."""
    if place.alias is None or place.alias not in store.names:
        return False
    if torch.equal(store.read(place.parts[0]), store.read(place.alias)):
        return False
    warnings.warn(
        f"{store.path}: the config ties {place.alias} to {place.parts[0]}, but both are stored and differ; "
        "they are kept apart",
        stacklevel=4,
    )
    return True
