"""Points and masks score what the public evaluation scores them, on synthetic cases, to the last digit."""

import numpy as np
import pytest

from ov2kit.recipes.spatial.scores import mask_scores, point_scores
from ov2kit.recipes.spatial.segmenter import MaskTracks
from ov2kit.recipes.spatial.tracks import parse_tracks
from tests.paths import read_golden
from tests.recipes.spatial import public_evaluation as public

STORED = read_golden(public.STORED.name)
EXACT = {"rel": 1e-13, "abs": 1e-15}  # sums are taken in another order


def tracks_of(masks):
    """(O, T, H, W) bool as mask tracks."""
    found = MaskTracks(masks.shape[1], masks.shape[2:])
    for frame in range(masks.shape[1]):
        found.put(frame, {number: masks[number, frame] for number in range(len(masks))})
    return found


def our_points(seed):
    text, masks = public.point_case(seed)
    scores = point_scores(parse_tracks(text, strict=True), tracks_of(masks), fps=public.FPS)
    return {name: scores[f"public_point_{name}"] for name in ("precision", "recall", "f1", "hota")}


def our_masks(seed):
    found, true = public.mask_case(seed)
    scores = mask_scores(tracks_of(found[None]), tracks_of(true[None]))
    return {name: scores[name] for name in ("j", "f", "j&f", "public_hota")}


@pytest.mark.parametrize("seed", STORED["points"])
def test_points_score_as_the_public_evaluation_scored_them(seed):
    assert our_points(int(seed)) == pytest.approx(STORED["points"][seed], **EXACT)


@pytest.mark.parametrize("seed", STORED["masks"])
def test_masks_score_as_the_public_evaluation_scored_them(seed):
    assert our_masks(int(seed)) == pytest.approx(STORED["masks"][seed], **EXACT)


def test_the_stored_cases_are_of_all_kinds():
    points = [tuple(case.values()) for case in STORED["points"].values()]
    assert len(set(points)) == len(points)
    assert all(0.05 < f1 < 0.95 for _, _, f1, _ in points)


@pytest.mark.parametrize("seed", range(100, 103))
def test_new_cases_score_as_the_installed_public_evaluation_scores_them(seed):
    points, masks = public.load("utils"), public.load("eval_sam2")
    if points is None or masks is None:
        pytest.skip("lmms-eval is not installed; the stored numbers are its own")
    pytest.importorskip("cv2", reason="opencv-python is not installed")
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    assert our_points(seed) == pytest.approx(public.public_points(points, seed), **EXACT)
    assert our_masks(seed) == pytest.approx(public.public_masks(masks, seed), **EXACT)


def test_a_point_is_compared_to_its_own_object_where_the_public_order_slips():
    """Object 0 is hidden: its mask is empty, and the first true point belongs to object 1."""
    masks = np.zeros((2, 1, 8, 8), dtype=bool)
    masks[1, 0, 2:5, 2:5] = True
    scores = point_scores(parse_tracks('<tracks coords="0 0 375 375">x</tracks>'), tracks_of(masks), fps=6.0)
    assert (scores["point_precision"], scores["public_point_precision"]) == (1.0, 0.0)


def test_hota_knows_an_id_switch_and_the_public_one_does_not():
    true = np.zeros((2, 6, 32, 32), dtype=bool)
    true[0, :, 2:12, 2:12] = True
    true[1, :, 18:28, 18:28] = True
    switched = true.copy()
    switched[:, 3:] = true[::-1, 3:]
    kept, lost = mask_scores(tracks_of(true), tracks_of(true)), mask_scores(tracks_of(switched), tracks_of(true))
    assert (kept["hota"], kept["public_hota"], kept["j&f"]) == (1.0, 1.0, 1.0)
    assert (lost["public_hota"], lost["j&f"]) == (1.0, 1.0)
    assert lost["assa"] == pytest.approx(1 / 3)  # 3 of 3 + 3 + 3 pairings of each track agree
    assert lost["hota"] == pytest.approx((1 / 3) ** 0.5)


def test_masks_of_another_length_are_refused():
    short = tracks_of(np.zeros((1, 2, 8, 8), dtype=bool))
    with pytest.raises(ValueError, match="the truth's 3 frames"):
        mask_scores(short, tracks_of(np.zeros((1, 3, 8, 8), dtype=bool)))
