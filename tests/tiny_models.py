"""Tiny models of random weights, sharp enough that what a token sees changes its logits."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from ov2kit import Segments
from ov2kit.connectors import PatchMerger
from ov2kit.encoders import OneVisionEncoder
from ov2kit.recipes import Batch, LlavaOneVision2, Sample, VisualLayout
from tests.paths import GOLDEN

PAD, IMAGE = 0, 60
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
}
FAMILIES = {
    "qwen3": SIZES,
    "llama": SIZES,
    "qwen3_moe": SIZES
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "router_aux_loss_coef": 0.1},
    "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 512, "bos_token_id": None}
    | {"eos_token_id": None, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}


def golden_files():
    """(facts, weights, cases) of the golden full model."""
    prefix = str(GOLDEN / "05_full_model_")
    facts = json.loads(Path(prefix + "meta.json").read_text())
    return facts, load_file(prefix + "weights.safetensors"), load_file(prefix + "cases.safetensors")


def language_model(family: str = "qwen3", **options):
    from transformers import AutoConfig, AutoModelForCausalLM

    options, attention = dict(options), options.pop("attention", "sdpa")
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **(FAMILIES[family] | options))
    return sharpen(AutoModelForCausalLM.from_config(config, attn_implementation=attention), 8)


def encoder(**options):
    torch.manual_seed(2)
    return sharpen(OneVisionEncoder(64, 2, 2, 96, patch=14, **options), 4)


def sharpen(module, factor):
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return module


def tiny(family: str = "qwen3", connector=None, **options):
    """LlavaOneVision2 of width 48 on an encoder of width 64."""
    text = language_model(family, **options)
    torch.manual_seed(3)
    return LlavaOneVision2({"image_token_id": IMAGE}, encoder(), connector or PatchMerger(64, 48), text).eval()


def sample(seed: int, grids=(), *, groups=None, clips=None, text: int = 9, padding: int = 0, tokens=None) -> Sample:
    """Random words around random canvases; the last `padding` blocks of four patches are padding."""
    rng = torch.Generator().manual_seed(seed)
    layout = VisualLayout(
        tuple(grids), tuple(groups or range(len(grids))), tuple(clips or (0 for _ in grids)) if grids else ()
    )
    n = layout.num_patches
    positions = torch.randint(0, 9, (n, 3), generator=rng, dtype=torch.int32)
    if padding:
        positions[-4 * padding :] = -1
    pads = n // 4 - padding if tokens is None else tokens
    words = torch.randint(1, 50, (text,), generator=rng)
    ids = torch.cat([words[:3], torch.full((pads,), IMAGE), words[3:]])
    labels = torch.where(torch.arange(len(ids)) < len(ids) - 4, -100, ids)
    pixels = torch.randn(n, 588, generator=rng)
    return Sample(ids, labels, pixels, positions, layout, f"sample {seed}")


def run(model, batch: Batch, visibility="group", **options):
    """The model's forward of a batch, with all that a batch holds."""
    layout = batch.layout
    segments: Segments = layout.segments(visibility)
    return model(
        batch.input_ids,
        batch.pixel_values,
        batch.positions,
        segments,
        batch.attention_mask,
        batch.labels,
        position_ids=batch.position_ids,
        items=layout.segments("group"),
        image_grid_thw=layout.grid_thw(),
        **options,
    )
