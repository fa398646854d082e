"""How pictures stand in the text: runs of image pads, each under its time.

Source: prompt rewriting of the codec front end and of the frames path of LLaVA-OneVision-2. A plain
image has no time: start, pads, end. Letters: N patches.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from ov2kit.canvases import IMAGE_PAD, VISION_END, VISION_START, Canvases
from ov2kit.errors import CanvasError, check_choice, check_type
from ov2kit.recipes.prompt.layout import VisualLayout
from ov2kit.recipes.prompt.time_stamps import TimeRun, timestamp, timestamp_runs

MediaKind = Literal["image", "frames", "codec"]
VideoKind = Literal["codec", "frames", "hybrid"]  # how a video becomes pictures
SourceKind = Literal[VideoKind, "route"]  # the same, or that a `Router` chooses by the question
ItemName = Literal["group", "canvas"]
TokensOut = Callable[[int], int]


def canvas_runs(
    canvases: Canvases,
    kind: MediaKind,
    *,
    decimals: int = 1,
    tokens_out: TokensOut | None = None,
    item: ItemName = "group",
) -> list[TimeRun]:
    """The runs of the canvases of one clip.

    Args:
        canvases: one clip.
        kind: an image has no times.
        decimals: digits after the point of the seconds.
        tokens_out: tokens a connector makes of an item of so many patches, padding left out. One run
            per item then, under the earliest time in it. By default one token per merged block.
        item: what such a connector takes at a time.

    Raises:
        CanvasError: several clips, or a frame without a time.
    """
    check_choice("kind", kind, get_args(MediaKind))
    check_choice("item", item, get_args(ItemName))
    times = canvases.clip_times()
    if len(times) > 1:
        raise CanvasError(f"expected the canvases of one clip, got {len(times)}; use canvases.split()")
    positions = canvases.flat_positions()
    if tokens_out is None:
        runs = timestamp_runs(positions, times[0], merge=canvases.merge, decimals=decimals)
    else:
        runs, at = [], 0
        for length in VisualLayout.from_canvases(canvases).segments(item).lengths:
            inside = positions[at : at + length]
            at += length
            seconds = [run.seconds for run in timestamp_runs(inside, times[0], merge=1) if run.seconds is not None]
            if seconds:
                tokens = tokens_out(int((inside[:, 0] >= 0).sum()))
                runs.append(TimeRun(tokens, min(seconds), timestamp(min(seconds), decimals)))
    return [TimeRun(run.tokens) for run in runs] if kind == "image" else runs


def run_text(run: TimeRun, *, newline: bool) -> str:
    """Stamp, start token, pads, end token, and a newline if asked for."""
    return f"{run.stamp}{VISION_START}{IMAGE_PAD * run.tokens}{VISION_END}" + "\n" * newline


def rewrite_prompt(text: str, runs: Sequence[TimeRun] | Sequence[tuple[str, int]]) -> str:
    """Put timed runs in the place of the pictures of a text, as the codec path of the release does.

    Everything from the first start token to the last end token is replaced, and one newline after
    it is swallowed, because each run ends with one.

    Args:
        text: a prompt that a processor has written for plain pictures.
        runs: what to put there: `TimeRun`s, or pairs of (stamp, tokens).

    Returns:
        The text as it was if it has no start token, or no end token after it.
    """
    check_type("text", text, str, "a text")
    first, last = text.find(VISION_START), text.rfind(VISION_END)
    if first < 0 or last < first:
        return text
    rest = text[last + len(VISION_END) :].removeprefix("\n")
    listed = [run if isinstance(run, TimeRun) else TimeRun(run[1], None, run[0]) for run in runs]
    return text[:first] + "".join(run_text(run, newline=True) for run in listed) + rest
