"""One budget rule for the three tokenizers: counted in merged tokens, never exceeded, refused when it is given."""

import numpy as np
import pytest

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.errors import BudgetError
from tests.paths import SAMPLE

ALL = (CodecTokenizer, FrameTokenizer, ImageTokenizer)


@pytest.mark.parametrize("block", [2, 3])
@pytest.mark.parametrize("budget", [9, 50, 300, 1001])
def test_a_token_budget_counts_tokens_whatever_the_block(block, budget):
    tokens = CodecTokenizer(budget_tokens=budget, block=block)(SAMPLE).num_tokens
    assert 0.9 * (budget // block**2 * block**2) <= tokens <= budget


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget_tokens": 0}, "budget_tokens must be at least 1, got 0"),
        ({"canvas_size": (281, 504)}, r"multiples of patch \* merge = 28 pixels, got 281 x 504"),
        (
            {"budget_tokens": 100, "canvas_size": (280, 504)},
            "280 x 504 pixels is 180 tokens, more than budget_tokens=100",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_at_once(kind, options, message):
    with pytest.raises(BudgetError, match=message):
        kind(**options)


@pytest.mark.parametrize("kind", [CodecTokenizer, FrameTokenizer])
def test_two_budgets_are_refused_at_once(kind):
    with pytest.raises(BudgetError, match="give one of budget_canvases and budget_tokens"):
        kind(4, budget_tokens=100)


def test_blocks_larger_than_the_budget_or_off_the_canvas_are_refused_at_once():
    with pytest.raises(BudgetError, match="a block of 3 x 3 tokens does not fit in budget_tokens=8"):
        CodecTokenizer(budget_tokens=8, block=3)
    with pytest.raises(BudgetError, match=r"multiples of patch \* merge \* block = 56 pixels"):
        CodecTokenizer(canvas_size=(84, 112), block=2)


def test_a_budget_shrinks_a_picture_and_never_enlarges_it():
    picture = np.zeros((100, 150, 3), np.uint8)
    plain = ImageTokenizer()(picture)
    assert plain.images.shape == (1, 3, 112, 140)  # 4 x 5 tokens
    assert ImageTokenizer(budget_tokens=1000)(picture).images.shape == plain.images.shape
    assert ImageTokenizer(budget_tokens=20)(picture).images.shape == plain.images.shape
    assert ImageTokenizer(budget_tokens=7)(picture).images.shape == (1, 3, 56, 84)
    assert ImageTokenizer(budget_tokens=1)(picture).num_tokens == 1
