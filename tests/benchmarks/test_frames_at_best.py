"""What a perfect reader of sampled frames answers, by hand, and that its jumps are those of the set."""

import json

import numpy as np
import pytest

from benchmarks import frames_at_best
from benchmarks.frames_at_best import best_answers
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.scene import render, stars


def test_a_jump_in_the_air_is_dated_and_another_is_in_the_middle_of_where_it_can_be():
    shown = np.array([0.0, 2.0, 4.0])
    assert best_answers([(1.9, 0.4)], shown, 5.0) == [1.9]
    # between 2 and 4, and over by then: it began from 2.0 to 3.6
    assert best_answers([(2.5, 0.4)], shown, 5.0) == [pytest.approx(2.8)]
    # after the last frame, and over with the clip: from 4.0 to 4.7
    assert best_answers([(4.2, 0.3)], shown, 5.0) == [pytest.approx(4.35)]
    assert best_answers([(2.5, 0.4), (1.9, 0.4)], shown, 5.0) == [1.9, pytest.approx(2.8)]


def test_its_jumps_are_those_of_the_clips():
    knobs = Difficulty(seconds=(5.0, 6.0))
    for number in range(3):
        rng = np.random.default_rng((0, 2, number))
        seconds = float(rng.uniform(*knobs.seconds))
        own = stars(rng, np.arange(round(seconds * 25)) / 25, seconds, knobs)
        assert tuple(sorted(start for _, starts in own for start in starts)) == render((0, 2, number), knobs, 32).starts


def test_more_frames_show_more():
    scores = list(json.loads(frames_at_best.OUT.read_text())["map"].values())
    assert scores == sorted(scores)
    assert scores[0] < 0.1
    assert scores[-1] > 0.9
