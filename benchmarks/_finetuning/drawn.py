"""Models of random weights, drawn on the device one tensor at a time: no file, and no whole model on the host."""

import zlib
from pathlib import Path

import torch

from ov2kit.recipes import LlavaOneVision2
from ov2kit.recipes.architecture.released_config import config_of
from ov2kit.recipes.model.quantized import load_quantized
from ov2kit.recipes.release.configs import empty_model
from ov2kit.recipes.release.filling import fill
from ov2kit.recipes.release.names import places

_SPREAD = 0.02  # standard deviation of weights, as released models begin


def empty(config):
    """The model that a release config describes, without memory."""
    return empty_model(config, Path("config"), LlavaOneVision2.from_parts)


def draw(name, shape, device):
    """Norms are 1, biases 0, other weights normal; the same for the same name."""
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.bfloat16, device=device)
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    return torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(std=_SPREAD, generator=generator)


class Drawn:
    """A tensor that is drawn when it is read, as a slice of a safetensors file is read.

    Args:
        name: of it.
        shape: of it.
        device: where it is drawn.
    """

    def __init__(self, name, shape, device):
        self.name, self.shape, self.device = name, tuple(shape), device

    def __getitem__(self, index):
        return draw(self.name, self.shape, self.device)[index]

    def get_shape(self):
        return list(self.shape)

    def get_dtype(self):
        return "BF16"


def plain(config, device):
    """In bfloat16, as a directory is read."""
    model = empty(config)
    fill(model, places(model), lambda place: draw(place.name, place.shapes[0], device))
    return model.to(device).eval()


def quantized(config, quantization, device):
    """As transformers quantizes a directory while it reads it, which it does one tensor at a time."""
    state = {place.name: Drawn(place.name, place.shapes[0], device) for place in places(empty(config))}

    def load(**options):
        theirs = super(LlavaOneVision2, LlavaOneVision2).from_pretrained
        options |= {"config": config_of(config), "state_dict": state, "dtype": torch.bfloat16}
        model, info = theirs(None, output_loading_info=True, **options)
        if wrong := {key: sorted(info[key])[:3] for key in ("missing_keys", "unexpected_keys") if info[key]}:
            raise RuntimeError(f"the weights do not fit the model: {wrong}")
        return model

    return load_quantized(load, quantization, device)
