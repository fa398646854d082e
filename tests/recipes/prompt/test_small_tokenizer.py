"""The small tokenizer, and reading a real one: nothing is asked of a hub and no code of a directory runs."""

import hashlib
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.errors import CheckpointError
from ov2kit.recipes import load_tokenizer, small_tokenizer
from ov2kit.recipes.prompt.text_tokenizer import SPECIAL_TOKENS

TOKENIZER = small_tokenizer()
TALK = [
    {"role": "user", "content": "How many jumps?"},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And now?"}, {"type": "video"}]},
]


@settings(max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert TOKENIZER.decode(ids) == text
    assert not set(ids) & set(TOKENIZER.all_special_ids)


def test_special_tokens_are_one_token_each_and_digits_stay_single():
    ids = TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    assert len(set(ids)) == 7
    for token, index in zip(SPECIAL_TOKENS, ids, strict=True):
        assert TOKENIZER.encode(f"a{token}b")[1] == index
    assert set(ids) == set(TOKENIZER.all_special_ids)
    assert len(TOKENIZER.encode("<123.45 seconds>")) == 1 + 6 + 1 + 1
    assert 256 < len(TOKENIZER) <= 512
    assert TOKENIZER.eos_token == "<|im_end|>"
    assert TOKENIZER.pad_token == "<|endoftext|>"


def test_its_ids_never_change():
    """Models are saved with them; special tokens come last."""
    vocabulary = json.dumps(sorted(TOKENIZER.get_vocab().items(), key=lambda item: item[1]))
    assert hashlib.sha256(vocabulary.encode()).hexdigest()[:16] == "7c9308653ce40bb9"
    merges = json.loads(TOKENIZER.backend_tokenizer.to_str())["model"]["merges"]
    assert len(merges) == len(TOKENIZER) - 256 - len(SPECIAL_TOKENS)


def test_its_chat_template_is_chatml():
    text = TOKENIZER.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHow many jumps?<|im_end|>\n"
        "<|im_start|>assistant\n3<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>And now?"
        "<|vision_start|><|video_pad|><|vision_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    own = TOKENIZER.apply_chat_template([{"role": "system", "content": "Be brief."}], tokenize=False)
    assert own == "<|im_start|>system\nBe brief.<|im_end|>\n"


def test_saved_and_loaded_it_is_the_same(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "A 12.5 seconds ☃ <|image_pad|>"
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.chat_template == TOKENIZER.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id) == (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id)
    assert pickle.loads(pickle.dumps(loaded)).encode(text) == loaded.encode(text)
    assert load_tokenizer(None).get_vocab() == TOKENIZER.get_vocab()


def release_directory(path, drop=(), **config):
    """A model directory as the release has it: an unknown model type with code of its own."""
    TOKENIZER.save_pretrained(path)
    code = {"auto_map": {"AutoConfig": "configuration_x.X", "AutoModel": "modeling_x.X"}}
    (path / "config.json").write_text(json.dumps({"model_type": "llava_onevision2", **code}))
    (path / "configuration_x.py").write_text("open(__file__ + '.ran', 'w')\nraise SystemExit('ran')\n")
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, **config}))
    if drop:
        whole = json.loads((path / "tokenizer.json").read_text())
        whole["added_tokens"] = [token for token in whole["added_tokens"] if token["content"] not in drop]
        (path / "tokenizer.json").write_text(json.dumps(whole))
        settings = json.loads((path / "tokenizer_config.json").read_text())
        settings["extra_special_tokens"] = [t for t in settings["extra_special_tokens"] if t not in drop]
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast"])
def test_a_release_directory_is_read_without_its_code(tmp_path, name):
    loaded = load_tokenizer(release_directory(tmp_path, tokenizer_class=name))
    assert loaded.encode("<|image_pad|> 3") == TOKENIZER.encode("<|image_pad|> 3")
    assert not (tmp_path / "configuration_x.py.ran").exists()


def test_a_template_in_a_file_of_its_own_is_found(tmp_path):
    release_directory(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    assert load_tokenizer(tmp_path).chat_template is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert load_tokenizer(tmp_path).chat_template == "{{ messages }}"
    (tmp_path / "chat_template.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"chat_template.json: no chat template can be read"):
        load_tokenizer(tmp_path)


def test_code_of_a_directory_is_refused(tmp_path):
    mapped = {"auto_map": {"AutoTokenizer": ["tokenization_x.T", "tokenization_x.T"]}, "tokenizer_class": "T"}
    release_directory(tmp_path, **mapped)
    (tmp_path / "tokenization_x.py").write_text("open(__file__ + '.ran', 'w')\n")
    with pytest.raises(CheckpointError, match="custom code") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tokenization_x.py.ran").exists()


def test_errors_name_the_directory_and_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: no such directory"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"expected tokenizer.json, or vocab.json and merges.txt") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    release_directory(tmp_path, drop=["<|vision_start|>", "<|image_pad|>"])
    with pytest.raises(CheckpointError, match=r"has no <\|vision_start\|>, <\|image_pad\|>;") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"the tokenizer cannot be read") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
