"""Placeholders in texts, and the pictures and videos that fill them."""

import pytest

from ov2kit.errors import DataError
from tests.recipes.prompt.conversations import CODEC, IMAGE, TOKENIZER, dots, image, processor, user, video
from tests.test_canvases import build


def test_placeholders_are_filled_in_order_over_the_conversation():
    p = processor(system=None)
    talk = [user("A <image> B <video>\nC"), {"role": "assistant", "content": "D"}, user("<image>")]
    small = build([0], blocks=(1, 1))
    text = p.text(talk, images=[IMAGE, small], videos=[CODEC])
    parts = [user("A ", image(IMAGE), " B ", video(CODEC), "\nC"), talk[1], user(image(small))]
    assert text == p.text(parts)
    assert "[1]<|im_end|>" in dots(text)
    subtitled = video(CODEC, subtitles=[{"text": "Hello", "start": 0.5}])
    own = p.text([user("<video>\nC ", subtitled)])
    assert own == p.text([user(subtitled, "\nC ")])
    assert "Hello" in own
    with_more = {"path": CODEC, "subtitles": [{"text": "Hello", "start": 0.5}]}
    assert p.text([user("<video>\nC ")], videos=[with_more]) == own
    with pytest.raises(DataError, match=r"videos, part 0: .* needs its source under 'video' or 'path'"):
        p.text([user("<video>")], videos=[{"subtitles": []}])


def test_placeholders_in_answers_count_too():
    p = processor(system=None)
    talk = [user("Draw."), {"role": "assistant", "content": "<image> done"}]
    sample = p(talk, images=[IMAGE])
    assert TOKENIZER.decode(sample.labels[sample.labels >= 0]) == " done<|im_end|>"


@pytest.mark.parametrize(
    ("content", "images", "videos", "message"),
    [
        ("<image><image>", [IMAGE], None, r"2 <image> placeholder\(s\) for 1 image\(s\)"),
        ("no place", [IMAGE], None, r"0 <image> placeholder\(s\) for 1 image\(s\)"),
        ("<video>", [], [CODEC, CODEC], r"1 <video> placeholder\(s\) for 2 video\(s\)"),
        ("<image>", [], None, r"1 <image> placeholder\(s\) for 0 image\(s\)"),
        (
            [image(IMAGE), "<image> and <image>"],
            None,
            None,
            r"message 0: its text has 2 <image>.*its parts are 1 image",
        ),
        (["<video>", video(CODEC), video(CODEC)], None, None, r"message 0: its text has 1 <video>.*parts are 2 video"),
    ],
)
def test_counts_that_differ_are_refused_with_both_numbers(content, images, videos, message):
    with pytest.raises(DataError, match=message):
        processor()([{"role": "user", "content": content}], images=images, videos=videos)


def test_a_placeholder_without_media_is_text():
    assert "What is <image> in HTML?" in processor().text([user("What is <image> in HTML?")])
