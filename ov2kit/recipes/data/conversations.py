"""One record -> a conversation: chat messages whose placeholders are replaced by their media.

Two dialects. Today's: {"id", "messages": [{"role", "content"}], "images": [...], "videos": [...]}
with one <image> or <video> in the text per entry. The older: {"id", "conversations": [{"from",
"value"}], "image" | "video": path or list}, where a video is often announced by <image>. What is null
is absent (see `without_nulls`), so that tables which hold both dialects can be read.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ov2kit.errors import DataError, shorten
from ov2kit.files import kind_of
from ov2kit.recipes.data.faults import BadRecord
from ov2kit.recipes.datasets.stored import StoredVideos
from ov2kit.recipes.inputs.nulls import without_nulls
from ov2kit.recipes.inputs.sources import local_source

Kind = Literal["video", "assets", "image", "text"]
KINDS: tuple[Kind, ...] = ("video", "assets", "image", "text")
Part = dict[str, Any]

_ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "tool": "tool",
}  # fmt: skip
_READ = ("id", "messages", "conversations", "images", "image", "videos", "video")
_PLACEHOLDER = re.compile(r"<(image|video)>")
_PLURAL = {"image": "images", "video": "videos"}


@dataclass(frozen=True)
class Conversation:
    """A record in the form that `Processor` takes.

    Args:
        name: the record's id, or its place.
        messages: {"role", "content": [parts]}; media are paths that exist.
        kind: "video" (a file that can be sampled either way), "assets" (prepared canvases), "image"
            or "text", by the first of these that occurs.
        characters: of all text.
        images: pictures in all.
        videos: videos in all, prepared ones included.
    """

    name: str
    messages: list[dict[str, Any]]
    kind: Kind
    characters: int
    images: int
    videos: int

    def media(self) -> list[Path]:
        """Paths, in the order of the text."""
        return [Path(part[part["type"]]) for message in self.messages for part in message["content"]
                if part["type"] != "text"]  # fmt: skip

    def prompt(self) -> list[dict[str, Any]]:
        """The messages without assistant turns at the end: what an answer is generated from."""
        end = len(self.messages)
        while end and self.messages[end - 1]["role"] == "assistant":
            end -= 1
        return self.messages[:end]


def read_conversation(
    record: object, root: Path, name: str, *, needs_answer: bool = True, stored: StoredVideos | None = None
) -> Conversation:
    """Check a record and bring it into one form.

    Args:
        record: a parsed JSON object of either dialect.
        root: what relative media paths are relative to.
        name: used when the record has no "id".
        needs_answer: refuse a conversation without an assistant turn, as training must, and leave out
            the turns after the last one.
        stored: where canvases of videos lie that need no file; their parts say under "stored" which they are.

    Raises:
        BadRecord: another shape, an unknown role, as many placeholders as media do not fit, or a
            file that is not there.
    """
    if not isinstance(record, Mapping):
        raise BadRecord(f"expected a JSON object, got {type(record).__name__}")
    try:
        record = without_nulls({key: record[key] for key in _READ if key in record}) or {}
    except RecursionError as error:
        raise BadRecord("it is nested too deeply") from error
    identity = record.get("id")
    if isinstance(identity, float) and identity.is_integer():
        identity = int(identity)  # pandas makes floats of whole numbers where some are missing
    if isinstance(identity, (str, int)) and not isinstance(identity, bool) and str(identity):
        name = str(identity)
    turns = _turns(record)
    media = {kind: _entries(record, kind, stored) for kind in _PLURAL}
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns, 1):
        role_key, text_key = ("from", "value") if isinstance(turn, Mapping) and "from" in turn else ("role", "content")
        if not isinstance(turn, Mapping) or not isinstance(turn.get(role_key), str):
            raise BadRecord(f"turn {number}: expected an object with {role_key!r} and {text_key!r}")
        role = _ROLES.get(turn[role_key])
        if role is None:
            raise BadRecord(f"turn {number}: unknown role {shorten(turn[role_key])}; known: {', '.join(_ROLES)}")
        messages.append({"role": role, "content": _split(turn.get(text_key), number, stored)})
    _fill(messages, media)
    roles = [message["role"] for message in messages]
    if needs_answer:
        if "assistant" not in roles:
            raise BadRecord("no assistant turn: there is nothing to learn from")
        while roles[-1] != "assistant":  # nothing is learned from what follows the last answer, nor asked about it
            del messages[-1], roles[-1]
    if "user" not in roles:
        raise BadRecord("no user turn" + " before the last answer" * needs_answer)
    parts: list[Part] = [part for message in messages for part in message["content"]]
    shown = [part["type"] for part in parts if part["type"] != "text"]
    prepared = _locate(parts, root, stored)
    kind: Kind = "text"
    if "video" in shown:
        kind = "assets" if prepared == shown.count("video") else "video"
    elif "image" in shown:
        kind = "image"
    characters = sum(len(part["text"]) for part in parts if part["type"] == "text")
    return Conversation(name, messages, kind, characters, shown.count("image"), shown.count("video"))


def _turns(record: Mapping[str, Any]) -> list[Any]:
    turns = record.get("messages") or record.get("conversations") or record.get("messages")
    if turns is None:
        raise BadRecord("neither 'messages' nor 'conversations'")
    if not isinstance(turns, list) or not turns:
        raise BadRecord(f"expected a list of turns, got {type(turns).__name__} {str(turns)[:40]!r}")
    return turns


def _entries(record: Mapping[str, Any], kind: str, stored: StoredVideos | None) -> list[Part]:
    """The record's media of a kind, as parts without a place."""
    given = record.get(_PLURAL[kind]) or record.get(kind) or []
    entries = []
    for entry in given if isinstance(given, list) else [given]:
        part = dict(entry) if isinstance(entry, Mapping) else {"path": entry}
        path = _path(part, kind, _PLURAL[kind], stored)
        if path is None:
            raise BadRecord(f"{_PLURAL[kind]}: expected paths, got {shorten(entry)}")
        allowed = {"subtitles"} if kind == "video" else set()
        if unknown := set(part) - allowed:
            raise BadRecord(f"{_PLURAL[kind]}: unknown {', '.join(sorted(unknown))}")
        entries.append({"type": kind, kind: path} | part)
    return entries


def _path(part: Part, kind: str, where: str, stored: StoredVideos | None) -> str | None:
    """Take a medium's path out of an entry or a part, whatever form it has; None where it has none."""
    given = [part.pop(key, None) for key in (kind, "path", "bytes")]
    inner = given[0] if isinstance(given[0], Mapping) else {}
    inline = given[2] or inner.get("bytes")
    path = given[1] or (inner.get("path") if inner else given[0])
    if path is None and inline is not None:
        raise BadRecord(f"{where}: bytes in a record are not read; write them to a file and give its path")
    if path is None:
        return None
    if stored is not None and kind == "video" and isinstance(path, str) and stored.find(path) is not None:
        return path  # whatever it is the name of: nothing is opened there
    try:
        path = local_source(path)
    except DataError as error:
        raise BadRecord(f"{where}: {error}") from error
    if not isinstance(path, str) or not path or "\0" in path:
        raise BadRecord(f"{where}: expected paths, got {shorten(path)}")
    return path


def _split(content: object, number: int, stored: StoredVideos | None) -> list[Part]:
    """A turn's text as parts; media are not known yet and stand as {"type": kind}."""
    if isinstance(content, list):
        parts = []
        for part in content:
            if not isinstance(part, Mapping) or part.get("type") not in ("text", "image", "video"):
                raise BadRecord(f"turn {number}: expected parts of type text, image or video")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise BadRecord(f"turn {number}: a text part without text")
            kind = part["type"]
            own = dict(part)
            path = None if kind == "text" else _path(own, kind, f"turn {number}", stored)
            parts.append(own if path is None else own | {kind: path})
        return parts
    if not isinstance(content, str):
        raise BadRecord(f"turn {number}: expected text, got {type(content).__name__}")
    pieces = _PLACEHOLDER.split(content)
    parts = []
    for place, piece in enumerate(pieces):
        if place % 2:
            parts.append({"type": piece})
        elif piece:
            parts.append({"type": "text", "text": piece})
    return parts


def _fill(messages: list[dict[str, Any]], media: dict[str, list[Part]]) -> None:
    """Put the media in the place of the placeholders, in order."""
    open_parts = [
        part
        for message in messages
        for part in message["content"]
        if part["type"] != "text" and not isinstance(part.get(part["type"]), str)
    ]
    asked = {kind: sum(part["type"] == kind for part in open_parts) for kind in media}
    have = {kind: len(entries) for kind, entries in media.items()}
    if have["video"] and not have["image"] and not asked["video"] and asked["image"] == have["video"]:
        for part in open_parts:  # older sets announce a video by <image>
            part["type"] = "video"
    elif asked != have:
        told = ", ".join(f"{asked[kind]} <{kind}> for {have[kind]} {_PLURAL[kind]}" for kind in media)
        raise BadRecord(f"placeholders and media do not match: {told}")
    left = {kind: iter(entries) for kind, entries in media.items()}
    for part in open_parts:
        part.update(next(left[part["type"]]))


def _locate(parts: list[Part], root: Path, stored: StoredVideos | None) -> int:
    """Make media paths whole, and see that they are there; counts videos of which there are prepared canvases alone."""
    prepared = 0
    for part in parts:
        kind = part["type"]
        if kind == "text":
            continue
        path = os.path.join(root, part[kind])
        if (found := kind_of(path)) not in ("file", "folder", None):
            raise BadRecord(f"{kind} {shorten(part[kind])} is a {found}, expected a file")
        number = None if stored is None or kind != "video" else stored.find(part[kind])
        if stored is not None and number is not None:
            if failure := stored.failure(number):
                raise BadRecord(f"{kind} {shorten(part[kind])} gave nothing when shards were made ({failure})")
            part["stored"] = number
            prepared += found != "file"
        elif found is None:
            places = root if stored is None else f"{root} and in {stored.shards.storage.root}"
            raise BadRecord(f"{kind} {shorten(part[kind])} is not there (looked in {places})")
        elif found == "folder":
            if kind == "image":
                raise BadRecord(f"image {shorten(part[kind])} is a folder")
            prepared += 1
        part[kind] = path
        if isinstance(subtitles := part.get("subtitles"), str):
            part["subtitles"] = os.path.join(root, local_source(subtitles))
            if kind_of(part["subtitles"]) is None:
                raise BadRecord(f"subtitles {shorten(subtitles)} are not there (looked in {root})")
    return prepared
