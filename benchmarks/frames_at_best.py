"""What sampled frames could score at best on the test clips of minutes.yaml, whoever reads them.

    python -m benchmarks.frames_at_best

A reader that dates every jump exactly that a frame shows in the air, knows how long each other one takes and between
which two frames it was, and answers the middle of where it can have begun. Written to
results/minutes/frames_at_best.json.
"""

import json
from pathlib import Path

import numpy as np

from ov2kit.codec.tokenizers.frames import select_frame_indices
from ov2kit.files import write_text
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.jumpset import _FPS
from ov2kit.recipes.evidence.films.scene import stars
from ov2kit.recipes.evidence.sweep import read_sweep
from ov2kit.recipes.metrics import JumpScoreMAP

OUT = Path(__file__).parent / "results" / "minutes" / "frames_at_best.json"
TEST = 2  # number of the split


def best_answers(starts: list[tuple[float, float]], shown: np.ndarray, seconds: float) -> list[float]:
    """Starts as the reader gives them.

    Args:
        starts: (start, length) of each jump.
        shown: increasing times of the frames.
        seconds: length of the clip.
    """
    answers = []
    for start, length in starts:
        if ((shown > start) & (shown < start + length)).any():
            answers.append(start)
            continue
        before = max((t for t in shown if t <= start), default=0.0)
        after = min((t for t in shown if t >= start + length), default=seconds)
        answers.append((before + max(before, after - length)) / 2)
    return sorted(answers)


def main() -> None:
    """Write the scores of all budgets."""
    rows = [row.variant for row in read_sweep("minutes.yaml")[1][0].rows if row.variant.source == "frames"]
    variant, found = rows[0], {}
    knobs = Difficulty(**dict(variant.difficulty))
    clips = []
    for number in range(variant.test):
        fps = int(np.random.default_rng((variant.data_seed, TEST, number, 1)).choice(_FPS))
        rng = np.random.default_rng((variant.data_seed, TEST, number))
        seconds = float(rng.uniform(*knobs.seconds))
        times = np.arange(round(seconds * fps)) / fps
        jumps = []
        for actor, own in stars(rng, times, seconds, knobs):
            for start in own:
                flying = times[(times > start) & (times < start + knobs.flight[1] + 1 / fps) & (actor.air > 1e-9)]
                jumps.append((start, float(flying.max() - start)))
        clips.append((times, seconds, sorted(jumps)))
    for budget in sorted(row.budget for row in rows):
        metric = JumpScoreMAP()
        for times, seconds, jumps in clips:
            shown = times[select_frame_indices(len(times), budget)]
            answer = json.dumps([round(value, 2) for value in best_answers(jumps, shown, seconds)])
            metric.update([answer], [[start for start, _ in jumps]])
        found[str(budget)] = round(float(metric.compute()["map"]), 4)
    write_text(OUT, json.dumps({"command": "python -m benchmarks.frames_at_best", "map": found}, indent=1) + "\n")
    print(found)


if __name__ == "__main__":
    main()
