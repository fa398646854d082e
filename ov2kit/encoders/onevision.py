"""The OneVision encoder: a pre-norm ViT over packed patches with 3D RoPE and group visibility.

Source: `LlavaOnevision2VisionPretrainedModel` (LLaVA-OneVision-2) and `OneVisionEncoderModel`
(OneVision-Encoder); parameters carry the release's names.
Letters: N packed patches, C width, H heads, D = C / H, p patch in pixels.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ov2kit.encoders.activations import activation_name
from ov2kit.encoders.attention import GroupVisibleAttention
from ov2kit.encoders.backends.choose import BackendName, check_name
from ov2kit.encoders.block import Block
from ov2kit.encoders.checkpoint import ReleaseState, load_state, read_tensors, release_state, write_tensors
from ov2kit.encoders.config import arguments_from_config, config_from_arguments
from ov2kit.encoders.mlp import MLP
from ov2kit.encoders.ordering import equal_lengths_together, permute
from ov2kit.encoders.patch_embedding import PatchEmbedding
from ov2kit.encoders.pooling_head import PoolingHead
from ov2kit.encoders.windowed import WindowedAttention, seen_by, shifted_blocks
from ov2kit.encoders.windows import Span, Windows
from ov2kit.errors import (
    check_choice,
    check_divides,
    check_flag,
    check_layer,
    check_number,
    check_numbers,
    factory_kwargs,
)
from ov2kit.positional import Positions, RoPE3D
from ov2kit.positional.interface import check_position
from ov2kit.positional.pairing import EXACT, PAIRINGS, Pairing, RotationTensor, mark
from ov2kit.segments import Segments

Norm = Literal["layer_norm", "rms_norm"]
Grid = Tensor | Sequence[Sequence[int]]
_NORMS: dict[Norm, Callable[..., nn.Module]] = {"layer_norm": nn.LayerNorm, "rms_norm": nn.RMSNorm}


class OneVisionEncoder(nn.Module):
    """Packed patches and where they come from in, packed features out.

    Takes any mix of resolutions and lengths in one call. The defaults are the released size.

    Args:
        width: C.
        depth: number of blocks.
        heads: H; divides `width`.
        mlp_width: hidden width of the perceptrons.
        patch: p, patch edge in pixels.
        merge: patches per block edge of the token order; only windows need to know it.
        channels: of the pictures.
        norm: "layer_norm" or "rms_norm", for the blocks and the norms around them.
        norm_eps: of all norms.
        norm_layer: makes the norms in place of `norm`, the pooling head's too; called as `nn.LayerNorm` is, with
            (width, eps, device, dtype).
        act_layer: makes the activation of each perceptron; called without arguments.
        mlp_layer: makes the perceptron of each block; called as `MLP` is, with (width, mlp_width, act_layer,
            device, dtype).
        theta: base of the rotary frequencies.
        pairing: see `ov2kit.positional.rotation`. Left out, it is an exact one until released weights
            are loaded, which expect "release" and set it.
        position: a `Positions` module in place of `RoPE3D` (for ablations).
        frame_window: canvases per segment that `visibility` makes.
        pre_norm: norm after the patch embedding.
        post_norm: norm after the last block.
        pooling_head: add `head`, used by `pool`.
        window: (rows, columns) of patches: blocks attend within windows, except `global_layers`.
        global_layers: blocks that attend over the whole segment although `window` is given.
        shift: every second windowed block moves its windows by half a window.
        span: whether a window stays in one canvas, see `spatial_windows`.
        drop_path: probability to skip a branch, growing linearly up to the last block.
        backend: attention backend, see `attention_backends`.
        device: of the parameters; `position` keeps its own.
        dtype: of the parameters.

    Raises:
        ValueError: sizes that do not fit each other, or an unknown option.
    """

    def __init__(
        self,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        mlp_width: int = 4096,
        *,
        patch: int = 14,
        merge: int = 2,
        channels: int = 3,
        norm: Norm = "layer_norm",
        norm_eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] | None = None,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        mlp_layer: Callable[..., nn.Module] = MLP,
        theta: float = 1e4,
        pairing: Pairing | None = None,
        position: nn.Module | None = None,
        frame_window: int = 4,
        pre_norm: bool = True,
        post_norm: bool = False,
        pooling_head: bool = False,
        window: tuple[int, int] | None = None,
        global_layers: Iterable[int] = (),
        shift: bool = True,
        span: Span = "canvas",
        drop_path: float = 0.0,
        backend: BackendName = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_divides("heads", heads, "width", width)
        sizes = {"depth": depth, "mlp_width": mlp_width, "patch": patch, "merge": merge, "channels": channels}
        for name, size in {**sizes, "frame_window": frame_window}.items():
            check_number(name, size, low=1, integer=True)
        check_choice("norm", norm, get_args(Norm))
        check_number("norm_eps", norm_eps, low=0)
        check_layer("norm_layer", norm_layer, optional=True)
        for name, layer in {"act_layer": act_layer, "mlp_layer": mlp_layer}.items():
            check_layer(name, layer)
        check_number("theta", theta, above=0)
        if pairing is not None:
            check_choice("pairing", pairing, PAIRINGS)
        check_position("position", position)
        flags = {"pre_norm": pre_norm, "post_norm": post_norm, "pooling_head": pooling_head, "shift": shift}
        for name, flag in flags.items():
            check_flag(name, flag)
        check_numbers("window", window, length=2, low=1, integer=True, optional=True)
        shifted = shifted_blocks(depth, global_layers, shift)
        check_choice("span", span, get_args(Span))
        check_number("drop_path", drop_path, low=0, below=1)
        check_name(backend)
        factory = factory_kwargs(device, dtype)
        self.width, self.depth, self.heads, self.mlp_width = width, depth, heads, mlp_width
        self.patch, self.merge, self.channels, self.frame_window = patch, merge, channels, frame_window
        self.norm, self.norm_eps, self.theta = norm, norm_eps, theta
        self.gradient_checkpointing = False
        self.windowed = window is not None

        make_norm = partial(norm_layer or _NORMS[norm], width, eps=norm_eps, **factory)

        #: whether the weights that are loaded may set the pairing
        self.pairing_is_open = position is None and pairing is None
        self.position = position or RoPE3D(width // heads, theta, pairing=pairing or EXACT)

        def make_attention(i: int) -> nn.Module:
            if window is None or i not in shifted:
                return GroupVisibleAttention(width, heads, backend=backend, **factory)
            return WindowedAttention(
                width, heads, window, shift=shifted[i], span=span, merge=merge, backend=backend, **factory
            )

        self.embeddings = PatchEmbedding(width, patch, channels, **factory)
        self.layernorm_pre = make_norm() if pre_norm else nn.Identity()
        blocks = [
            Block(
                make_norm(),
                make_attention(i),
                make_norm(),
                mlp_layer(width, mlp_width, act_layer=act_layer, **factory),
                drop_path=drop_path * i / max(depth - 1, 1),
            )
            for i in range(depth)
        ]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(blocks)})
        self.layernorm_post = make_norm() if post_norm else nn.Identity()
        head_norm = norm_layer or nn.RMSNorm
        self.head = (
            PoolingHead(width, heads, mlp_width, eps=norm_eps, norm_layer=head_norm, act_layer=act_layer, **factory)
            if pooling_head
            else None
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **arguments: Any) -> "OneVisionEncoder":
        """An encoder for a config dict with the release's field names.

        Args:
            config: `vision_config` of the release; fields that do not shape the encoder are ignored.
            arguments: constructor arguments that the release has no field for, or that override it.
        """
        return cls(**(arguments_from_config(config) | arguments))

    def config(self) -> dict[str, Any]:
        """The sizes under the release's field names, which has none for modules that were handed in."""
        activation = activation_name(getattr(cast(Block, self.blocks[0]).mlp, "act", None)) or "gelu"
        return config_from_arguments({**vars(self), "pooling_head": self.head is not None, "hidden_act": activation})

    @property
    def blocks(self) -> nn.ModuleList:
        layers = self.encoder["layers"]
        assert isinstance(layers, nn.ModuleList)
        return layers

    def set_gradient_checkpointing(self, enable: bool = True) -> None:
        """Keep only block inputs while training and compute the rest again in the backward pass."""
        self.gradient_checkpointing = enable

    def visibility(self, grid_thw: Grid) -> Segments:
        """Segments of `frame_window` canvases within each grid row, on the device of the weights."""
        device = next((p.device for p in self.parameters() if not p.is_meta), None)
        return Segments.from_grid(grid_thw, self.frame_window, device)

    def forward(
        self,
        pixel_values: Tensor,
        positions: Tensor,
        segments: Segments | Tensor,
        *,
        grid_thw: Grid | None = None,
        with_hidden: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Features of packed patches.

        Args:
            pixel_values: (N, channels * p * p) normalized, a row is (channels, p, p) flattened.
            positions: (N, 3) source (frame, row, column) of each patch; -1 is padding.
            segments: who sees whom, or `cu_seqlens` (G+1,), which are read back to the host once.
            grid_thw: rows (t, h, w) in patches; only needed if the encoder has windows.
            with_hidden: return the hidden states too, as `forward_with_hidden` does.

        Returns:
            (N, C) in the dtype of the weights, after the post-norm if there is one.

        Raises:
            ValueError: shapes do not fit each other.
            RuntimeError: the attention backend asked for cannot run.
        """
        if isinstance(segments, Tensor):
            segments = Segments.from_cu_seqlens(segments)
        if positions.ndim != 2 or len(positions) != len(pixel_values):
            raise ValueError(
                f"positions must be ({len(pixel_values)}, 3), one row per patch, got {tuple(positions.shape)}"
            )
        x = self.layernorm_pre(self.embeddings(pixel_values))
        place = cast(Positions, self.position)
        x = place.embed(x, positions)
        sorting = None
        if not torch.compiler.is_compiling() and not self.windowed:
            sorting = equal_lengths_together(segments)
        if sorting is not None:
            segments, order, inverse = sorting
            x, positions = permute(x, order, inverse), positions[order]
        rotation = place(positions)
        if rotation is not None and not isinstance(rotation[0], RotationTensor):
            rotation = mark(*rotation, place.pairing)
        hidden = [x] if with_hidden else []
        windows: dict[tuple[int, int], Windows] = {}  # by their shift
        for block in self.blocks:
            seen = seen_by(cast(Block, block).self_attn, segments, grid_thw, windows)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, seen, rotation, use_reentrant=False)
            else:
                x = block(x, seen, rotation)
            if with_hidden:
                hidden.append(x)
        if sorting is not None:
            x = permute(x, inverse, order)
            hidden = [permute(state, inverse, order) for state in hidden] if with_hidden else []
        features: Tensor = self.layernorm_post(x)
        return (features, hidden) if with_hidden else features

    def forward_with_hidden(
        self, pixel_values: Tensor, positions: Tensor, segments: Segments | Tensor, *, grid_thw: Grid | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """`forward`, and the hidden states: the input of the first block, then every block's output.

        Returns:
            features (N, C), and depth + 1 tensors (N, C) without post-norm.
        """
        found: tuple[Tensor, list[Tensor]] = self(
            pixel_values, positions, segments, grid_thw=grid_thw, with_hidden=True
        )
        return found

    def pool(self, features: Tensor, items: Segments) -> Tensor:
        """One vector per item by the pooling head.

        Args:
            features: (N, C), what `forward` returned.
            items: the tokens of each image or clip, such as `Segments.from_grid(grid, window=None)`.

        Returns:
            (items, C).
        """
        if self.head is None:
            raise ValueError("this encoder has no pooling head; build it with pooling_head=True")
        pooled: Tensor = self.head(features, items)
        return pooled

    def load_release_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str = "model.visual."
    ) -> tuple[list[str], list[str]]:
        """Load weights by the release's names.

        Keys that do not start with `prefix` are not looked at, and neither is `merger.*` under it,
        which belongs to the connector. The stand-alone release's separate q, k and v projections
        are joined. Parameters on the meta device take the tensors as they are, others are filled
        and keep their dtype and device.

        An encoder whose pairing was left open takes the one that the weights were trained with:
        `release_state_dict` and `save_release` note it, released weights expect "release".

        Returns:
            (missing, unexpected) full key names; both empty if the checkpoint fits.

        Raises:
            ValueError: a tensor has another shape than its parameter.
        """
        found = load_state(self, state_dict, prefix)
        if self.pairing_is_open:
            cast(Positions, self.position).pairing = getattr(state_dict, "pairing", None) or "release"
        return found

    def load_release(self, path: str | os.PathLike[str], prefix: str = "model.visual.") -> tuple[list[str], list[str]]:
        """`load_release_state_dict` from a safetensors file or a directory of them.

        Reads only the encoder's tensors, and of a sharded checkpoint only the shards they are in.

        Raises:
            FileNotFoundError: there are no safetensors; pickled checkpoints are never opened.
        """
        return self.load_release_state_dict(read_tensors(path, prefix, skip=f"{prefix}merger."), prefix)

    def release_state_dict(self, prefix: str = "model.visual.", *, split_qkv: bool = False) -> ReleaseState:
        """The weights under the release's names, a dict that knows the encoder's pairing.

        Args:
            prefix: put before every name.
            split_qkv: write q, k and v as the separate projections of the stand-alone release.
        """
        return ReleaseState(release_state(self, prefix, split_qkv=split_qkv), cast(Positions, self.position).pairing)

    def save_release(
        self, path: str | os.PathLike[str], prefix: str = "model.visual.", *, max_shard_bytes: int = 5 * 10**9
    ) -> None:
        """Write `release_state_dict` to the directory `path` as safetensors, in shards if large."""
        write_tensors(self.release_state_dict(prefix), path, max_shard_bytes)
