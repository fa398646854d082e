"""How much memory LoRA beside frozen weights should take, added up from shapes."""

from torch import nn

from benchmarks._finetuning.drawn import empty

GB = 1e9
#: bytes of a frozen linear layer of n numbers and `out` rows
BYTES = {
    "bf16": lambda n, out: 2 * n,
    "int8": lambda n, out: n + 4 * out,  # a scale for each row
    "nf4": lambda n, out: n / 2 + n / 64 + 4 * n / 64 / 256,  # an 8-bit scale for 64 numbers, a scale for 256 of these
}
_LEARNED = 4 + 4 + 8  # bytes of a number in float32, its gradient and its two moments


def linear_shapes(config):
    """(numbers of the whole model, (inputs, outputs) of every linear layer but the head)."""
    model = empty(config)
    linear = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and not name.endswith("lm_head")]
    return sum(p.numel() for p in model.parameters()), [(m.in_features, m.out_features) for m in linear]


def computed(config, shapes, base, rank, tokens, patches):
    """What is held between two layers at work.

    Args:
        config: a release config.
        shapes: see `linear_shapes`.
        base: one of `BYTES`.
        rank: of the adapters, which every linear layer but the head has.
        tokens: of the row in the language model.
        patches: of the row in the encoder.

    Returns:
        Gigabytes (1e9) of `weights`, `adapters` (with gradients and moments), `inputs` (of every layer, in bfloat16;
        the rest is recomputed) and their `sum`; `adapter_numbers`, and `parameters` of the frozen model.
    """
    parameters, layers = shapes
    linear = sum(wide * out for wide, out in layers)
    weights = sum(BYTES[base](wide * out, out) for wide, out in layers) + 2 * (parameters - linear)
    adapter_numbers = sum(rank * (wide + out) for wide, out in layers)
    vision, text = config["vision_config"], config["text_config"]
    rows = text["num_hidden_layers"] * tokens * text["hidden_size"]
    rows += vision["num_hidden_layers"] * patches * vision["hidden_size"]
    parts = {"weights": weights, "adapters": _LEARNED * adapter_numbers, "inputs": 2 * rows}
    found = {name: size / GB for name, size in parts.items()}
    return found | {
        "sum": sum(found.values()),
        "adapter_numbers": adapter_numbers,
        "parameters": parameters,
        "linear": linear,
    }
