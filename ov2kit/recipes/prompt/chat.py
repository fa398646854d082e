"""Conversations: from messages to turns, and from turns to token ids and labels.

A prompt is put together from pieces, plain text and special tokens apart, and is never searched:
text of a user cannot become a special token, and what is supervised is known from where it came
from. The form is ChatML, which Qwen and the release use. Letters: S tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from ov2kit.errors import CheckpointError, DataError, check_choice, check_keys, shorten
from ov2kit.recipes.inputs.nulls import without_nulls
from ov2kit.recipes.prompt.sample import IGNORE
from ov2kit.recipes.prompt.text_tokenizer import IM_END, IM_START, NEEDED_TOKENS, VIDEO_PAD

Supervise = Literal["all", "last", "none"]
ROLES = ("system", "user", "assistant", "tool")
PLACEHOLDERS = {"image": "<image>", "video": "<video>"}
_KEYS = {"text": ("text",), "image": ("image", "path", "subtitles"), "video": ("video", "path", "source", "subtitles")}


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt.

    Args:
        text: plain text, or the name of a special token.
        count: how often a special token is repeated; 0 marks plain text.
        learn: whether its tokens are supervised.
    """

    text: str
    count: int = 0
    learn: bool = False


_BORDER = Piece("")  # text before and after it is encoded apart


@dataclass(frozen=True)
class Media:
    """A picture or a video in a message, not opened yet.

    Args:
        kind: which of the two.
        source: path, bytes, object or canvases.
        options: other keys of its part, such as `subtitles`.
    """

    kind: Literal["image", "video"]
    source: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One turn: who says it, and text and media in order."""

    role: str
    parts: tuple[str | Media, ...]


def read_messages(
    messages: Sequence[Mapping[str, Any]], images: Sequence[Any] | None = None, videos: Sequence[Any] | None = None
) -> list[Message]:
    """Check chat messages and put media where they belong.

    `<image>` and `<video>` in a text stand for the pictures and videos of `images` and `videos`, in
    order over the whole conversation; where those are not given, for the media parts of the same
    message. A text with a placeholder and no media to put there keeps it as text, unless lists were
    given. What is null is absent, see `without_nulls`.

    Args:
        messages: each with "role" and "content"; content is text or a list of parts, a part is
            text or a mapping with "type" "text", "image" or "video".
        images: pictures for the placeholders, each by itself or as a part without "type".
        videos: videos for the placeholders, likewise.

    Raises:
        DataError: names the message: no messages, no role or an unknown one, no content, an unknown
            part or key of one, or placeholders and media that do not match in number.
    """
    if isinstance(messages, Mapping | str) or not isinstance(messages, Sequence):
        raise DataError(f"expected a list of messages with role and content, got {type(messages).__name__}")
    if not messages:
        raise DataError("there are no messages; give at least one of role 'user'")
    read = [_read_message(i, without_nulls(message)) for i, message in enumerate(messages)]
    stocks = {"image": without_nulls(images), "video": without_nulls(videos)}
    for kind, stock in stocks.items():
        if stock is not None:
            read = _fill(read, kind, stock)
    return [_fill_own(i, message, [k for k in stocks if stocks[k] is None]) for i, message in enumerate(read)]


def _read_message(index: int, message: Any) -> Message:
    where = f"message {index}"
    if not isinstance(message, Mapping):
        raise DataError(f"{where}: expected a mapping with role and content, got {type(message).__name__}")
    role: Any = message.get("role")
    check_choice("role", role, ROLES, DataError, where=f"{where}: ")
    content = message.get("content")
    if isinstance(content, str):
        return Message(role, (content,))
    if isinstance(content, Mapping) or not isinstance(content, Sequence):
        raise DataError(f"{where}: content must be text or a list of parts, got {type(content).__name__}")
    return Message(role, tuple(_read_part(where, n, part) for n, part in enumerate(content)))


def _read_part(where: str, number: int, part: Any) -> str | Media:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        part = {key: value for key, value in part.items() if value is not None}  # null is absent
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in _KEYS:
        keys = ("type", *_KEYS[kind])
        check_keys(f"a part of type {kind!r}", part, keys, DataError, where=f"{where}, part {number}: ")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise DataError(
                f"{where}, part {number}: a text part needs text under 'text', got {shorten(part.get('text'))}"
            )
        return str(part["text"])
    if kind not in PLACEHOLDERS:
        said = f"type {shorten(kind)}" if isinstance(part, Mapping) else type(part).__name__
        raise DataError(f"{where}, part {number}: unknown part of {said}; known: text, image, video")
    source = part.get(kind, part.get("path"))
    if source is None:
        raise DataError(f"{where}, part {number}: a part of type {kind!r} needs its source under {kind!r} or 'path'")
    options = {key: value for key, value in part.items() if key not in ("type", kind, "path")}
    return Media(kind, source, options)


def _cut(text: str, placeholder: str, media: list[Media]) -> list[str | Media]:
    """`text` with the first of `media` in the place of each placeholder; takes them off the list."""
    first, *rest = text.split(placeholder)
    parts: list[str | Media] = [first]
    for piece in rest:
        parts += [media.pop(0), piece]
    return parts


def _count(messages: Sequence[Message], kind: str) -> int:
    return sum(part.count(PLACEHOLDERS[kind]) for m in messages for part in m.parts if isinstance(part, str))


def _fill(messages: list[Message], kind: Any, stock: Sequence[Any]) -> list[Message]:
    """Media of one kind in the places of their placeholders, over the whole conversation."""
    wanted = _count(messages, kind)
    if wanted != len(stock):
        raise DataError(f"the messages have {wanted} {PLACEHOLDERS[kind]} placeholder(s) for {len(stock)} {kind}(s)")
    media = [_stocked(kind, number, source) for number, source in enumerate(stock)]
    filled = []
    for message in messages:
        parts: list[str | Media] = []
        for part in message.parts:
            parts += _cut(part, PLACEHOLDERS[kind], media) if isinstance(part, str) else [part]
        filled.append(Message(message.role, tuple(parts)))
    return filled


def _stocked(kind: Any, number: int, source: Any) -> Media:
    """An entry of a list of media: the thing itself, or a part that has more to say."""
    if not isinstance(source, Mapping) or "bytes" in source:  # a struct of `datasets`
        return Media(kind, source)
    part = _read_part(f"{kind}s", number, {**source, "type": kind})
    assert isinstance(part, Media)
    return part


def _fill_own(index: int, message: Message, kinds: Sequence[str]) -> Message:
    """Media parts of a message in the places of the placeholders in its own text."""
    for kind in kinds:
        own = [part for part in message.parts if isinstance(part, Media) and part.kind == kind]
        wanted = _count([message], kind)
        if not own or not wanted:
            continue
        if wanted != len(own):
            raise DataError(
                f"message {index}: its text has {wanted} {PLACEHOLDERS[kind]} placeholder(s), "
                f"its parts are {len(own)} {kind}(s)"
            )
        rest = [part for part in message.parts if not (isinstance(part, Media) and part.kind == kind)]
        parts: list[str | Media] = []
        for part in rest:
            parts += _cut(part, PLACEHOLDERS[kind], own) if isinstance(part, str) else [part]
        message = Message(message.role, tuple(parts))
    return message


def default_system(tokenizer: Any) -> str | None:
    """The system text that the tokenizer's chat template writes when a conversation has none.

    Raises:
        CheckpointError: its template is not ChatML, or fails.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    probe = "probe of the template"
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": probe}], tokenize=False)
    except Exception as error:  # a template is a program of its own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the tokenizer's chat template fails ({reason}); pass system=") from error
    turn = f"{IM_START}user\n{probe}{IM_END}\n"
    if text == turn:
        return None
    head = f"{IM_START}system\n"
    tail = f"{IM_END}\n{turn}"
    if text.startswith(head) and text.endswith(tail):
        return str(text[len(head) : -len(tail)])
    raise CheckpointError(f"the tokenizer's chat template is not ChatML, it writes {text[:200]!r}; pass system=")


def chat_pieces(
    turns: Sequence[tuple[str, Sequence[Piece]]],
    *,
    system: str | None = None,
    supervise: Supervise = "all",
    generate: bool = False,
) -> list[Piece]:
    """A conversation in ChatML.

    Args:
        turns: (role, pieces of the content); the content's own `learn` flags say what of it may be
            supervised, and count in assistant turns only.
        system: text of the system turn when the conversation does not begin with one.
        supervise: which assistant turns are supervised: content and end-of-turn token.
        generate: end with the head of an assistant turn, and supervise nothing.
    """
    said = [i for i, (role, _) in enumerate(turns) if role == "assistant"]
    taught = {"all": said, "last": said[-1:], "none": []}["none" if generate else supervise]
    pieces: list[Piece] = []
    if system is not None and turns[0][0] != "system":
        turns = [("system", [Piece(system)]), *turns]
        taught = [i + 1 for i in taught]
    for i, (role, content) in enumerate(turns):
        learn = i in taught
        pieces += [Piece(IM_START, 1), Piece(f"{role}\n")]
        if role != "assistant":
            pieces += [replace(piece, learn=False) for piece in content if piece != _BORDER]
        else:  # borders where supervision could begin or end, so that the ids do not depend on `supervise`
            for can_learn, run in groupby(content, lambda piece: piece.learn):
                pieces += [_BORDER, *(replace(piece, learn=can_learn and learn) for piece in run)]
        pieces += [Piece(IM_END, 1, learn), Piece("\n")]
    return [*pieces, Piece(IM_START, 1), Piece("assistant\n")] if generate else pieces


def pieces_text(pieces: Sequence[Piece]) -> str:
    """The prompt as text, special tokens by their names."""
    return "".join(piece.text * max(piece.count, 1) for piece in pieces)


def encode_pieces(pieces: Sequence[Piece], tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Token ids and labels.

    Text between special tokens is encoded in one go, as a tokenizer does that gets the whole
    prompt, but for two borders: supervised text is encoded apart from other text, and so is the
    content of an assistant turn from its head.

    Returns:
        input_ids (S,) int64 and labels (S,) int64, -100 where not supervised.

    Raises:
        DataError: plain text came out with a special token of prompts in it.
    """
    ids: list[int] = []
    labels: list[int] = []
    reserved = {tokenizer.convert_tokens_to_ids(token) for token in (*NEEDED_TOKENS, VIDEO_PAD)} - {None}
    for piece in _joined(pieces):
        if piece.count:
            new = [tokenizer.convert_tokens_to_ids(piece.text)] * piece.count
        else:
            new = tokenizer.encode(piece.text, add_special_tokens=False, split_special_tokens=True)
            if not reserved.isdisjoint(new):
                raise DataError(
                    f"the text {piece.text[:80]!r} holds a special token of prompts, which this tokenizer cannot "
                    "write as plain text; remove it from the text"
                )
        ids += new
        labels += new if piece.learn else [IGNORE] * len(new)
    return torch.tensor(ids, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    border = False
    for piece in pieces:
        if piece == _BORDER:
            border = True
            continue
        last = joined[-1] if joined else None
        if last and not border and not last.count and not piece.count and last.learn == piece.learn:
            joined[-1] = Piece(last.text + piece.text, 0, piece.learn)
        else:
            joined.append(piece)
        border = False
    return joined
