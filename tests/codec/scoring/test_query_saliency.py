"""Scores that know what is asked about."""

import colorsys

import pytest
import torch

from ov2kit.codec import CodecTokenizer, ColorNames, EventSaliency, QuerySaliency
from ov2kit.codec.scoring.color_names import COLOR_NAMES
from ov2kit.errors import OptionError
from tests.paths import SAMPLE

RED = [float(name == "red") for name in COLOR_NAMES]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"), ((250, 250, 250), "white"), ((128, 128, 128), "gray"), ((220, 20, 30), "red"),
        ((255, 140, 0), "orange"), ((110, 70, 30), "brown"), ((250, 230, 40), "yellow"), ((40, 160, 60), "green"),
        ((30, 60, 200), "blue"), ((120, 40, 190), "purple"), ((250, 120, 190), "pink"),
    ],
)  # fmt: skip
def test_plain_colors_have_their_names(rgb, name):
    block = torch.tensor(rgb).view(1, 3, 1, 1) / 255
    assert COLOR_NAMES[int(ColorNames()(block).argmax())] == name


def test_hues_are_those_of_colorsys():
    """Sectors of bright, full colors, against the standard library's conversion."""
    pixels = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    names = ColorNames()(pixels[..., None, None]).argmax(1)
    for pixel, found in zip(pixels.tolist(), names.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        if saturation > 0.3 and value > 0.65 and 75 < 360 * hue < 160:
            assert COLOR_NAMES[found] == "green"
        if saturation > 0.3 and value > 0.65 and 170 < 360 * hue < 250:
            assert COLOR_NAMES[found] == "blue"


def test_shares_of_a_block_add_up():
    block = torch.zeros(1, 3, 2, 2)
    block[0, 0, 0, 0] = 1  # one red pixel of four, the others black
    shares = dict(zip(COLOR_NAMES, ColorNames()(block)[0].tolist(), strict=True))
    assert (shares["red"], shares["black"]) == (0.25, 0.75)


def test_blocks_like_the_query_count_more_and_others_as_before():
    saliency = QuerySaliency(RED, weight=3.0)
    picture = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    picture[0, 0, :2, :2] = 230  # the first of four blocks is red
    alike = saliency.similarity(picture, (2, 2))
    assert alike.tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    scores = torch.tensor([[[1.0, 2.0], [0.0, -1.0]]])
    assert saliency.weighted(scores, alike).tolist() == [[[4.0, 2.0], [0.0, -1.0]]]


def test_features_of_a_model_take_the_place_of_colors():
    def brightness(blocks):
        return torch.stack([blocks.mean((1, 2, 3)), 1 - blocks.mean((1, 2, 3))], dim=1)

    picture = torch.tensor([0, 255], dtype=torch.uint8).repeat_interleave(2).expand(1, 3, 2, 4).contiguous()
    assert QuerySaliency([1.0, 0.0], features=brightness).similarity(picture, (1, 2)).tolist() == [[[0.0, 1.0]]]
    with pytest.raises(ValueError, match=r"features must be a tensor \(2, 3\) for this query, got \(2, 2\)"):
        QuerySaliency([1.0, 0.0, 0.0], features=brightness).similarity(picture, (1, 2))


def test_canvases_show_more_of_what_is_asked_about_in_as_many_tokens():
    small = {"max_pixels": 20_000, "threads": 1}
    green = [float(name == "green") for name in COLOR_NAMES]
    plain = CodecTokenizer(4, preset="event", **small)(SAMPLE)
    asked = CodecTokenizer(4, preset="event", saliency=QuerySaliency(green, weight=50.0), **small)(SAMPLE).validate()
    assert asked.num_tokens == plain.num_tokens
    assert asked.signal == "luma, events, query"
    shares = []
    for canvases in (plain, asked):
        blocks = canvases.images[~canvases.is_anchor].unfold(2, 28, 28).unfold(3, 28, 28).permute(0, 2, 3, 1, 4, 5)
        found = ColorNames()(blocks.reshape(-1, 3, 28, 28).float() / 255)
        shares.append(float(found[:, COLOR_NAMES.index("green")].mean()))
    assert shares[1] > 1.1 * shares[0]
    nothing = CodecTokenizer(4, preset="event", saliency=QuerySaliency(green, weight=0.0), **small)(SAMPLE)
    assert torch.equal(nothing.positions, plain.positions)


def test_options_are_checked():
    for query in ([], [0.0, 0.0], torch.ones(2, 2), "red"):
        with pytest.raises(OptionError, match="query"):
            QuerySaliency(query)
    with pytest.raises(OptionError, match="weight"):
        QuerySaliency(RED, weight=-1.0)
    with pytest.raises(OptionError, match="saliency"):
        QuerySaliency(RED, saliency="event")
    assert isinstance(QuerySaliency(RED).saliency, EventSaliency)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e300])
def test_only_the_direction_of_a_query_counts(scale):
    plain, scaled = QuerySaliency(RED), QuerySaliency([value * scale for value in RED])
    assert torch.equal(plain.query, scaled.query)


@pytest.mark.parametrize(
    ("query", "said"),
    [([1.0, 0.0, 0.0], "got 3"), ([-value for value in RED], "no color above 0")],
    ids=["too short", "negative"],
)
def test_a_query_that_colors_cannot_answer_is_refused(query, said):
    with pytest.raises(OptionError, match=said):
        QuerySaliency(query)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (torch.full((4, 2), float("nan")), "must be finite"),
        (torch.full((4, 2), float("inf")), "must be finite"),
        (torch.ones(4, 3), r"must be a tensor \(4, 2\) for this query, got \(4, 3\)"),
        (None, "got NoneType"),
    ],
    ids=["nan", "inf", "wide", "none"],
)
def test_features_that_say_nothing_are_refused(found, said):
    module = QuerySaliency([1.0, 0.0], features=lambda blocks: found)
    with pytest.raises(ValueError, match=said):
        module.similarity(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), (2, 2))


def test_features_may_have_half_precision():
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]])
    module = QuerySaliency([1.0, 0.0], features=lambda blocks: features.half())
    got = module.similarity(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), (2, 2)).flatten()
    torch.testing.assert_close(got, torch.tensor([1.0, 0.0, 0.5**0.5, 0.0]))
