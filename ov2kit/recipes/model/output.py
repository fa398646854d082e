"""What a forward gives, and its loss. Letters: B rows, S text length, M visual tokens, V vocabulary."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

from ov2kit.recipes.prompt.sample import IGNORE


@dataclass
class Output(CausalLMOutputWithPast):
    """What a forward gives.

    Args:
        loss: () float32 mean cross entropy of the supervised tokens, or None without labels.
        logits: (B, S, V), or (B, kept, V) where only some positions were asked for.
        past_key_values: the cache, where it was asked for; as are the next two.
        hidden_states: of the language model's layers.
        attentions: of the same.
        visual_tokens: M, on the host.
    """

    visual_tokens: int | None = None


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """() float32 mean over the targets (B, S) that are not -100, of logits (B, S, V); 0 if there are none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)
