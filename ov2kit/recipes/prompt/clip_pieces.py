"""The stretch of a prompt that stands for a picture or a video: time stamps, places for visual tokens, subtitles."""

from collections.abc import Sequence

from ov2kit.canvases import IMAGE_PAD, VISION_END, VISION_START, Canvases
from ov2kit.recipes.prompt.chat import Piece
from ov2kit.recipes.prompt.media import known_seconds
from ov2kit.recipes.prompt.prompts import ItemName, MediaKind, TokensOut, canvas_runs
from ov2kit.recipes.prompt.subtitles import Subtitle, interleave
from ov2kit.recipes.prompt.time_stamps import TimeRun

#: after a codec video or a subtitle; one more that follows in the text is swallowed
NEWLINE = Piece("\n")


def clip_pieces(
    clip: Canvases,
    kind: MediaKind,
    subtitles: Sequence[Subtitle],
    *,
    decimals: int,
    tokens_out: TokensOut | None,
    item: ItemName,
) -> tuple[list[Piece], int]:
    """The pieces of a prompt that show one clip.

    Args:
        clip: its canvases.
        kind: what they are of.
        subtitles: that stand between its pictures.
        decimals: see `Processor`.
        tokens_out: see `Processor`.
        item: see `Processor`.

    Returns:
        The pieces, and how many subtitles lie beyond the end of the video.
    """
    runs: Sequence[TimeRun | str]
    runs, dropped = canvas_runs(clip, kind, decimals=decimals, tokens_out=tokens_out, item=item), 0
    if subtitles:
        runs, dropped = interleave(runs, subtitles, decimals=decimals, end_seconds=known_seconds(clip))
    return [piece for run in runs for piece in _run_pieces(run, newline=kind == "codec")], dropped


def _run_pieces(run: TimeRun | str, *, newline: bool) -> list[Piece]:
    if isinstance(run, str):
        return [Piece(run.removesuffix("\n")), NEWLINE]
    stamp = [Piece(run.stamp)] if run.stamp else []
    end = [NEWLINE] if newline else []
    return [*stamp, Piece(VISION_START, 1), Piece(IMAGE_PAD, run.tokens), Piece(VISION_END, 1), *end]
