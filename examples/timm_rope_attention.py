"""`RoPE3D` and `GroupVisibleAttention` in the blocks of a timm vision transformer.

`block.attn` is exchanged for a module with timm's call and the same weights, so a picture ViT reads canvases:
each patch is turned by its own source (frame, row, column), and sees the patches of its group only, all
canvases packed in one sequence. The position table goes.

What a ViT trained on pictures has not been taught: any of these positions (its queries and keys were learned
beside a position table), and to look across canvases. The weights are a start, not a model; fine-tune all of
it. Training from scratch, take an exact pairing ("half" or "interleaved"); "release" is for released weights.

Run: python examples/timm_rope_attention.py
"""

from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import ov2kit
from ov2kit.codec import CodecTokenizer
from ov2kit.encoders import GroupVisibleAttention
from ov2kit.positional import RoPE3D
from ov2kit.segments import Segments

CLIP = Path(ov2kit.__file__).parent / "codec" / "sample" / "bbb_360p.mp4"


class PackedAttention(nn.Module):
    """`GroupVisibleAttention` called the way timm's blocks call theirs; `see` says where and with whom."""

    def __init__(self, timm_attention: nn.Module, rope: RoPE3D) -> None:
        super().__init__()
        weights = timm_attention.state_dict()
        width, bias = len(weights["proj.weight"]), "qkv.bias" in weights
        self.attend = GroupVisibleAttention(width, timm_attention.num_heads, qkv_bias=bias, pairing=rope.pairing)
        self.attend.load_state_dict(weights)  # the same names; raises for parts it has not, such as q_norm
        self.rope = rope

    def see(self, positions: Tensor, segments: Segments) -> None:
        """positions: (N, 3) of (frame, row, column), row for row with the tokens of the next forward."""
        self.rotation, self.segments = self.rope(positions), segments

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """x: (1, N, width) -> (1, N, width)."""
        if attn_mask is not None or is_causal:
            raise ValueError("who sees whom is said by `segments`; see Segments.causal instead of is_causal")
        return self.attend(x.squeeze(0), self.segments, self.rotation).unsqueeze(0)


class CanvasViT(nn.Module):
    """A timm ViT over packed canvases: one prediction per group."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit
        vit.pos_embed = None
        for block in vit.blocks:
            block.attn = PackedAttention(block.attn, RoPE3D(block.attn.head_dim, pairing="half"))

    def features(self, images: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """images (K, 3, H, W), positions (N, 3) in raster order as timm's patches -> (N, width)."""
        for block in self.vit.blocks:
            block.attn.see(positions, segments)
        tokens = self.vit.patch_embed(images).flatten(0, 1)  # (K, n, width) -> (N, width)
        return self.vit.norm(self.vit.blocks(tokens.unsqueeze(0))).squeeze(0)

    def forward(self, images: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """-> (groups, classes)."""
        runs = self.features(images, positions, segments).split(segments.lengths)
        return self.vit.head(torch.stack([run.mean(0) for run in runs]))


def build(size: tuple[int, int]) -> CanvasViT:
    """A small ViT for canvases of `size` pixels; put a pretrained timm ViT here instead."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        size, 14, embed_dim=64, depth=2, num_heads=2, num_classes=5, class_token=False, global_pool="avg"
    )
    return CanvasViT(vit)


def main() -> None:
    canvases = CodecTokenizer(budget_canvases=8, max_pixels=25_000)(CLIP)
    model = build(tuple(canvases.images.shape[2:]))
    images, positions = canvases.images / 127.5 - 1, canvases.positions.flatten(0, 2)
    segments = canvases.segments()
    print(canvases)
    print(f"tokens per group {segments.lengths}, attention by {model.vit.blocks[0].attn.attend.choice(segments).name}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    labels = torch.arange(len(segments.lengths))  # which part of the clip is this?
    for step in range(3):
        logits = model(images, positions, segments)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: logits {tuple(logits.shape)}, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
