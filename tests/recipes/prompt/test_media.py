"""What a video or a picture of a message may be given as, and what is said of one that cannot be opened."""

import io
import pickle

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, save_assets
from ov2kit.errors import AssetError, CanvasError, CheckpointError, DataError, VideoError
from ov2kit.recipes import Processor
from tests.paths import SAMPLE
from tests.recipes.prompt.conversations import IMAGE, TOKENIZER, image, processor, same, user, video
from tests.test_canvases import build


@pytest.fixture(scope="module")
def real() -> Processor:
    size = {"patch": 14, "max_pixels": 10_000}
    return Processor(
        TOKENIZER, codec=CodecTokenizer(4, **size), frames=FrameTokenizer(3, **size), image=ImageTokenizer(**size)
    )


def test_a_video_may_come_as_path_bytes_directory_or_canvases(real, tmp_path, monkeypatch):
    canvases = real.codec(SAMPLE)
    first = real([user(video(canvases), "What?")])
    assert first.stats["videos"] == 1
    assert first.stats["canvases"] == 4
    assert first.stats["video_seconds"] == pytest.approx(5.28)
    assert 0 < first.stats["p_share"] < 1
    canvases.save(tmp_path / "ours")
    save_assets(canvases, tmp_path / "public", "png")
    monkeypatch.chdir(SAMPLE.parent)
    given = [SAMPLE, str(SAMPLE), SAMPLE.name, f"file://{SAMPLE}", SAMPLE.read_bytes(), io.BytesIO(SAMPLE.read_bytes())]
    for source in [*given, tmp_path / "ours", str(tmp_path / "public")]:
        assert same(real([user(video(source), "What?")]), first), source
    assert same(real([user({"type": "video", "path": SAMPLE}, "What?")]), first)


def test_the_source_of_a_video_is_the_parts_then_the_processors(real):
    sampled = real.frames(SAMPLE)
    part = real([user(video(SAMPLE, source="frames"))])
    assert same(part, real([user(video(sampled))]))
    assert part.stats["canvases"] == 3
    assert "\n<" not in real.text([user(video(SAMPLE, source="frames"))]).split("user\n")[1]
    default = Processor(TOKENIZER, codec=real.codec, frames=real.frames, image=real.image, source="frames")
    assert same(default([user(video(SAMPLE))]), part)
    assert same(default([user(video(SAMPLE, source="codec"))]), real([user(video(SAMPLE))]))


def test_a_picture_may_come_as_path_pixels_or_canvas(real, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    first = real([user(image(picture))])
    assert first.stats == {**first.stats, "images": 1, "videos": 0, "video_seconds": 0, "canvases": 1}
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, tensor, (tmp_path / "a.png").read_bytes()):
        assert same(real([user(image(source))]), first)
    assert same(real([user(image(real.image(picture)))]), first)


def test_a_processor_goes_to_another_process(real):
    copy = pickle.loads(pickle.dumps(real))
    assert same(copy([user(video(SAMPLE))]), real([user(video(SAMPLE))]))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], r"no messages"),
        ("Hi.", r"expected a list of messages .* got str"),
        ({"role": "user", "content": "Hi."}, r"expected a list of messages .* got dict"),
        (["Hi."], r"message 0: expected a mapping .* got str"),
        ([{"content": "Hi."}], r"message 0: unknown role None; known: system, user, assistant, tool"),
        ([{"role": "user", "content": "a"}, {"role": "human", "content": "b"}], r"message 1: unknown role 'human'"),
        ([{"role": "user"}], r"message 0: content must be text or a list of parts, got NoneType"),
        ([{"role": "user", "content": {"type": "text"}}], r"message 0: content must be .* got dict"),
        ([user("a"), user("b", {"type": "audio", "audio": 1})], r"message 1, part 1: unknown part of type 'audio'"),
        ([user(3)], r"message 0, part 0: unknown part of int; known: text, image, video"),
        ([user({"type": "text"})], r"message 0, part 0: a text part needs text under 'text', got None"),
        ([user({"type": "video"})], r"message 0, part 0: .*'video' needs its source under 'video' or 'path'"),
        ([user(video("a.mp4", source="motion"))], r"message 0: unknown source 'motion'; known: codec, frames, hybrid"),
        ([user(video("https://example.org/a.mp4"))], r"message 0: 'https://example.org/a.mp4': addresses are not"),
        ([user(video(3.5))], r"message 0: "),
        ([user("a"), user(image({}))], r"message 1: an image must be a path, bytes, .* got dict"),
        ([user(video("a.mp4", sorce="frames"))], r"message 0, part 0: unknown key 'sorce' .*did you mean 'source'"),
        ([user({"type": "text", "text": "a", "txt": "b"})], r"unknown key 'txt' of a part of type 'text'"),
        ([user({"type": "image", "image": IMAGE, "source": "codec"})], r"unknown key 'source' of a part of type 'ima"),
        ([user({"type": "image", "image": IMAGE, "subtitles": []})], r"message 0: subtitles need one video"),
        ([user(video(build([0], patch=4)))], r"message 0: the canvases have patch 4 and merge 2, expected 2 and 2"),
    ],
)  # fmt: skip
def test_bad_messages_are_named(messages, message):
    with pytest.raises(ValueError, match=message) as caught:
        processor()(messages)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_name_the_message_and_keep_their_kind(tmp_path):
    p = processor()
    with pytest.raises(VideoError, match=r"message 1: .*gone.mp4: no such file"):
        p([user("a"), user(video(tmp_path / "gone.mp4"))])
    with pytest.raises(VideoError, match=r"message 0: .*gone.png: no such file"):
        p([user(image(str(tmp_path / "gone.png")))])
    with pytest.raises(AssetError, match=r"message 0: .*never finished"):
        p([user(video(tmp_path))])
    with pytest.raises(CanvasError, match=r"message 0: no time for source frame"):
        p([user(video(build([0, 5], frame_times={0: 0.0})))])


def test_an_answer_that_is_there_is_not_generated():
    with pytest.raises(DataError, match=r"message 1: an answer is there already"):
        processor()([user("a"), {"role": "assistant", "content": "b"}], generate=True)


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"unknown source 'motion'; known: codec, frames, hybrid"):
        processor(source="motion")
    with pytest.raises(ValueError, match=r"unknown supervise 'first'; known: all, last, none"):
        processor(supervise="first")
    with pytest.raises(ValueError, match=r"decimals must be a whole number, from 0 to 9, got 1.5"):
        processor(decimals=1.5)
    with pytest.raises(ValueError, match=r"one \(patch, merge\), got \[\(2, 2\), \(16, 2\)\]"):
        processor(codec=CodecTokenizer(patch=16))
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()))
    with pytest.raises(CheckpointError, match=r"has no <\|im_start\|>"):
        Processor(bare)
