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

    It refers to neither of them: a model that referred to itself would stay in memory when nobody needs it any more.

    Args:
        part: has it as `name`.
        name: there.
        tree: gets it as `here`.
        here: `name` when omitted.
        below: the child of the part's owner that is this tree; the owner itself when empty.
    """

    def __init__(self, part: nn.Module, name: str, tree: nn.Module, here: str | None = None, below: str = "") -> None:
        self.name, self.here, self.below = name, here or name, below
        self.seen = tree._modules[self.here] = part._modules[name]

    def agree(self, part: nn.Module, owner: nn.Module) -> None:
        """Let the one that was changed since the last time prevail; the tree if both were."""
        tree: Any = owner._modules[self.below] if self.below else owner
        theirs, ours = part._modules[self.name], tree._modules[self.here]
        if theirs is not ours:
            self.seen = theirs if ours is self.seen else ours
            part._modules[self.name] = tree._modules[self.here] = self.seen


class Whole:
    """A part as it was passed, whose layers are in the tree.

    Args:
        part: the module.
        shared: what it and the tree have.
    """

    def __init__(self, part: nn.Module, shared: Iterable[Shared]) -> None:
        self._part, self.shared = part, list(shared)
        self.seen = part.training

    def get(self, owner: nn.Module, moded: nn.Module) -> Any:
        """The part, up to date.

        Args:
            owner: has the layers.
            moded: whose mode (training or not) the part has.
        """
        for layer in self.shared:
            layer.agree(self._part, owner)
        theirs, ours = self._part.training, moded.training
        if theirs != ours:
            self.seen = theirs if ours == self.seen else ours
            self._part.training = moded.training = self.seen
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
        self._whole = Whole(encoder, [Shared(encoder, name, self) for name in encoder._modules])
        self.training = encoder.training
        if merger is not None:
            self.merger = merger

    @property
    def whole(self) -> nn.Module:
        """The encoder."""
        return cast(nn.Module, self._whole.get(self, self))

    @property
    def windowed(self) -> bool:
        return bool(getattr(self.whole, "windowed", False))

    def visibility(self, grid_thw: Any) -> Any:
        """Segments of an encoder that makes them of grid rows."""
        return cast(Any, self.whole).visibility(grid_thw)

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.whole(*args, **options)
