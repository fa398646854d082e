"""Cues of srt and vtt files.

Formats: WebVTT (W3C, section 6.1, "WebVTT file parsing"); SubRip, which has no standard, as players read it.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ov2kit.errors import DataError
from ov2kit.files import check_file

_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
_LARGEST = 16 * 2**20  # bytes; a film has a thousandth of it
_TAGS = re.compile(r"</?(?:[a-zA-Z][^<>]*|\d[\d:.]*)>|\{\\[^{}]*\}")
_VTT_COMMENT = re.compile(r"NOTE(?=[ \t]|$)")
_VTT_SHEET = re.compile(r"(?:STYLE|REGION)[ \t]*")


@dataclass
class Cue:
    """One entry of a file.

    Args:
        number: its line in the file, from 1.
        start: seconds.
        end: seconds.
        words: lines of text as they stand in the file.
    """

    number: int
    start: float
    end: float
    words: list[str]

    def text(self) -> str:
        """One line without tags of either format, with character references resolved."""
        return " ".join(html.unescape(_TAGS.sub("", " ".join(self.words))).split())


def read_cues(path: Path) -> list[Cue]:
    """Cues in the order of the file, those without words included.

    Args:
        path: an .srt or .vtt file in UTF-8.

    Raises:
        DataError: the file is missing, not UTF-8, of another kind, has a broken line (the message says
            which) or no cue in it.
    """
    kind = path.suffix.lower()
    if kind not in (".srt", ".vtt"):
        raise DataError(f"{path}: expected a subtitle file .srt or .vtt")
    check_file(path, "a subtitle file", most=_LARGEST)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: subtitles must be UTF-8; convert the file (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found = _vtt(path, lines) if kind == ".vtt" else _srt(path, lines)
    if not found:
        raise DataError(f"{path}: no subtitle in it; expected lines such as 00:00:01,000 --> 00:00:02,500")
    return found


def _vtt(path: Path, lines: Sequence[str]) -> list[Cue]:
    """A line with an arrow begins a cue; an empty line, the next arrow or the end of the file ends it.

    A line of spaces is text. A block that begins with the word NOTE is a comment, and one under STYLE or
    REGION before the first cue is no text; what else stands before an arrow is a cue's name.
    """
    if not re.match(r"WEBVTT(?=[ \t]|$)", lines[0]):
        raise DataError(f"{path}, line 1: a vtt file begins with WEBVTT, got {lines[0][:40]!r}")
    found: list[Cue] = []
    is_first, is_open, is_aside = False, False, False  # the header, before the first empty line, is no block
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            is_first, is_open, is_aside = True, False, False
            continue
        if is_first:
            is_sheet = not found and _VTT_SHEET.fullmatch(line) is not None
            is_aside = is_sheet or _VTT_COMMENT.match(line) is not None
        is_first = False
        if is_aside:
            continue
        if "-->" in line:
            found.append(Cue(number, *_times(path, number, line), []))
            is_open = True
        elif is_open:
            found[-1].words.append(line)
    return found


def _srt(path: Path, lines: Sequence[str]) -> list[Cue]:
    """A line with an arrow begins a cue; a blank line ends it, unless words follow that belong to it."""
    found: list[Cue] = []
    is_open = False
    for number, line in enumerate(lines, start=1):
        if "-->" in line:
            before = found[-1].words if is_open else []
            if len(before) > 1 or any(not _is_number(word) for word in before):
                raise DataError(
                    f"{path}, line {number}: a subtitle begins before that of line {found[-1].number} has ended"
                )
            before.clear()  # the number of this cue, straight after one without words
            found.append(Cue(number, *_times(path, number, line), []))
            is_open = True
        elif not line.strip():
            is_open = False
        elif is_open:
            found[-1].words.append(line)
        elif _is_number(line):
            continue
        elif found:  # a blank line within a subtitle, which SubRip files have though they should not
            found[-1].words.append(line)
        else:
            raise DataError(f"{path}, line {number}: expected a number or times with -->, got {line[:40]!r}")
    return found


def _is_number(line: str) -> bool:
    return line.strip().isdecimal()


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
