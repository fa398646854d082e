"""Floating point operations of one training step, counted from shapes.

Counted: matrix products of the encoder, the connector and the language model, and attention. Not
counted: what is recomputed, norms, activations. A multiply and an add are two operations.
"""

from collections.abc import Iterable
from typing import Any, cast

from torch import nn


def matrix_parameters(module: nn.Module) -> int:
    """Parameters that every row is multiplied with: matrices of linear layers and convolutions."""
    layers = (m for m in module.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd))
    return sum(  # by their widths: weights in 4 bits are packed
        m.in_features * m.out_features if isinstance(m, nn.Linear) else m.weight.numel() for m in layers
    )


def attention_operations(lengths: Iterable[int], width: int, layers: int, causal: bool = False) -> float:
    """Scores and their sums over the values, forward only; a causal mask halves them.

    Args:
        lengths: tokens of each run that sees itself.
        width: heads times channels per head.
        layers: how many layers do it.
    """
    return 4.0 * width * layers * sum(n * n for n in lengths) * (0.5 if causal else 1.0)


def step_operations(
    model: nn.Module, patches: Iterable[int], tokens: int, text: Iterable[int], rows: int
) -> tuple[float, float]:
    """Operations of forward and backward, in matrix products with weights and in attention.

    The backward pass of a product costs as much as the forward for the gradient of the weights, if
    they learn, and for that of the input, if something of this part or before it learns. Attention
    has two inputs for each of its products, and no weights.

    Args:
        model: with `encoder`, `connector`, `language_model`.
        patches: patches of each run of the encoder that sees itself.
        tokens: visual tokens that leave the connector.
        text: tokens of each sample in the language model.
        rows: positions for which logits are computed.
    """
    runs, samples = list(patches), list(text)
    parts = cast(Any, model)
    language = parts.language_model.config.get_text_config()
    heads = language.num_attention_heads
    channels = heads * (getattr(language, "head_dim", None) or language.hidden_size // heads)
    head = parts.language_model.get_output_embeddings()
    head_size = head.weight.numel() if head is not None else 0
    body = matrix_parameters(parts.language_model) - head_size
    width, depth = getattr(parts.encoder, "width", 0), getattr(parts.encoder, "depth", 0)
    forward = {
        "encoder": (
            2.0 * matrix_parameters(parts.encoder) * sum(runs),
            attention_operations(runs, width, depth),
        ),
        "connector": (2.0 * matrix_parameters(parts.connector) * tokens, 0.0),
        "language_model": (
            2.0 * (body * sum(samples) + head_size * rows),
            attention_operations(samples, channels, language.num_hidden_layers, causal=True),
        ),
    }
    products = attention = 0.0
    flows = False
    for part, (weighted, unweighted) in forward.items():
        learns = any(p.requires_grad for p in getattr(model, part).parameters())
        flows = flows or learns
        products += weighted * (1 + flows + learns)
        attention += unweighted * (3 if flows else 1)
    return products, attention
