"""`PatchMerger` between a transformers SigLIP tower and a language model.

SigLIP gives one row per patch in raster order; the merger wants the 2 x 2 patches of a block side by side,
which is what `to_block_layout` is for. Four patches become one token of the language model's width.

What is not taught here: the merger is random and so must be trained, first alone (tower and language model
frozen, as in this step), then with the language model. SigLIP was never shown canvases of blocks from many
frames, its position table knows places on the canvas only, and it reads every canvas by itself: where
time matters, say it in the prompt (`Canvases.prompt`) and fine-tune the tower too.

Needs: pip install 'ov2kit[recipes]'. Run: python examples/siglip_merger.py
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

import ov2kit
from ov2kit import Canvases
from ov2kit.codec import CodecTokenizer
from ov2kit.connectors import PatchMerger
from ov2kit.geometry import to_block_layout

CLIP = Path(ov2kit.__file__).parent / "codec" / "sample" / "bbb_360p.mp4"


def build() -> tuple[SiglipVisionModel, PatchMerger, LlamaForCausalLM]:
    """Tower of width 32, merger, language model of width 48; tower and language model frozen."""
    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2}
    tower = SiglipVisionModel(
        SiglipVisionConfig(hidden_size=32, intermediate_size=64, image_size=56, patch_size=14, **small)
    )
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=48, intermediate_size=96, pad_token_id=None, **small))
    return tower.eval().requires_grad_(False), PatchMerger(32, 48), llm.eval().requires_grad_(False)


def visual_tokens(tower: nn.Module, merger: PatchMerger, canvases: Canvases) -> Tensor:
    """-> (M, out_width) tokens in the order of `canvases.flat_positions()`, equally many of each canvas."""
    pixels = canvases.images / 127.5 - 1
    rows = tower(pixels, interpolate_pos_encoding=True).last_hidden_state  # (K, patches, width), raster
    h, w = canvases.grid
    blocks = to_block_layout(rows.unflatten(1, (h, w)), merger.merge)  # (N, width)
    tokens: Tensor = merger(blocks, grids=[(1, h, w)] * len(canvases))
    return tokens


def main() -> None:
    canvases = CodecTokenizer(budget_canvases=4, max_pixels=25_000)(CLIP)
    tower, merger, llm = build()
    caption = torch.tensor([[1, 7, 19, 4, 2]])  # what a tokenizer would make of a caption
    optimizer = torch.optim.AdamW(merger.parameters(), lr=1e-2)
    print(canvases)
    for step in range(3):
        tokens = visual_tokens(tower, merger, canvases)
        words = llm.get_input_embeddings()(caption)
        labels = torch.cat((torch.full((1, len(tokens)), -100), caption), dim=1)
        loss = llm(inputs_embeds=torch.cat((tokens[None], words), dim=1), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        each = len(tokens) // len(canvases)
        print(f"step {step}: tokens {tuple(tokens.shape)}, {each} per canvas, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
