"""AutoProcessor's view of a directory: the same tensors as `Processor`, under the names of public clients."""

import io
import json

import pytest
import torch

import ov2kit.recipes
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import DataError, OptionError, Ov2kitError
from ov2kit.recipes import Processor, build, collate, release_config, small_tokenizer
from ov2kit.recipes.generate import answer, load
from tests.paths import SAMPLE

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")
assert ov2kit.recipes  # the import that makes AutoProcessor know the class

VIDEO = {"type": "video", "video": str(SAMPLE)}
TEXT = {"type": "text", "text": "What happens?"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Sharp random weights, so that greedy answers differ from input to input."""
    tokenizer = small_tokenizer()
    torch.manual_seed(3)
    model = build(release_config("tiny", tokenizer=tokenizer, text={"tie_word_embeddings": False}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    processor = Processor(tokenizer, codec=CodecTokenizer(4, max_pixels=16_000), source="codec", decimals=2)
    model.save_pretrained(folder, processor)
    return folder


@pytest.fixture(scope="module")
def processor(directory):
    return transformers.AutoProcessor.from_pretrained(directory)


@pytest.fixture(scope="module")
def picture(processor):
    return processor.processor.frames(str(SAMPLE)).images[0]


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def conversations(picture):
    image = {"type": "image", "image": picture}
    return [
        user(TEXT),
        user(VIDEO, TEXT),
        user(image, VIDEO, TEXT),
        user(VIDEO, {"type": "text", "text": " and "}, VIDEO, image, TEXT),
        [*user(image, TEXT), {"role": "assistant", "content": "A rabbit."}, *user(TEXT)],
    ]


def test_messages_give_the_tensors_of_our_own_processor(processor, picture):
    chats = conversations(picture)
    found = processor.apply_chat_template(chats, tokenize=True, add_generation_prompt=True, padding_side="left")
    own = [processor.processor(chat, generate=True) for chat in chats]
    batch = collate(own, processor.processor.pad_id, "left")
    assert torch.equal(found["input_ids"], batch.input_ids)
    assert torch.equal(found["attention_mask"], batch.attention_mask)
    assert torch.equal(found["pixel_values"], batch.pixel_values)
    assert torch.equal(found["patch_positions"], batch.positions)
    grid = found["image_grid_thw"]
    assert grid.prod(-1).tolist() == list(batch.layout.segments("group").lengths)
    assert set(found) <= set(processor.model_input_names)


@pytest.mark.parametrize("index", range(5))
def test_text_and_media_apart_give_the_same(processor, picture, index):
    chat = conversations(picture)[index]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    media = [part for message in chat for part in message["content"] if isinstance(part, dict)]
    images = [part["image"] for part in media if part["type"] == "image"]
    videos = [part["video"] for part in media if part["type"] == "video"]
    apart = processor(text=[text], images=[images] if images else None, videos=videos or None)
    whole = processor.apply_chat_template(chat, tokenize=True, add_generation_prompt=True)
    assert apart.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(apart[name], tensor), name


@torch.no_grad()
def test_generate_answers_as_our_own(directory, processor, picture):
    model = transformers.AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32)
    net, own = load(directory, device="cpu")
    chats = conversations(picture)
    inputs = processor.apply_chat_template(chats, tokenize=True, add_generation_prompt=True, padding_side="left")
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    said = model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=end, pad_token_id=own.pad_id)
    answers = processor.batch_decode(said[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    want = answer(net, own, [own(chat, generate=True) for chat in chats], max_new_tokens=12)
    assert [text.strip() for text in answers] == want
    assert len(set(want)) > 2


def test_path_bytes_and_file_objects_are_one_video(processor):
    given = [str(SAMPLE), SAMPLE, SAMPLE.read_bytes(), io.BytesIO(SAMPLE.read_bytes())]
    rows = [processor.apply_chat_template(user({**VIDEO, "video": one}, TEXT), tokenize=True) for one in given]
    for row in rows[1:]:
        assert all(torch.equal(row[name], tensor) for name, tensor in rows[0].items())
    again = processor.apply_chat_template(user({"type": "video", "path": str(SAMPLE)}, TEXT), tokenize=True)
    assert torch.equal(again["patch_positions"], rows[0]["patch_positions"])


def test_options_of_a_request(processor):
    def ask(**options):
        return processor.apply_chat_template(user(VIDEO, TEXT), tokenize=True, **options)

    plain = ask()
    assert int(plain["image_grid_thw"][:, 0].sum()) == 4
    assert int(ask(codec_config={"budget_canvases": 8})["image_grid_thw"][:, 0].sum()) == 8
    frames = ask(video_backend="frame", num_frames=6, max_pixels=10_000)
    assert int(frames["image_grid_thw"][:, 0].sum()) == 6
    assert len(frames["pixel_values"]) / 6 * 196 <= 10_000
    assert len(frames["patch_positions"][:, 0].unique()) == 6
    nested = ask(processor_kwargs={"codec_config": {"budget_canvases": 8}})
    assert int(nested["image_grid_thw"][:, 0].sum()) == 8
    assert all(torch.equal(ask()[name], tensor) for name, tensor in plain.items())  # nothing of it stays
    with pytest.raises(OptionError, match="codec_confg"):
        ask(codec_confg={})
    with pytest.raises(OptionError, match="budget"):
        ask(codec_config={"budget": 8})
    with pytest.raises(OptionError, match="video_backend"):
        ask(video_backend="motion")


def test_places_and_media_must_match(processor, tmp_path):
    text = processor.apply_chat_template(user(VIDEO, TEXT), tokenize=False)
    with pytest.raises(DataError, match=r"1 place\(s\) for 0 video"):
        processor(text=text)
    with pytest.raises(DataError, match=r"0 place\(s\) for 1 image"):
        processor(text="hello", images=[[tmp_path]])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(Ov2kitError, match=r"video 0: .*broken\.mp4"):
        processor(text=text, videos=[tmp_path / "broken.mp4"])
    with pytest.raises(OptionError, match="cut to a length"):
        processor(text="hello", truncation=True, max_length=4)


def test_saving_keeps_every_option(directory, processor, tmp_path):
    processor.save_pretrained(tmp_path / "again")
    again = transformers.AutoProcessor.from_pretrained(tmp_path / "again")
    assert type(again) is type(processor)
    assert json.loads((directory / "processor_config.json").read_text())["processor_class"] == type(again).__name__
    assert again.processor.decimals == 2
    assert again.processor.codec.options() == processor.processor.codec.options()
    again.save_pretrained(tmp_path / "third")
    for file in (tmp_path / "again").iterdir():
        assert (tmp_path / "third" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_resampler_gets_as_many_pads_as_it_makes(tmp_path):
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    model = build(release_config("tiny", tokenizer=tokenizer), connector="resampler")
    model.save_pretrained(tmp_path / "m", Processor(tokenizer, codec=CodecTokenizer(4, max_pixels=16_000)))
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "m")
    net = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    inputs = processor.apply_chat_template(user(VIDEO, TEXT), tokenize=True)
    assert torch.isfinite(net(**inputs).logits).all()
