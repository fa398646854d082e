"""Qwen2.5-VL and Qwen3-VL of transformers, processor and model, tiny and with random weights.

For the example beside it: nine words, language width 48, vision width 32, two layers each, and nothing
downloaded. With released weights write `AutoProcessor.from_pretrained(...)` and the model's instead.
"""

import tokenizers
import torch
import transformers as hf

from ov2kit.canvases import CLIP_MEAN, CLIP_STD

SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
WORDS = ["<unk>", *SPECIAL, "What", "happens", "next", "?"]
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 4, 4]}
#: patch in pixels, and how the released processor of each normalizes its pixels
PICTURES = {
    "Qwen2_5_VL": {"patch_size": 14, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "Qwen3VL": {"patch_size": 16, "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)},
}
TEXT = {
    "Qwen2_5_VL": {"rope_parameters": ROPE, "bos_token_id": None, "eos_token_id": None},
    "Qwen3VL": {"rope_parameters": ROPE | {"mrope_interleaved": True}, "head_dim": 24},
}
VISION = {
    "Qwen2_5_VL": {"window_size": 56, "fullatt_block_indexes": [1]},
    "Qwen3VL": {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
}


def build(name: str) -> tuple[hf.ProcessorMixin, hf.PreTrainedModel]:
    """Processor and model of "Qwen2_5_VL" or "Qwen3VL"."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=SPECIAL)
    images = hf.Qwen2VLImageProcessor(**PICTURES[name])
    patch = PICTURES[name]["patch_size"]
    processor = getattr(hf, f"{name}Processor")(images, tokenizer, hf.Qwen2VLVideoProcessor(patch_size=patch))
    text = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": len(WORDS)}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.2}
    vision = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2, "out_hidden_size": 48}
    vision |= {"patch_size": patch, "initializer_range": 0.2}
    ids = {f"{kind}_token_id": i for i, kind in enumerate(("vision_start", "vision_end", "image", "video"), 1)}
    config = getattr(hf, f"{name}Config")(text_config=text | TEXT[name], vision_config=vision | VISION[name], **ids)
    torch.manual_seed(0)
    return processor, getattr(hf, f"{name}ForConditionalGeneration")(config).eval()
