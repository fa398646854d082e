"""A model and groups that all tests of a model beside a stream share."""

import pytest
import torch

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from ov2kit.recipes.architecture.sizes import release_config
from ov2kit.recipes.model.build import build
from ov2kit.recipes.prompt.text_tokenizer import small_tokenizer
from tests.codec.live.streams import packets_of, pushed, ts_clip


@pytest.fixture(scope="package")
def groups():
    live = LiveTokenizer(CodecTokenizer(max_pixels=10_000, canvases_per_group=2), tokens_per_second=12)
    found = pushed(live, packets_of(ts_clip(frames=500)))
    assert len(found) >= 6
    return found


@pytest.fixture(scope="package")
def model():
    """Sharp random weights, so that greedy answers differ from input to input."""
    torch.manual_seed(3)
    net = build(release_config("tiny", tokenizer=small_tokenizer(), text={"tie_word_embeddings": False}))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return net.eval()
