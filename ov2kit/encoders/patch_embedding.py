"""Patches to features, and pictures to patches.

Source: `LlavaOnevision2VisionEmbeddings` (a convolution whose stride is its kernel, no bias).
Letters: N patches, C width, p patch in pixels; B items, T frames.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ov2kit.encoders.linear import floating_dtype
from ov2kit.errors import check_number, factory_kwargs


class PatchConv2d(nn.Conv2d):
    """A convolution over pictures of its kernel's size, which is one product of matrices.

    The same numbers, weights and names as `nn.Conv2d`, without the detour that convolution kernels
    take for a batch of tiny pictures. Pictures of other sizes are convolved as usual.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, p, p) -> (N, C, 1, 1)."""
        if x.ndim != 4 or x.shape[-2:] != self.weight.shape[-2:]:
            return super().forward(x)
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class PatchEmbedding(nn.Module):
    """A linear map of flattened patches, kept as the convolution that checkpoints store.

    Args:
        width: C.
        patch: p.
        channels: of the pictures.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        width: int,
        patch: int = 14,
        channels: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("width", width), ("patch", patch), ("channels", channels)):
            check_number(name, size, low=1, integer=True)
        self.patch, self.channels = patch, channels
        self.patch_embedding = PatchConv2d(
            channels, width, patch, stride=patch, bias=False, **factory_kwargs(device, dtype)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values: (N, channels * p * p), a row is (channels, p, p) flattened -> (N, C)."""
        shape = (self.channels, self.patch, self.patch)
        if pixel_values.ndim != 2 or pixel_values.shape[1] != self.channels * self.patch**2:
            raise ValueError(
                f"pixel_values must be (N, {self.channels * self.patch**2}) for {self.channels} channels and "
                f"patch {self.patch}, got {tuple(pixel_values.shape)}"
            )
        dtype = floating_dtype(self.patch_embedding, pixel_values.dtype)
        embedded: Tensor = self.patch_embedding(pixel_values.to(dtype).reshape(len(pixel_values), *shape))
        return embedded.flatten(1)


def patchify(images: Tensor, patch: int, merge: int = 1) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """Pictures or clips of one size to packed patches.

    Args:
        images: (B, channels, h * p, w * p), or (B, channels, T, h * p, w * p).
        patch: p.
        merge: patches per block edge of the packed order; 1 is raster order.

    Returns:
        (N, channels * p * p), and the grid row (T, h, w) of each item.

    Raises:
        ValueError: sides that are no multiple of patch * merge.
    """
    check_number("patch", patch, low=1, integer=True)
    check_number("merge", merge, low=1, integer=True)
    clips = images.unsqueeze(2) if images.ndim == 4 else images
    side = patch * merge
    if clips.ndim != 5 or clips.shape[-2] % side or clips.shape[-1] % side:
        raise ValueError(
            f"images must be (B, channels, H, W) or (B, channels, T, H, W) with sides that are multiples of "
            f"patch * merge = {side}, got {tuple(images.shape)}"
        )
    b, _, t, height, width = clips.shape
    packed = rearrange(clips, "b c t (h m p) (w n q) -> (b t h w m n) (c p q)", m=merge, n=merge, p=patch, q=patch)
    return packed, [(t, height // patch, width // patch)] * b
