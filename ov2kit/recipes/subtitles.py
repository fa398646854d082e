"""Subtitles: read srt and vtt files, and put their lines between the pictures of a video.

Formats: SubRip as players read it; WebVTT (W3C). A line becomes ``<3.2 seconds> text`` and a newline, so it
looks like the stamp of a picture and differs from it by what follows: words, not a start token.
"""

import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov2kit.errors import DataError, shorten
from ov2kit.files import check_file
from ov2kit.recipes.prompts import Run, timestamp

SubtitleSource = str | os.PathLike[str] | Sequence["Subtitle | Mapping[str, Any]"]
_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
_TAGS = re.compile(r"</?(?:[a-zA-Z][^<>]*|\d[\d:.]*)>|\{\\[^{}]*\}")
_LARGEST = 16 * 2**20  # bytes; a film has a thousandth of it
_VTT_ASIDES = ("NOTE", "STYLE", "REGION")


@dataclass(frozen=True)
class Subtitle:
    """What is said from when to when.

    Args:
        text: one line.
        start: seconds, None if it has no time.
        end: seconds, None if it has none.

    Raises:
        DataError: a time is negative or not a number, or the end lies before the start.
    """

    text: str
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise DataError(f"subtitle {self.text[:40]!r}: {name} must be seconds from 0 on, got {value}")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise DataError(f"subtitle {self.text[:40]!r}: ends at {self.end} s, before its start at {self.start} s")


def read_subtitles(source: SubtitleSource) -> list[Subtitle]:
    """Subtitles in order of their start; those without a time come first.

    Args:
        source: path of an .srt or .vtt file (UTF-8), or a list of `Subtitle`s or of mappings with
            "text" and, in seconds, "start" and "end".

    Raises:
        DataError: the file is missing, not UTF-8, of another kind, has a broken line (which one is
            said) or nothing in it; or an entry of the list is malformed.
    """
    if isinstance(source, str | os.PathLike):
        found = _read_file(Path(source).expanduser())
    elif isinstance(source, Sequence):
        found = [_entry(i, entry) for i, entry in enumerate(source)]
    else:
        raise DataError(f"subtitles must be a path or a list of {{start, end, text}}, got {type(source).__name__}")
    return sorted(found, key=lambda s: -1.0 if s.start is None else s.start)  # stable: ties keep their order


def _entry(index: int, entry: Any) -> Subtitle:
    if isinstance(entry, Subtitle):
        return entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("text"), str):
        raise DataError(f"subtitle {index}: expected a mapping with text, start and end, got {shorten(entry)}")
    times = {}
    for key in ("start", "end"):
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DataError(f"subtitle {index}: {key} must be a number of seconds, got {shorten(value)}")
        times[key] = None if value is None else float(value)
    return Subtitle(_one_line(entry["text"]), **times)


def _read_file(path: Path) -> list[Subtitle]:
    if path.suffix.lower() not in (".srt", ".vtt"):
        raise DataError(f"{path}: expected a subtitle file .srt or .vtt")
    check_file(path, "a subtitle file", most=_LARGEST)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: subtitles must be UTF-8; convert the file (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    is_vtt = path.suffix.lower() == ".vtt"
    if is_vtt and not re.match(r"WEBVTT(\s|$)", lines[0]):
        raise DataError(f"{path}, line 1: a vtt file begins with WEBVTT, got {lines[0][:40]!r}")
    found = _cues(path, lines, is_vtt)
    if not found:
        raise DataError(f"{path}: no subtitle in it; expected lines such as 00:00:01,000 --> 00:00:02,500")
    return [subtitle for subtitle in found if subtitle.text]


def _cues(path: Path, lines: Sequence[str], is_vtt: bool) -> list[Subtitle]:
    """Cues of a file. A line with an arrow begins one; a blank line ends it."""
    found: list[Subtitle] = []
    start_line = 0
    times: tuple[float, float] | None = None
    words: list[str] = []
    is_aside = False
    for number, line in enumerate([*lines, ""], start=1):
        if times is None and is_vtt and line.startswith(_VTT_ASIDES):
            is_aside = True
        if "-->" in line and not is_aside:
            if times is not None:
                raise DataError(f"{path}, line {number}: a subtitle begins before that of line {start_line} has ended")
            times, words, start_line = _times(path, number, line), [], number
        elif not line.strip():
            if times is not None:
                found.append(_cue(path, start_line, words, times))
            times, is_aside = None, False
        elif times is not None:
            words.append(line)
        elif not is_aside and not is_vtt and not line.strip().isdigit() and found:
            # a blank line within a subtitle, which SubRip files have though they should not
            last = found[-1]
            found[-1] = Subtitle(_one_line(f"{last.text} {_plain(line)}"), last.start, last.end)
        elif not is_aside and not is_vtt and not line.strip().isdigit():
            raise DataError(f"{path}, line {number}: expected a number or times with -->, got {line[:40]!r}")
    return found


def _cue(path: Path, line: int, words: Sequence[str], times: tuple[float, float]) -> Subtitle:
    try:
        return Subtitle(_one_line(" ".join(_plain(word) for word in words)), *times)
    except DataError as error:
        raise DataError(f"{path}, line {line}: {error}") from error


def _times(path: Path, number: int, line: str) -> tuple[float, float]:
    first, _, rest = line.partition("-->")
    second = rest.split()[0] if rest.split() else ""
    matches = [_TIME.fullmatch(first.strip()), _TIME.fullmatch(second)]
    seconds = []
    for match in matches:
        if match is None or int(match[2]) > 59 or int(match[3]) > 59:
            raise DataError(f"{path}, line {number}: cannot read the times in {line.strip()[:60]!r}")
        whole = int(match[1] or 0) * 3600 + int(match[2]) * 60 + int(match[3])
        seconds.append(whole + float(f"0.{match[4]}" if match[4] else 0))
    return seconds[0], seconds[1]


def _plain(text: str) -> str:
    """Without tags of either format, and with character references resolved."""
    return html.unescape(_TAGS.sub("", text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def subtitle_line(subtitle: Subtitle, decimals: int = 1) -> str:
    """What stands in the prompt: the start, the words, a newline."""
    stamp = "" if subtitle.start is None else f"{timestamp(subtitle.start, decimals)} "
    return f"{stamp}{subtitle.text}\n"


def interleave(
    runs: Sequence[Run], subtitles: Sequence[Subtitle], *, decimals: int = 1, end_seconds: float | None = None
) -> tuple[list[Run | str], int]:
    """Runs of a video with its subtitles between them.

    A subtitle stands before the first run that shows a later time than its start, so after the
    pictures of that moment. Those that overlap are all there, in order of their starts. Those
    without a time come before the first picture. Those that start after the end of the video are
    left out; where the end is not known, they follow the last picture.

    Args:
        runs: in the order of the prompt.
        subtitles: in order of their start, as `read_subtitles` gives them.
        decimals: digits after the point of the seconds.
        end_seconds: length of the video, if known.

    Returns:
        Runs and lines of text in order, and how many subtitles were left out.
    """
    kept = [s for s in subtitles if s.start is None or end_seconds is None or s.start <= end_seconds]
    shown: list[Run | str] = []
    waiting = list(kept)
    for run in runs:
        while waiting and (waiting[0].start is None or waiting[0].start < (run.seconds or 0.0)):
            shown.append(subtitle_line(waiting.pop(0), decimals))
        shown.append(run)
    shown += [subtitle_line(subtitle, decimals) for subtitle in waiting]
    return shown, len(subtitles) - len(kept)
