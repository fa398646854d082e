"""Splitting and compiling a model block by block: FSDP2, torch.compile.

A block is one layer of the encoder or of the language model. Everything else (embeddings, connector,
head) is one group, gathered once per step.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Layers of the encoder and of the language model: the entries of their lists of equal modules."""
    for part in ("encoder", "language_model"):
        for module in getattr(model, part).modules():
            if isinstance(module, nn.ModuleList) and len(module) and len({type(layer) for layer in module}) == 1:
                yield from module


def compile_blocks(model: nn.Module) -> int:
    """torch.compile on every block, in place: names of parameters stay as they are.

    Returns:
        How many blocks; equal ones share the compiled code.
    """
    found = list(blocks(model))
    for block in found:
        block.compile(dynamic=True)
    return len(found)


def shard(model: nn.Module, mesh: Any, half: bool = False) -> None:
    """FSDP2 over the mesh: every block its own group, the rest one group.

    Args:
        model: with `encoder` and `language_model`; its parameters become shards.
        mesh: one-dimensional device mesh of the processes that share the data.
        half: gather and compute in bfloat16, reduce gradients in float32.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    kind = torch.bfloat16 if half else None
    policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32 if half else None)
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "generate")
