"""A small tokenizer with the special tokens of the release, and loading of a real one.

No hub is asked for anything: the small one is built here from code, for tests, the demo and tiny
models; a real one is read from a directory. Both are fast tokenizers of transformers.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as hf_logging

from ov2kit.canvases import IMAGE_PAD, VISION_END, VISION_START
from ov2kit.errors import CheckpointError, check_type
from ov2kit.files import check_file, kind_of

END_OF_TEXT, IM_START, IM_END, VIDEO_PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|video_pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
#: what a prompt cannot do without; the video pad is only reserved
NEEDED_TOKENS = (IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD)
DEFAULT_SYSTEM = "You are a helpful assistant."
# ChatML as the Qwen-VL family writes it: a default system turn, each picture a single pad.
CHAT_TEMPLATE = (
    "{%- if messages and messages[0].role != 'system' -%}"
    f"{IM_START}system\n{DEFAULT_SYSTEM}{IM_END}\n"
    "{% endif -%}"
    "{%- for message in messages -%}"
    f"{IM_START}{{{{ message.role }}}}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{%- for part in message.content -%}"
    f"{{%- if part.type == 'image' -%}}{VISION_START}{IMAGE_PAD}{VISION_END}"
    f"{{%- elif part.type == 'video' -%}}{VISION_START}{VIDEO_PAD}{VISION_END}"
    "{%- else -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{% endif %}"
    f"{IM_END}\n"
    "{% endfor -%}"
    f"{{%- if add_generation_prompt -%}}{IM_START}assistant\n{{% endif -%}}"
)
# Whole words, with the space before them, so that prompts of tiny models stay short.
_WORDS = (
    "a an and are as assistant at ball be black blue by describe do does first for from green happens helpful how in "
    "is it jump jumps left many moves no not object of on picture rabbit red right second seconds shown start starts "
    "that the this time times to video was what when where which white who with yellow yes you"
)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of a few hundred tokens with the special tokens of the release.

    All 256 bytes are tokens, so any text survives encoding and decoding; digits stay single. Ends
    of turns and padding are set as in the release: `<|im_end|>` and `<|endoftext|>`.
    """
    space = "\u0120"  # how byte-level tokenizers write a space
    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in _WORDS.split():
        known = space
        for letter in word:
            if known + letter not in vocabulary:
                merges.append((known, letter))
                vocabulary[known + letter] = len(vocabulary)
            known += letter
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (IM_END, END_OF_TEXT)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(directory: str | os.PathLike[str] | None) -> Any:
    """The tokenizer of a model directory, or the small one for None.

    Reads local files only, asks no hub and runs no code of the directory.

    Args:
        directory: holds tokenizer.json, or vocab.json and merges.txt, with tokenizer_config.json.

    Raises:
        CheckpointError: no such directory, files missing or unreadable, a tokenizer that is not
            fast, or one without the special tokens that a prompt needs.
    """
    if directory is None:
        return small_tokenizer()
    check_type("directory", directory, (str, os.PathLike), "a path")
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such directory; give the directory of a downloaded model")
    for file in sorted(folder.iterdir()):
        if kind_of(file) not in ("file", "folder", None):  # whoever opened it would wait for ever
            check_file(file, "a file of a tokenizer", CheckpointError)
    whole, halves = folder / "tokenizer.json", [folder / "vocab.json", folder / "merges.txt"]
    if not whole.exists() and not all(path.exists() for path in halves):
        raise CheckpointError(f"{folder}: no tokenizer there; expected tokenizer.json, or vocab.json and merges.txt")
    try:
        with _unknown_model_types():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, use_fast=True, trust_remote_code=False
            )
    except Exception as error:  # whatever transformers meets in a broken directory
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({type(error).__name__}: {reason})") from error
    check_tokenizer(tokenizer, str(folder))
    if not tokenizer.chat_template:
        tokenizer.chat_template = _older_template(folder / "chat_template.json")
    return tokenizer


class _OthersOnly(logging.Filter):
    """Lets pass what other threads have to say, and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self.thread or record.levelno >= logging.ERROR


@contextmanager
def _unknown_model_types() -> Iterator[None]:
    """Drop the warning of transformers that it does not know the model beside a tokenizer; in this thread only."""
    logger, others = hf_logging.get_logger("transformers.configuration_utils"), _OthersOnly()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def _older_template(path: Path) -> str | None:
    """A chat template that lies in a file of its own, as processors of vision models wrote it."""
    if kind_of(path) is None:
        return None
    check_file(path, "a JSON file", CheckpointError)
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["chat_template"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path}: no chat template can be read from it ({type(error).__name__})") from error


def check_tokenizer(tokenizer: Any, name: str = "tokenizer") -> None:
    """Whether prompts can be written with it.

    Raises:
        CheckpointError: it is not fast, or special tokens are missing.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(f"{name}: expected a fast tokenizer, got {type(tokenizer).__name__}")
    known = tokenizer.get_vocab()
    if missing := [token for token in NEEDED_TOKENS if token not in known]:
        raise CheckpointError(
            f"{name}: the tokenizer has no {', '.join(missing)}; add them as special tokens "
            "(and rows to the embeddings), or take the tokenizer of a vision model"
        )
