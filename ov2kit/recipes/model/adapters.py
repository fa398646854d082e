"""LoRA: small matrices beside frozen ones, learned by `ov2kit fit --model.lora` and merged by `ov2kit convert`.

PEFT puts them in; any linear layer of encoder, connector and language model can have them. Source: LoRA
(arXiv 2106.09685): W x + (alpha / r) B A x. Letters: r rank.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ov2kit.errors import OptionError, check_keys, check_number, check_type, needs_extra

_KEYS = ("r", "alpha", "dropout", "target")
_ALL = "all-linear"
_BASE, _A, _B = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def check_lora(lora: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Options with their defaults filled in.

    Args:
        lora: `r` (16), `alpha` (2 r), `dropout` (0), and `target`: "all-linear" for every linear layer of the
            parts that learn, or a list of ends of names, such as ["q_proj", "qkv"]. None for no adapters.

    Raises:
        OptionError: an option is unknown or out of range.
    """
    if lora is None:
        return None
    check_type("lora", lora, Mapping, "a mapping of options")
    check_keys("lora", lora, _KEYS)
    rank = lora.get("r", 16)
    found = {"r": rank, "alpha": lora.get("alpha", 2 * rank), "dropout": lora.get("dropout", 0.0)}
    check_number("lora.r", rank, low=1, integer=True)
    check_number("lora.alpha", found["alpha"], above=0)
    check_number("lora.dropout", found["dropout"], low=0, below=1)
    target = lora.get("target", _ALL)
    if target != _ALL and (isinstance(target, str) or not isinstance(target, Sequence) or not target):
        raise OptionError(f"lora.target must be {_ALL!r} or a list of ends of names, got {target!r}")
    return found | {"target": target if target == _ALL else [str(end) for end in target]}


def add_adapters(model: nn.Module, lora: Mapping[str, Any], learns: Callable[[str], bool]) -> None:
    """Give linear layers that learn adapters, and let nothing but these learn.

    Args:
        model: in the dtype, or quantized, as it is to be.
        lora: what `check_lora` gave.
        learns: whether a parameter of this name would learn.

    Raises:
        OptionError: no layer is meant.
        MissingExtraError: PEFT is not installed.
    """
    with needs_extra("lora"):
        from peft import inject_adapter_in_model
    target = lora["target"]
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and learns(f"{name}.weight")
        and (not name.endswith("lm_head") if target == _ALL else _ends(name, target))
    ]
    if not names:
        raise OptionError(f"no linear layer that learns is meant by lora.target {target!r}")
    inject_adapter_in_model(lora_config(lora, names), model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:  # beside weights in bfloat16 too: small steps would be rounded away
            parameter.data = parameter.data.float()


def lora_config(lora: Mapping[str, Any], names: Sequence[str]) -> Any:
    """PEFT's config of what `check_lora` gave, for the layers `names`.

    Raises:
        MissingExtraError: PEFT is not installed.
    """
    with needs_extra("lora"):
        from peft import LoraConfig
    return LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=list(names),
        bias="none",
    )


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def merged(state: Mapping[str, Tensor], lora: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """The state dict of a model with adapters as that of the plain model that computes the same.

    Args:
        state: tensors by name; one without adapters comes back as it is. What has adapters is called as PEFT calls
            it (`.base_layer.`), or as the plain model does.
        lora: what `check_lora` gave when the adapters were made.
    """
    if lora is None:
        return dict(state)
    plain = {}
    for found, tensor in state.items():
        if found.endswith((_A, _B)):
            continue
        name = found.replace(_BASE, ".")
        layer, _, leaf = name.rpartition(".")
        plain[name] = tensor
        if leaf == "weight" and layer + _A in state:
            a, b = state[layer + _A].float(), state[layer + _B].float()
            plain[name] = (tensor.float() + lora["alpha"] / lora["r"] * (b @ a)).to(tensor.dtype)
    return plain
