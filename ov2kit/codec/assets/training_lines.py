"""Conversations about asset directories as the release's trainer packs them: one JSON object a line.

Source: the offline packing of the LLaVA-OneVision-2 repository, by the fields it reads. A line has one video:
its canvases as pictures, one `<image>` each, and one array of positions of them all, which the trainer
turns into timed runs by itself: time is frame index / fps there.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov2kit.codec.assets.files import META, POSITIONS
from ov2kit.errors import DataError, shorten
from ov2kit.files import check_file

PICTURE, VIDEO = "<image>", "<video>"
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Talk:
    """A conversation about one video.

    Args:
        id: its name.
        video: path of the video, absolute.
        messages: {"role", "content"}, content as text, with `<video>` once.
    """

    id: str
    video: Path
    messages: tuple[dict[str, str], ...]


def read_talks(path: str | os.PathLike[str]) -> list[Talk]:
    """Conversations from a JSONL file: `{"id", "messages": [{"role", "content"}], "videos": [path]}`.

    `<video>` in a text of a user stands for the video; without one it comes first. Paths are relative to the file.

    Raises:
        DataError: names the line: no such form, another number of videos than one, or `<image>` in a text.
    """
    file = check_file(Path(path), "a JSONL file of conversations")
    talks = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            try:
                talks.append(_talk(json.loads(line), file.parent, f"line-{number}"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, line {number}: {error}") from error
    return talks


def _talk(record: Any, root: Path, name: str) -> Talk:
    if not isinstance(record, Mapping):
        raise ValueError(f"expected an object, got {type(record).__name__}")
    found = {key: value for key, value in record.items() if value is not None}
    videos = found.get("videos", found.get("video"))
    videos = [videos] if isinstance(videos, str) else videos
    if not isinstance(videos, list) or len(videos) != 1 or not isinstance(videos[0], str) or found.get("images"):
        raise ValueError(f"expected one path in a list 'videos', and no images, got {shorten(videos)}")
    messages = found.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"'messages' must be a list of role and content, got {shorten(messages)}")
    turns = tuple(_turn(message) for message in messages)
    return Talk(str(found.get("id", name)), (root / videos[0]).resolve(), _with_video(turns))


def _turn(message: Any) -> dict[str, str]:
    said = message if isinstance(message, Mapping) else {}
    role, content = said.get("role"), said.get("content")
    if role not in _ROLES or not isinstance(content, str):
        raise ValueError(f"a message needs a role of {', '.join(_ROLES)} and text as content, got {shorten(message)}")
    if PICTURE in content:
        raise ValueError(f"{PICTURE} in a text would stand for a picture; leave it out")
    return {"role": role, "content": content}


def _with_video(turns: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
    count = sum(turn["content"].count(VIDEO) for turn in turns)
    users = [n for n, turn in enumerate(turns) if turn["role"] == "user"]
    if not users:
        raise ValueError("there is no message of the user")
    if count > 1 or count != sum(turns[n]["content"].count(VIDEO) for n in users):
        raise ValueError(f"{VIDEO} must stand once, in a message of the user, for the one video; got {count}")
    if count:
        return turns
    first = {**turns[users[0]], "content": VIDEO + turns[users[0]]["content"]}
    return (*turns[: users[0]], first, *turns[users[0] + 1 :])


def bare_talk(video: str | os.PathLike[str]) -> Talk:
    """A conversation that shows a video and says nothing: what a caption is to be added to."""
    return Talk(Path(video).stem, Path(video).resolve(), ({"role": "user", "content": VIDEO},))


def training_line(talk: Talk, assets: Path, root: Path, decimals: int) -> str:
    """One line of the trainer's JSONL, with its newline.

    Args:
        talk: the conversation.
        assets: the video's asset directory, in raster order and without partly padded canvases.
        root: folder of the JSONL file, which paths are relative to.
        decimals: digits of the time stamps.
    """
    meta = json.loads((assets / META).read_bytes())
    names: Sequence[str] = meta["canvas_files"]
    shown = f"{PICTURE}\n" * len(names)
    messages = []
    for turn in talk.messages:
        before, mark, after = turn["content"].partition(VIDEO)
        text = before + shown + after.removeprefix("\n") if mark else before
        messages.append({"role": turn["role"], "content": text})
    folder = assets.relative_to(root)
    line = {
        "id": talk.id,
        "messages": messages,
        "images": [(folder / name).as_posix() for name in names],
        "patch_positions": [(folder / POSITIONS).as_posix()],
        "fps": [meta["fps"]],
        "timestamp_decimal": decimals,
    }
    return json.dumps(line) + "\n"


def time_error(assets: Path) -> float:
    """Seconds that the trainer's time stamps, frame index / fps, are off at most; infinite if the rate is unknown."""
    meta = json.loads((assets / META).read_bytes())
    return float(meta["index_over_fps_error_seconds"]) if meta["fps"] > 0 else float("inf")
