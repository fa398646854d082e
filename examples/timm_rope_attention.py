"""`RoPE3D` and `GroupVisibleAttention` in the blocks of a timm vision transformer.

`block.attn` is exchanged for a module with timm's call and the same weights, so a picture ViT reads canvases:
each patch is turned by its own source (frame, row, column), and sees the patches of its group only, all
canvases packed in one sequence. The position table is not used.

What a ViT trained on pictures has not been taught: any of these positions (its queries and keys were learned
beside a position table), and to look across canvases. Its weights are a start, not a model; fine-tune all of
them. For new weights take an exact pairing ("half" or "interleaved"); "release" is for the released ones.

Run: python examples/timm_rope_attention.py
"""

from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import ov2kit
from ov2kit import Segments
from ov2kit.codec import CodecTokenizer
from ov2kit.encoders import GroupVisibleAttention
from ov2kit.positional import RoPE3D

CLIP = Path(ov2kit.__file__).parent / "codec" / "sample" / "bbb_360p.mp4"


class PackedAttention(nn.Module):
    """`GroupVisibleAttention` called the way timm's blocks call theirs; `see` says where and with whom."""

    def __init__(self, timm_attention: nn.Module) -> None:
        super().__init__()
        self.rope = RoPE3D(timm_attention.head_dim, pairing="half")
        weights = timm_attention.state_dict()
        width, bias = len(weights["proj.weight"]), "qkv.bias" in weights
        self.attend = GroupVisibleAttention(width, timm_attention.num_heads, qkv_bias=bias, pairing="half")
        self.attend.load_state_dict(weights)  # the same names; raises for parts it has not, such as q_norm

    def see(self, positions: Tensor, segments: Segments) -> None:
        """positions: (N, 3) of (frame, row, column), row for row with the tokens of the next forward."""
        self.rotation, self.segments = self.rope(positions), segments

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """x: (1, N, width) -> (1, N, width). Who sees whom is in `segments`, so masks are refused."""
        if attn_mask is not None or is_causal:
            raise ValueError("expected no mask and is_causal=False; use segments, or Segments.causal()")
        return self.attend(x.squeeze(0), self.segments, self.rotation).unsqueeze(0)


def build(size: tuple[int, int]) -> VisionTransformer:
    """A small ViT for pictures of `size` pixels with its attention exchanged; or start from a pretrained one."""
    torch.manual_seed(0)
    small = {"patch_size": 14, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 5}
    vit = VisionTransformer(size, **small, class_token=False, global_pool="avg", pos_embed="none")
    for block in vit.blocks:
        block.attn = PackedAttention(block.attn)
    return vit


def features(vit: VisionTransformer, images: Tensor, positions: Tensor, segments: Segments) -> Tensor:
    """images (K, 3, H, W), positions (N, 3) in raster order as timm's patches -> (N, width)."""
    for block in vit.blocks:
        block.attn.see(positions, segments)
    tokens = vit.patch_embed(images).flatten(0, 1)  # (K, patches, width) -> (N, width)
    return vit.norm(vit.blocks(tokens.unsqueeze(0))).squeeze(0)


def main() -> None:
    canvases = CodecTokenizer(budget_canvases=8, max_pixels=25_000)(CLIP)
    vit = build(tuple(canvases.images.shape[2:]))
    images, positions = canvases.images / 127.5 - 1, canvases.positions.flatten(0, 2)
    segments = canvases.segments()
    print(canvases)
    print(f"tokens per group {segments.lengths}, attention by {vit.blocks[0].attn.attend.choice(segments).name}")
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-3)
    for step in range(3):
        groups = features(vit, images, positions, segments).split(segments.lengths)
        logits = torch.cat([vit.forward_head(group.unsqueeze(0)) for group in groups])
        loss = nn.functional.cross_entropy(logits, torch.arange(len(groups)))  # which part of the clip?
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: logits {tuple(logits.shape)}, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
