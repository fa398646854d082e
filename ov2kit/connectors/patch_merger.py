"""The released connector: merge x merge neighbors become one token.

Source: merger of the LLaVA-OneVision-2 vision tower (`model.visual.merger`: ln_q, mlp.0, mlp.2).
Letters: N rows, C width, m merge.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ov2kit.connectors.checks import check_sizes, layer_arguments
from ov2kit.connectors.interface import Counts, Grids, item_lengths, merged_count


class PatchMerger(nn.Module):
    """Normalize each row, put m*m consecutive rows side by side, two linear layers with exact GELU.

    token = W2 gelu(W1 concat(LN(x_1), ..., LN(x_mm)) + b1) + b2, with W1 (m*m*C, m*m*C).
    The release has a LayerNorm with bias, also where the tower's blocks use RMSNorm. Features must be in block
    layout, which is how `Canvases.pixel_values()` orders patches.

    Args:
        width: C, channels of the features.
        out_width: channels of a token, the language model's width.
        merge: m, patches per block edge; an item of n rows becomes n / m**2 tokens.
        eps: of the norm; the vision config's `layer_norm_eps`.
        norm_layer: makes the norm; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        act_layer: makes the activation; called without arguments.
        device: of the parameters.
        dtype: of the parameters.
    """

    needs_grids = False

    def __init__(
        self,
        width: int,
        out_width: int,
        merge: int = 2,
        eps: float = 1e-6,
        *,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, merge=merge, eps=eps)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer, act_layer=act_layer)
        self.width, self.out_width, self.merge = width, out_width, merge
        inner = width * merge**2
        self.ln_q = make_norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(inner, inner, **factory), act_layer(), nn.Linear(inner, out_width, **factory)
        )

    @property
    def rows_per_token(self) -> int:
        return self.merge**2

    def tokens_out(self, n: int) -> int:
        """n / merge**2. Raises ValueError when n is not a whole number of blocks."""
        return merged_count(n, self.merge)

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) in block layout -> (N / merge**2, out_width).

        Arguments and errors as in `Connector`. Items are only checked: each block is merged alone.
        """
        for n in set(item_lengths(features, self.width, counts, grids)):
            self.tokens_out(n)
        blocks = self.ln_q(features).reshape(-1, self.width * self.merge**2)
        tokens: Tensor = self.mlp(blocks)
        return tokens

    def load_release_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str = "model.visual.merger."
    ) -> tuple[list[str], list[str]]:
        """Take the weights under `prefix` from a released state dict; other keys are not looked at.

        On a module built on the meta device the tensors are taken as they are, else copied in.

        Returns:
            (missing, unexpected) full key names: ours that the state dict lacks, and keys under the
            prefix that are not ours. Both empty for a release.

        Raises:
            ValueError: no key starts with `prefix`, or a shape differs from this module's.
        """
        found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        own = self.state_dict()
        if not found:
            near = sorted(key.removesuffix("ln_q.weight") for key in state_dict if key.endswith("ln_q.weight"))
            hint = f"; this state dict has a merger under {near[0]!r}" if near else ""
            raise ValueError(f"no key of the state dict starts with prefix {prefix!r}{hint}")
        for key, value in found.items():
            if key in own and value.shape != own[key].shape:
                raise ValueError(
                    f"{prefix}{key} is {tuple(value.shape)} in the state dict and {tuple(own[key].shape)} in "
                    f"PatchMerger(width={self.width}, out_width={self.out_width}, merge={self.merge}); "
                    "build it with the release's hidden_size, out_hidden_size and spatial_merge_size"
                )
        on_meta = any(parameter.is_meta for parameter in self.parameters())
        result = self.load_state_dict(found, strict=False, assign=on_meta)
        return [prefix + key for key in result.missing_keys], [prefix + key for key in result.unexpected_keys]

    def release_state_dict(self, prefix: str = "model.visual.merger.") -> dict[str, Tensor]:
        """The weights under the release's keys; what `load_release_state_dict` reads."""
        return {prefix + key: value for key, value in self.state_dict().items()}

    def extra_repr(self) -> str:
        return f"merge={self.merge}"
