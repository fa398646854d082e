"""Parts of models whose weights have no memory yet, to be filled from files.

Everything is made on the meta device, which torch chooses per thread: other threads make their layers
as usual meanwhile. What no checkpoint stores, such as the frequencies of a rotary embedding, is
computed afterwards by the rule that transformers has for its own loading.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ov2kit.recipes.architecture.parts import Parts, build_parts


def build_weightless(config: Mapping[str, Any], *, attention: str | None = None) -> Parts:
    """The parts that a release config describes, their state dict on the meta device and all else computed.

    Changes nothing outside them: no function of torch, no default and no random state.

    Args:
        config: a release config.
        attention: `attn_implementation` of the language model; transformers chooses when omitted.

    Raises:
        ValueError: sizes that do not fit, or a language model that does not say how to compute what
            no checkpoint stores.
    """
    with torch.device("meta"):
        parts = build_parts(config, attention=attention)
    cast(Any, parts.language_model).tie_weights()  # some versions of transformers do not tie on the meta device
    for name, owner, module in _with_owners(parts.language_model):
        _compute(name, owner, module)
    return parts


def _with_owners(language_model: nn.Module) -> Iterator[tuple[str, Any, nn.Module]]:
    """(name, the model of transformers that it is part of, module) of each module that holds what is not stored."""
    from transformers import PreTrainedModel

    models = {name: module for name, module in language_model.named_modules() if isinstance(module, PreTrainedModel)}
    for name, module in language_model.named_modules():
        if module._non_persistent_buffers_set:
            owners = [at for at in models if name == at or name.startswith(f"{at}.") or not at]
            yield name, models[max(owners, key=len)], module


def _compute(name: str, owner: Any, module: nn.Module) -> None:
    """Fill the buffers of one module that no checkpoint stores.

    The rule writes into what is there. It runs on zeros and on ones: where the results differ, it
    left something out.
    """
    empty = {key: b for key in module._non_persistent_buffers_set if (b := module._buffers[key]) is not None}
    results: list[list[Tensor]] = []
    for start in (0, 1):
        module._buffers.update({key: torch.full_like(b, start, device="cpu") for key, b in empty.items()})
        owner._init_weights(module)
        results.append([module.get_buffer(key) for key in empty])
    for key, first, second in zip(empty, *results, strict=True):
        if not torch.equal(first, second):
            raise ValueError(f"{type(owner).__name__} does not say how to compute {name}.{key}, which no file stores")
