"""One question about one video: answer, points, masks, and seconds per stage."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ov2kit.recipes.spatial.frames import Frames
from ov2kit.recipes.spatial.prompts import PROMPT_FPS, track_prompt
from ov2kit.recipes.spatial.segmenter import MaskTracks, PointSegmenter, Prompts, frame_prompts, segment_tracks
from ov2kit.recipes.spatial.tracks import Tracks, parse_tracks

#: (video, prompt) -> the model's text
Answerer = Callable[[Path, str], str]


@dataclass(frozen=True)
class Tracked:
    """What became of one question.

    Args:
        text: the model's answer.
        tracks: its points.
        prompts: where they fell on frames.
        masks: what the segmenter made of them.
        seconds: per stage: "answer", "segment".
    """

    text: str
    tracks: Tracks
    prompts: Prompts
    masks: MaskTracks
    seconds: dict[str, float]


def ask_tracks(answer: Answerer, video: Path, expression: str) -> tuple[str, float]:
    """The model's answer to the public prompt, and the seconds that it took."""
    began = time.perf_counter()
    text = answer(video, track_prompt(expression))
    return text, time.perf_counter() - began


def follow(
    text: str, frames: Frames, segmenter: PointSegmenter, *, fps: float = PROMPT_FPS, answered: float = 0.0
) -> Tracked:
    """Masks of an answer.

    Args:
        text: the answer.
        frames: pictures at `fps`.
        segmenter: points -> masks.
        fps: pictures per second.
        answered: seconds that the answer took.
    """
    began = time.perf_counter()
    tracks = parse_tracks(text)
    masks = segment_tracks(segmenter, frames, tracks, fps=fps)
    seconds = {"answer": answered, "segment": time.perf_counter() - began}
    return Tracked(text, tracks, frame_prompts(tracks, len(frames), frames.size, fps=fps), masks, seconds)
