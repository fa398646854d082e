"""Subtitles: what is said when, between the pictures of a video.

A line becomes ``<3.2 seconds> text`` and a newline, so it looks like the stamp of a picture and differs from it by what
follows: words, not a start token.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov2kit.errors import DataError, shorten
from ov2kit.recipes.prompt.subtitle_files import read_cues
from ov2kit.recipes.prompt.time_stamps import TimeRun, timestamp

SubtitleSource = str | os.PathLike[str] | Sequence["Subtitle | Mapping[str, Any]"]


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
        DataError: the file is missing, not UTF-8, of another kind, has a broken line (the message says
            which) or no entry in it; or an entry of the list is malformed.
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
    found = []
    for cue in read_cues(path):
        try:
            found.append(Subtitle(cue.text(), cue.start, cue.end))
        except DataError as error:
            raise DataError(f"{path}, line {cue.number}: {error}") from error
    return [subtitle for subtitle in found if subtitle.text]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def on_picture_clock(subtitles: Sequence[Subtitle], delay_seconds: float) -> list[Subtitle]:
    """Times of the file to times of its picture, which count from the first shown frame.

    Args:
        subtitles: as `read_subtitles` gives them.
        delay_seconds: from the start of the file to its first picture.

    Returns:
        The same lines; what is said before the first picture is put at 0.
    """

    def moved(seconds: float | None) -> float | None:
        return None if seconds is None else max(0.0, seconds - delay_seconds)

    return [Subtitle(s.text, moved(s.start), moved(s.end)) for s in subtitles]


def subtitle_line(subtitle: Subtitle, decimals: int = 1) -> str:
    """What stands in the prompt: the start, the words, a newline."""
    stamp = "" if subtitle.start is None else f"{timestamp(subtitle.start, decimals)} "
    return f"{stamp}{subtitle.text}\n"


def interleave(
    runs: Sequence[TimeRun], subtitles: Sequence[Subtitle], *, decimals: int = 1, end_seconds: float | None = None
) -> tuple[list[TimeRun | str], int]:
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
    shown: list[TimeRun | str] = []
    waiting = list(kept)
    for run in runs:
        while waiting and (waiting[0].start is None or waiting[0].start < (run.seconds or 0.0)):
            shown.append(subtitle_line(waiting.pop(0), decimals))
        shown.append(run)
    shown += [subtitle_line(subtitle, decimals) for subtitle in waiting]
    return shown, len(subtitles) - len(kept)
