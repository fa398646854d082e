"""Find tracks in the text of an answer, before anything is known of their meaning."""

import ast
import html
import re

#: seconds, object id, x, y as written, occluded
RawPoint = tuple[float, int, float, float, bool]

_THOUGHT = re.compile(r"^.*</think(?:ing)?>", re.DOTALL)
_COORDS = re.compile(r"""coords\s*=\s*(["'])(.*?)(?:\1|[<>]|$)""", re.DOTALL)
_LABEL = re.compile(r"""<tracks\b[^>]*>([^<]*)</tracks>""", re.DOTALL)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d*)?")
_TIME_DICT = re.compile(r"\btime\s*:?\s*(\d{1,12}(?:\.\d*)?)\s*s?\s*:?\s*(\{[^{}]*\})", re.IGNORECASE)
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
        for piece in re.split(r"[;,:\t]", found[2]):
            for segment in _lines(piece):
                _read_segment(segment.split(), points, problems)
    return points, problems


def _lines(piece: str) -> list[str]:
    """Some models end a segment with a newline; each line is then a segment."""
    lines = [line for line in piece.split("\n") if line.strip()]
    if len(lines) > 1 and all(len(line.split()) % 3 == 1 for line in lines):
        return lines
    return [piece]


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
    if _is_in_shares(words[1 : 1 + 3 * whole]):
        problems.append(f"segment {shown!r}: coordinates look like shares from 0 to 1; expected 0 to 1000")
        return
    for k in range(whole):
        number, x, y = (int(float(word)) for word in words[1 + 3 * k : 4 + 3 * k])
        points.append((float(words[0]), number, float(x), float(y), False))


def _is_in_shares(words: list[str]) -> bool:
    """Whether all coordinates are from 0 to 1 and some have decimals: another unit, which would all become 0."""
    coordinates = [word for k, word in enumerate(words) if k % 3]
    return all(float(word) <= 1 for word in coordinates) and any(float(word) % 1 for word in coordinates)


def read_time_dicts(text: str) -> tuple[list[RawPoint], list[str]]:
    """Points of the older dialect, in percent, and what could not be read."""
    points: list[RawPoint] = []
    problems: list[str] = []
    for found in _TIME_DICT.finditer(spoken(text)):
        seconds = float(found[1])
        try:
            entries = ast.literal_eval(found[2])
            read = [_entry(seconds, key, value) for key, value in entries.items()]
        except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
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
