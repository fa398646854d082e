"""Patches to features, and pictures to patches.

Source: `LlavaOnevision2VisionEmbeddings` (a convolution whose stride is its kernel, no bias).
Letters: N patches, C width, p patch in pixels; B items, T frames.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """A linear map of flattened patches, kept as the convolution that checkpoints store.

    Args:
        width: C.
        patch: p.
        channels: of the pictures.
    """

    def __init__(self, width: int, patch: int = 14, channels: int = 3) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(channels, width, patch, stride=patch, bias=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values: (N, channels * p * p), a row is (channels, p, p) flattened -> (N, C)."""
        weight = self.patch_embedding.weight.flatten(1)
        if pixel_values.ndim != 2 or pixel_values.shape[1] != weight.shape[1]:
            channels, _, p = self.patch_embedding.weight.shape[1:]
            raise ValueError(
                f"pixel_values must be (N, {weight.shape[1]}) for {channels} channels and patch {p}, "
                f"got {tuple(pixel_values.shape)}"
            )
        return F.linear(pixel_values.to(weight.dtype), weight)


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
