"""Points, boxes, counts, relations: values worked out by hand, and sums that do not depend on how they were cut."""

import numpy as np
import pytest
import torch

from ov2kit.recipes.metrics import (
    BoxAccuracy,
    Counting,
    PointsInMasks,
    PointTracks,
    RelationAccuracy,
    boxes_matched,
    depth_between,
    parse_count,
    parse_relation,
    point_in_mask,
    point_track_score,
    points_in_masks,
    relation_between,
)


def square(top, left, side=4, size=(16, 16)):
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("3", 3), ("There are three dogs.", 3), ("I see 12 cars.", 12), ("None.", 0), ("no birds", 0),
        ("2 dogs and 3 cats. Answer: 5", 5), ("The answer is two", 2), ("2 or 3", None), ("many", None), ("", None),
        ("3.5", None), ("1080p", None), ("Two, that is 2.", 2),
    ],
)  # fmt: skip
def test_counts_are_read_and_never_guessed(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("left", "left"), ("The cup is to the right of the plate.", "right"), ("On top of it", "above"),
        ("underneath", "below"), ("It is closer to the camera", "front"), ("Behind.", "behind"),
        ("left or right", None), ("It is not left of it", None), ("It isn't above", None), ("beside", None),
        ("Sure, right away: above.", "above"), ("overlapping", None),
    ],
)  # fmt: skip
def test_relations_are_read_and_never_guessed(text, relation):
    assert parse_relation(text) == relation


def test_relations_of_boxes_and_depths():
    here = (40, 40, 60, 60)
    assert relation_between((0, 40, 20, 60), here) == "left"
    assert relation_between((80, 45, 100, 65), here) == "right"
    assert relation_between((45, 0, 65, 20), here) == "above"
    assert relation_between((40, 80, 60, 100), here) == "below"
    assert relation_between((42, 42, 62, 62), here) is None
    assert (depth_between(1.0, 2.0), depth_between(2.0, 1.0), depth_between(1.0, 1.05)) == ("front", "behind", None)
    with pytest.raises(ValueError, match=r"one must be above 0, got 0\.0"):
        depth_between(0.0, 1.0)


def test_a_point_belongs_to_one_mask_only():
    masks = [square(0, 0), square(8, 8)]
    assert points_in_masks([(1, 1), (2, 2)], masks) == (1, 2, 2)
    assert points_in_masks([(9, 9), (2, 2)], masks) == (2, 2, 2)
    assert points_in_masks([], masks) == (0, 0, 2)
    assert points_in_masks([(1, 1)], []) == (0, 1, 0)
    assert [point_in_mask(p, masks[0]) for p in [(3.4, 0), (3.6, 0), (-0.4, 0), (-1, 0), (0, 16)]] == [
        True, False, True, False, False,
    ]  # fmt: skip


def test_boxes_find_their_own():
    a, b = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
    assert boxes_matched([b, a], [a, b]) == [1.0, 1.0]
    assert boxes_matched([(0.0, 0.0, 10.0, 5.0)], [a, b]) == [0.5, 0.0]
    assert boxes_matched([], [a]) == [0.0]


CALLS = {
    "points": (PointsInMasks, [([(1, 1)], [square(0, 0)]), ([(9, 1), (1, 1)], [square(0, 0), square(8, 8)])]),
    "boxes": (BoxAccuracy, [([(0, 0, 10, 8)], [(0, 0, 10, 10)]), ([], [(0, 0, 1, 1)])]),
    "counts": (Counting, [(["3", "two"], [3, 3]), (["x"], [1])]),
    "relations": (RelationAccuracy, [(["left"], ["left"]), (["left", "behind"], ["right", "behind"])]),
    "tracks": (
        PointTracks,
        [({0: {0: (1, 1)}}, {0: {5: (1, 1)}}, lambda frame: {5: square(0, 0)}),
         ({}, {0: {5: (1, 1)}}, lambda frame: {5: square(0, 0)})],
    ),
}  # fmt: skip
VALUES = {
    "points": {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3},
    "boxes": {"miou": 0.4, "acc@0.5": 0.5, "acc@0.75": 0.5, "acc@0.9": 0.0},
    "counts": {"accuracy": 1 / 3, "within_one": 2 / 3, "answered": 2 / 3, "mae": 0.5},
    "relations": {"accuracy": 2 / 3, "left": 1, "right": 0, "above": 0, "below": 0, "front": 0, "behind": 1},
    "tracks": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "hota": 0.5},
}


@pytest.mark.parametrize("name", CALLS)
def test_classes_give_the_values_by_hand_and_those_of_two_processes_together(name):
    kind, calls = CALLS[name]
    whole = kind()
    parts = [kind(), kind()]
    for number, call in enumerate(calls):
        whole.update(*call)
        parts[number].update(*call)
    values = {key: float(value) for key, value in whole.compute().items()}
    assert values == pytest.approx(VALUES[name], abs=1e-9)
    merged = kind()  # what a reduction over processes does: every state is summed
    for state in merged._reductions:
        setattr(merged, state, sum((getattr(part, state) for part in parts[1:]), getattr(parts[0], state)))
        assert merged._reductions[state] is not None
    merged._update_count = 2
    assert {key: float(value) for key, value in merged.compute().items()} == values
    again = kind()
    again.persistent(True)
    whole.persistent(True)
    again.load_state_dict(whole.state_dict())
    again._update_count = 2
    assert {key: float(value) for key, value in again.compute().items()} == values
    assert all(torch.is_tensor(value) and value.ndim == 0 for value in kind().compute().values())


def test_predictions_on_frames_without_truth_do_not_count_and_nothing_at_all_is_right():
    def masks(frame):
        return {0: square(0, 0)}

    score = point_track_score({0: {0: (1, 1)}, 7: {0: (15, 15)}}, {0: {0: (1, 1)}}, masks)
    assert (score.precision, score.recall, score.hota) == (1.0, 1.0, 1.0)
    nothing = point_track_score({}, {}, masks)
    assert (nothing.f1, nothing.hota) == (1.0, 1.0)
    with pytest.raises(ValueError, match="unknown pairing 'x'; known: id, order"):
        point_track_score({}, {}, masks, pairing="x")


@pytest.mark.parametrize("kind", [Counting, RelationAccuracy])
def test_lists_of_other_lengths_are_refused(kind):
    with pytest.raises(ValueError, match="as many, got 1 and 2"):
        kind().update(["left"], ["left", "right"])
