"""The three tokenizers behind one interface."""

import inspect
from typing import Any, cast

import numpy as np
import pytest

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, Tokenizer
from tests.paths import SAMPLE

SMALL = {"max_pixels": 20_000}
PICTURE = np.zeros((56, 84, 3), np.uint8)


def made() -> list[tuple[Tokenizer[Any], Any]]:
    """Each tokenizer with a source; that they fit the interface is for the type checker to say."""
    codec: Tokenizer[Any] = CodecTokenizer(2, **SMALL)
    frames: Tokenizer[Any] = FrameTokenizer(3, **SMALL)
    image: Tokenizer[Any] = ImageTokenizer(**SMALL)
    return [(codec, SAMPLE), (frames, SAMPLE), (image, PICTURE)]


@pytest.mark.parametrize("number", range(3))
def test_each_has_all_of_the_interface(number):
    tokenizer, source = made()[number]
    for name, member in vars(Tokenizer).items():
        if isinstance(member, property):
            getattr(tokenizer, name)
    assert tokenizer.max_pixels == tokenizer.options()["max_pixels"] == 20_000
    assert tokenizer.canvas_size is tokenizer.budget_tokens is None
    call = type(tokenizer).forward if number == 0 else type(tokenizer).__call__
    assert inspect.signature(cast(Any, call)).parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY
    seen: list[tuple[int, int]] = []
    canvases = tokenizer(source, progress=lambda done, total: seen.append((done, total)))
    total = seen[-1][1]
    assert seen == [(done, total) for done in range(1, total + 1)]
    assert total == {0: 16, 1: 3, 2: 1}[number]  # 8 candidates per canvas, frames, the picture
    assert canvases == tokenizer(source)
