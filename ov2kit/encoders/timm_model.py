"""The encoder as a timm model: images or clips of one size in, features or classes out.

After `import ov2kit.encoders`: `timm.create_model("onevision_encoder_large_patch14")`.
Letters: B items, T frames, h, w patch rows and columns, C width.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from ov2kit.canvases import CLIP_MEAN, CLIP_STD
from ov2kit.encoders.checkpoint import join_qkv
from ov2kit.encoders.linear import floating_dtype
from ov2kit.encoders.onevision import OneVisionEncoder
from ov2kit.encoders.patch_embedding import patchify
from ov2kit.errors import check_choice, check_divides, check_keys, check_number, check_numbers
from ov2kit.positional import packed_positions, virtual_frames
from ov2kit.segments import Segments

Pool = Literal["avg", "map", ""]
_SET_HERE = ("width", "depth", "heads", "mlp_width", "patch", "merge", "channels", "drop_path", "device", "dtype")


class OneVisionViT(nn.Module):
    """timm's interface around `OneVisionEncoder`; every item is one segment.

    Args:
        num_classes: outputs of the classifier; 0 for features.
        global_pool: "avg", "map" (the release's pooling head), or "" for tokens.
        in_chans: channels of the pictures.
        patch_size: in pixels.
        embed_dim: C.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the perceptrons over C.
        drop_path_rate: of the last block.
        img_size: nominal picture size; any multiple of the patch works.
        time_slots: the virtual time grid that frames of a clip are spread over.
        device: of the parameters.
        dtype: of the parameters.
        encoder: further arguments of `OneVisionEncoder`.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
    """

    def __init__(
        self,
        num_classes: int = 0,
        global_pool: Pool = "avg",
        *,
        in_chans: int = 3,
        patch_size: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        img_size: int | tuple[int, int] | None = None,
        time_slots: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **encoder: Any,
    ) -> None:
        super().__init__()
        check_choice("global_pool", global_pool, get_args(Pool))
        check_number("num_classes", num_classes, low=0, integer=True)
        sizes = {"in_chans": in_chans, "patch_size": patch_size, "embed_dim": embed_dim, "depth": depth}
        for name, size in {**sizes, "time_slots": time_slots}.items():
            check_number(name, size, low=1, integer=True)
        check_divides("num_heads", num_heads, "embed_dim", embed_dim)
        check_number("mlp_ratio", mlp_ratio, low=1 / embed_dim)
        check_number("drop_path_rate", drop_path_rate, low=0, below=1)
        if isinstance(img_size, tuple | list):
            check_numbers("img_size", img_size, length=2, low=1, integer=True)
        else:
            check_number("img_size", img_size, low=1, integer=True, optional=True)
        known = inspect.signature(OneVisionEncoder).parameters
        check_keys("the encoder's arguments", encoder, [name for name in known if name not in _SET_HERE])
        self.num_features = self.embed_dim = self.head_hidden_size = embed_dim
        self.num_classes = num_classes
        self.global_pool: Pool = global_pool
        self.img_size = img_size
        self.time_slots = time_slots
        self.patch_size = patch_size
        self.trunk = OneVisionEncoder(
            embed_dim,
            depth,
            num_heads,
            int(embed_dim * mlp_ratio),
            patch=patch_size,
            merge=1,
            channels=in_chans,
            drop_path=drop_path_rate,
            device=device,
            dtype=dtype,
            **{"post_norm": True, "pooling_head": global_pool == "map"} | encoder,
        )
        self.head = self._classifier(num_classes)
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": patch_size, "module": f"trunk.encoder.layers.{i}"} for i in range(depth)
        ]

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: Pool | None = None) -> None:
        """Replace the classifier; `global_pool` "map" needs the model to have a pooling head."""
        check_number("num_classes", num_classes, low=0, integer=True)
        if global_pool is not None:
            check_choice("global_pool", global_pool, get_args(Pool))
            if global_pool == "map" and self.trunk.head is None:
                raise ValueError("global_pool 'map' needs a pooling head; create the model with global_pool='map'")
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = self._classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.trunk.set_gradient_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        return {"trunk.head.probe"} if self.trunk.head is not None else set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^trunk\.(embeddings|layernorm_pre)",
            "blocks": [(r"^trunk\.encoder\.layers\.(\d+)", None), (r"^trunk\.layernorm_post", (99999,))],
        }

    def forward_features(self, x: Tensor) -> Tensor:
        """x: (B, channels, H, W) or (B, channels, T, H, W), normalized -> (B, T*h*w, C), raster order."""
        pixel_values, positions, segments, grid = self._packed(x)
        features: Tensor = self.trunk(pixel_values, positions, segments, grid_thw=grid)
        return features.view(len(x), -1, self.embed_dim)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """x: (B, tokens, C) -> (B, num_classes), or the pooled (B, C)."""
        if self.global_pool == "avg":
            x = x.mean(dim=1)
        elif self.global_pool == "map":
            x = self.trunk.pool(x.flatten(0, 1), Segments.from_lengths([x.shape[1]] * len(x), x.device))
        out: Tensor = x if pre_logits else self.head(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """`forward_head(forward_features(x))`."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Features after chosen blocks, in timm's form.

        Args:
            x: (B, channels, H, W), or with T frames before H.
            indices: the last n blocks, or block numbers; all if None.
            return_prefix_tokens: accepted; there are no prefix tokens.
            norm: apply the post-norm to them.
            stop_early: accepted; all blocks run.
            output_fmt: "NCHW", (B, C, h, w) or (B, C, T, h, w) for clips, or "NLC".
            intermediates_only: leave out the final features.

        Returns:
            The list, or (final features (B, tokens, C), the list).
        """
        check_choice("output_fmt", output_fmt, ("NCHW", "NLC"))
        wanted, _ = feature_take_indices(self.trunk.depth, indices)
        pixel_values, positions, segments, grid = self._packed(x)
        final, hidden = self.trunk.forward_with_hidden(pixel_values, positions, segments, grid_thw=grid)
        t, h, w = grid[0]
        chosen = []
        for i in wanted:
            tokens = self.trunk.layernorm_post(hidden[i + 1]) if norm else hidden[i + 1]
            tokens = tokens.view(len(x), -1, self.embed_dim)
            if output_fmt == "NCHW":
                shape = (h, w) if x.ndim == 4 else (t, h, w)
                tokens = tokens.transpose(1, 2).reshape(len(x), self.embed_dim, *shape)
            chosen.append(tokens)
        return chosen if intermediates_only else (final.view(len(x), -1, self.embed_dim), chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the blocks after the last one wanted; returns the block numbers."""
        wanted, last = feature_take_indices(self.trunk.depth, indices)
        self.trunk.encoder["layers"] = self.trunk.blocks[: last + 1]
        self.trunk.depth = last + 1
        if prune_norm:
            self.trunk.layernorm_post = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return wanted

    def _classifier(self, num_classes: int) -> nn.Module:
        """A fresh classifier, where the weights of the trunk are."""
        if not num_classes:
            return nn.Identity()
        device = next(self.trunk.parameters()).device
        dtype = floating_dtype(self.trunk, torch.get_default_dtype())
        return nn.Linear(self.embed_dim, num_classes, device=device, dtype=dtype)

    def _packed(self, x: Tensor) -> tuple[Tensor, Tensor, Segments, list[tuple[int, int, int]]]:
        pixel_values, grid = patchify(x, self.patch_size)
        frames = virtual_frames(grid[0][0], self.time_slots) if x.ndim == 5 else None
        one = packed_positions(grid[:1], 1, [frames]).to(x.device)
        return pixel_values, one.repeat(len(x), 1), Segments.from_grid(grid, window=None, device=x.device), grid


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Released or own weights -> names of `OneVisionViT`; the connector and the LLM are left out."""
    if any(name.startswith("trunk.") for name in state_dict):
        return dict(state_dict)
    prefix = "model.visual." if any(name.startswith("model.visual.") for name in state_dict) else ""
    tower = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    wanted = {name for name, _ in model.named_parameters()}
    renamed = {f"trunk.{name}": tensor for name, tensor in join_qkv(tower).items()}
    return {name: tensor for name, tensor in renamed.items() if name in wanted}


def _cfg() -> dict[str, Any]:
    return {
        "url": "",  # the weights are loaded by `OneVisionEncoder.load_release`
        "num_classes": 0,
        "input_size": (3, 448, 448),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "fixed_input_size": False,
        "mean": CLIP_MEAN,
        "std": CLIP_STD,
        "first_conv": "trunk.embeddings.patch_embedding",
        "classifier": "head",
        "license": "apache-2.0",
    }


default_cfgs = generate_default_cfgs(
    {"onevision_encoder_large_patch14": _cfg(), "onevision_encoder_large_patch16": _cfg()}
)


def _create(variant: str, patch: int, pretrained: bool, **arguments: Any) -> OneVisionViT:
    indices = arguments.pop("out_indices", 3)
    model: OneVisionViT = build_model_with_cfg(
        OneVisionViT,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": indices, "feature_cls": "getter"},
        **dict[str, Any](patch_size=patch, pairing="release") | arguments,
    )
    return model


@register_model
def onevision_encoder_large_patch14(pretrained: bool = False, **arguments: Any) -> OneVisionViT:
    """24 blocks of width 1024 over patches of 14 pixels: the vision tower of LLaVA-OneVision-2."""
    return _create("onevision_encoder_large_patch14", 14, pretrained, **arguments)


@register_model
def onevision_encoder_large_patch16(pretrained: bool = False, **arguments: Any) -> OneVisionViT:
    """24 blocks of width 1024 over patches of 16 pixels: the stand-alone OneVision-Encoder."""
    return _create("onevision_encoder_large_patch16", 16, pretrained, **arguments)


__all__ = ["OneVisionViT", "onevision_encoder_large_patch14", "onevision_encoder_large_patch16"]
