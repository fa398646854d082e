"""The three parts of a model under the names of the release, and still whole.

A release puts the layers of the tower under `model.visual`, the merger among them, and those of the language
model under `model.language_model` and beside it (`lm_head`). Here each part stays the object that was passed,
out of the tree of modules; its layers are in the tree, under those names. What replaces a layer in one of the
two (an adapter, a resized head) is taken over by the other as soon as the part is used or the whole is saved.
"""

from collections.abc import Iterable
from typing import Any, cast

from torch import nn


class Shared:
    """One layer that both a part and the tree have, each under a name of its own.

    Args:
        part: has it as `name`.
        name: there.
        tree: gets it as `here`.
        here: `name` when omitted.
    """

    def __init__(self, part: nn.Module, name: str, tree: nn.Module, here: str | None = None) -> None:
        self.part, self.name, self.tree, self.here = part, name, tree, here or name
        self.seen = tree._modules[self.here] = part._modules[name]

    def agree(self) -> None:
        """Let the one that was changed since the last time prevail; the tree if both were."""
        theirs, ours = self.part._modules[self.name], self.tree._modules[self.here]
        if theirs is not ours:
            self.seen = theirs if ours is self.seen else ours
            self.part._modules[self.name] = self.tree._modules[self.here] = self.seen


class Whole:
    """A part as it was passed, whose layers are in the tree.

    Args:
        part: the module.
        shared: what it and the tree have.
        owner: whose mode (training or not) the part has.
    """

    def __init__(self, part: nn.Module, shared: Iterable[Shared], owner: nn.Module) -> None:
        self._part, self.shared, self.owner = part, list(shared), owner
        self.seen = owner.training = part.training

    def get(self) -> Any:
        """The part, up to date."""
        for layer in self.shared:
            layer.agree()
        theirs, ours = self._part.training, self.owner.training
        if theirs != ours:
            self.seen = theirs if ours == self.seen else ours
            self._part.training = self.owner.training = self.seen
        return self._part


class Visual(nn.Module):
    """The layers of an encoder, and a merger among them if that is the connector.

    Args:
        encoder: any; its layers and tensors are shared.
        merger: the released connector.
    """

    def __init__(self, encoder: nn.Module, merger: nn.Module | None) -> None:
        super().__init__()
        self._parameters, self._buffers = encoder._parameters, encoder._buffers
        self._non_persistent_buffers_set = encoder._non_persistent_buffers_set
        self._whole = Whole(encoder, [Shared(encoder, name, self) for name in encoder._modules], self)
        if merger is not None:
            self.merger = merger

    @property
    def whole(self) -> nn.Module:
        """The encoder."""
        return cast(nn.Module, self._whole.get())

    @property
    def windowed(self) -> bool:
        return bool(getattr(self.whole, "windowed", False))

    def visibility(self, grid_thw: Any) -> Any:
        """Segments of an encoder that makes them of grid rows."""
        return cast(Any, self.whole).visibility(grid_thw)

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.whole(*args, **options)
