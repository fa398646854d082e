"""One row to learn from: canvases of a video, a question, and an answer."""

import torch

from ov2kit import Segments

_MERGE = 2


def row(config, canvases, height, width, text, answer, device):
    """Keyword arguments of the model; the same for the same sizes.

    Args:
        config: a release config.
        canvases: of the video, in groups of four.
        height: of a canvas in patches, as `width`.
        width: see there.
        text: tokens before and after the video, the answer among them.
        answer: tokens that are supervised, the last ones.
        device: where it goes.
    """
    generator = torch.Generator().manual_seed(0)
    patches = canvases * height * width
    pixels = torch.randn(patches, 3 * config["vision_config"]["patch_size"] ** 2, generator=generator)
    sides = torch.tensor([canvases * 8, height, width])
    positions = (torch.rand(patches, 3, generator=generator) * sides).int()
    visual = patches // _MERGE**2
    words = torch.randint(1, min(400, config["text_config"]["vocab_size"]), (1, text), generator=generator)
    before = (text - answer) // 2
    pads = torch.full((1, visual), config["image_token_id"])
    ids = torch.cat([words[:, :before], pads, words[:, before:]], 1)
    labels = torch.full_like(ids, -100)
    labels[:, -answer:] = ids[:, -answer:]
    groups = [min(4, canvases - first) * height * width for first in range(0, canvases, 4)]
    return {
        "input_ids": ids.to(device),
        "pixel_values": pixels.to(device),
        "patch_positions": positions.to(device),
        "segments": Segments.from_lengths(groups, device),
        "attention_mask": torch.ones_like(ids).to(device),
        "labels": labels.to(device),
        "supervised_only": True,
    }
