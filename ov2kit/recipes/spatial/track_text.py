"""Find tracks in the text of an answer, before anything is known of their meaning."""

import html
import re
from collections.abc import Iterator

from ov2kit.recipes.spatial.json_text import read_object
from ov2kit.recipes.spatial.space import THOUSANDTHS

#: seconds, object id, x, y as written, occluded
RawPoint = tuple[float, int, float, float, bool]

_THOUGHT = re.compile(r"^.*(?:</think(?:ing)?>|◁/think▷)", re.DOTALL)
_COORDS = re.compile(r"""coords\s*=\s*\\?["'“”]?((?:[^"'“”<>\\]|\\n)*)""", re.IGNORECASE)
_LABEL = re.compile(r"""<tracks\b[^<>]*>(.{0,1000}?)</tracks>""", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d*)?")
_CLOCK = re.compile(r"\s*(?:(\d{1,4}):)?(\d{1,4}):([0-5]\d(?:\.\d*)?)(?=\s)")
_TIME_DICT = re.compile(r"\btime\s*:?\s*(\d{1,12}(?:\.\d*)?)\s*s?\s*:?\s*(\{[^{}]*(?:\}|$))", re.IGNORECASE)
_YES = {"yes", "true", "1"}


def spoken(text: str) -> str:
    """The answer without the reasoning before it, unless there is nothing after that."""
    after = _THOUGHT.sub("", text, count=1)
    return after if after.strip() else text


def tag_labels(text: str) -> list[str]:
    """What the tags say they track, each once."""
    return list(dict.fromkeys(label.strip() for label in _LABEL.findall(html.unescape(spoken(text))) if label.strip()))


def read_tags(text: str) -> tuple[list[RawPoint], list[str]]:
    """Points of all `coords` attributes, as they stand, and what could not be read."""
    points: list[RawPoint] = []
    problems: list[str] = []
    for found in _COORDS.finditer(html.unescape(spoken(text))):
        for part in found[1].replace("\\n", "\n").split(";"):
            for line in _lines(part):
                for segment in _segments(line):
                    _read_segment(segment.split(), points, problems)
    return points, problems


def _lines(part: str) -> list[str]:
    """Some models end a segment with a newline; each line is then a segment."""
    lines = [line for line in part.split("\n") if line.strip()]
    if len(lines) > 1 and all(len(_apart(line)) % 3 == 1 for line in lines):
        return lines
    return [part]


def _segments(line: str) -> Iterator[str]:
    """Commas, colons and tabs end a segment, as in the public evaluation, unless what stands between them is too short
    to be one: then they, and brackets, only part its numbers. A time may be written as on a clock."""
    clock = _CLOCK.match(line)
    if clock and len(_apart(line[clock.end() :])) % 3 == 0:
        seconds = 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3])
        line = f"{seconds:.3f}{line[clock.end() :]}"
    pieces = [piece for piece in re.split(r"[,:\t]", line) if piece.strip()]
    if len(_apart(line)) % 3 == 1 and all(len(piece.split()) < 4 for piece in pieces):
        yield " ".join(_apart(line))
    else:
        yield from pieces


def _apart(text: str) -> list[str]:
    """Words of a text without the marks that part numbers."""
    return re.sub(r"[,:\t()\[\]]", " ", text).split()


def _read_segment(words: list[str], points: list[RawPoint], problems: list[str]) -> None:
    if not words:
        return
    words = [words[0].removesuffix("s"), *words[1:]]
    shown = " ".join(words)[:40]
    for word in words:
        if not _NUMBER.fullmatch(word):
            problems.append(f"segment {shown!r}: {word!r} is no number from 0 on")
            return
    if len(words) < 4:
        problems.append(f"segment {shown!r}: expected time, id, x, y")
        return
    whole, left = divmod(len(words) - 1, 3)
    if left:
        problems.append(f"segment {shown!r}: {left} number(s) too many or the answer breaks off")
    coordinates = [float(word) for k, word in enumerate(words[1 : 1 + 3 * whole]) if k % 3]
    if THOUSANDTHS.is_in_shares(*coordinates):
        problems.append(f"segment {shown!r}: coordinates look like shares from 0 to 1; expected 0 to 1000")
        return
    if odd := [word for word in words[1 : 1 + 3 * whole : 3] if float(word) % 1]:
        problems.append(f"segment {shown!r}: {odd[0]!r} is no id; expected time, id, x, y")
        return
    for k in range(whole):
        number, x, y = (int(float(word)) for word in words[1 + 3 * k : 4 + 3 * k])
        points.append((float(words[0]), number, float(x), float(y), False))


def read_time_dicts(text: str) -> tuple[list[RawPoint], list[str]]:
    """Points of the older dialect, in percent, and what could not be read."""
    points: list[RawPoint] = []
    problems: list[str] = []
    for found in _TIME_DICT.finditer(spoken(text)):
        seconds = float(found[1])
        try:
            entries = read_object(found[2])
            read = None if entries is None else [_entry(seconds, key, value) for key, value in entries.items()]
        except (ValueError, TypeError, OverflowError):
            read = None
        if read is None:
            problems.append(f"time {found[1]}: {found[2][:40]!r} is not {{id: [x, y]}}")
            continue
        points += read
    return points, problems


def _entry(seconds: float, key: object, value: object) -> RawPoint:
    if not isinstance(value, (list, tuple)) or len(value) not in (2, 3):
        raise ValueError("expected [x, y] or [x, y, occluded]")
    number, x, y = int(str(key)), float(value[0]), float(value[1])
    if number < 0:
        raise ValueError("ids start from 0")
    return seconds, number, x, y, len(value) == 3 and str(value[2]).strip().lower() in _YES
