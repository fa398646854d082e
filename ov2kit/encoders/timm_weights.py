"""Start the encoder from the weights of a timm vision transformer.

Source: parameter names of `timm.models.vision_transformer.VisionTransformer`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PARTS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)$")
_AROUND = {"norm_pre": "layernorm_pre", "norm": "layernorm_post"}
#: LayerScale multiplies a branch; its factors go into the branch's last layer
_SCALE = re.compile(r"blocks\.(\d+)\.ls([12])\.gamma$")


@dataclass(frozen=True)
class Started:
    """What happened to the weights.

    Args:
        loaded: parameters of the encoder that were filled.
        fresh: parameters that keep their initial values.
        dropped: names of the vision transformer that have no place here, such as `pos_embed`.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]


def load_timm_vit(encoder: nn.Module, vit: nn.Module | Mapping[str, Tensor]) -> Started:
    """Fill an `OneVisionEncoder` from a timm `VisionTransformer` of the same width and depth.

    The patch embedding is resampled to the encoder's patch size, the position table and the class
    token are dropped (positions enter by rotation, which the weights have not been taught), and
    LayerScale factors are multiplied into the layers they scale. A vision transformer without
    `norm_pre` wants an encoder built with `pre_norm=False`.

    Args:
        encoder: filled in place.
        vit: the model or its state dict.

    Raises:
        ValueError: another width, depth or perceptron, or no vision transformer at all.
    """
    from timm.layers.patch_embed import resample_patch_embed

    state = dict(vit.state_dict() if isinstance(vit, nn.Module) else vit)
    parameters = dict(encoder.named_parameters())
    new: dict[str, Tensor] = {}
    taken = set()
    for name, tensor in state.items():
        if (ours := _our_name(name)) in parameters:
            new[ours] = tensor
            taken.add(name)
    embedding = "embeddings.patch_embedding.weight"
    if "patch_embed.proj.weight" not in state or not any(name.startswith("encoder.") for name in new):
        raise ValueError("expected the state dict of a timm VisionTransformer, with patch_embed.proj and blocks")
    size = parameters[embedding].shape[-2:]
    new[embedding] = resample_patch_embed(state["patch_embed.proj.weight"].float(), list(size))
    taken.add("patch_embed.proj.weight")
    for name, gamma in state.items():
        if match := _SCALE.match(name):
            layer = f"encoder.layers.{match[1]}." + ("self_attn.proj" if match[2] == "1" else "mlp.fc2")
            for kind in ("weight", "bias"):
                if f"{layer}.{kind}" in new:
                    scale = gamma if kind == "bias" else gamma[:, None]
                    new[f"{layer}.{kind}"] = new[f"{layer}.{kind}"] * scale
            taken.add(name)
    depth = 1 + max(int(m[1]) for name in state if (m := _BLOCK.match(name)))
    wrong = [
        f"{name} is {tuple(tensor.shape)}, the encoder has {tuple(parameters[name].shape)}"
        for name, tensor in new.items()
        if tensor.shape != parameters[name].shape
    ]
    blocks = {int(name.split(".")[2]) for name in parameters if name.startswith("encoder.layers.")}
    if depth != len(blocks):
        wrong.insert(0, f"{depth} blocks, the encoder has {len(blocks)}")
    if wrong:
        raise ValueError("the vision transformer is of another size:\n  - " + "\n  - ".join(wrong))
    with torch.no_grad():
        for name, tensor in new.items():
            parameters[name].copy_(tensor)
    return Started(
        loaded=tuple(new),
        fresh=tuple(name for name in parameters if name not in new),
        dropped=tuple(name for name in state if name not in taken),
    )


def _our_name(name: str) -> str:
    """The encoder's name for a timm name, or the name itself."""
    if (match := _BLOCK.match(name)) and match[2] in _PARTS:
        return f"encoder.layers.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    part, _, kind = name.rpartition(".")
    return f"{_AROUND[part]}.{kind}" if part in _AROUND else name
