"""Regions, and the segmenter without weights: true points on real encoded clips give true masks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ov2kit.recipes.evidence.films.encode import write_video
from ov2kit.recipes.evidence.films.tracking_scene import COLORS, TrackingScene, render_tracking
from ov2kit.recipes.metrics.video_masks import boundary_f, region_iou
from ov2kit.recipes.spatial.frames import VideoFrames
from ov2kit.recipes.spatial.region_growing import RegionGrowing
from ov2kit.recipes.spatial.regions import centroid, components, connected, fill_holes, inner_point
from ov2kit.recipes.spatial.scores import true_tracks
from ov2kit.recipes.spatial.segmenter import MaskTracks, frame_prompts, segment_tracks
from ov2kit.recipes.spatial.tracks import TrackPoint, Tracks

PICTURES = arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8)))


def flood(allowed, seeds):
    """The definition: pixel by pixel."""
    todo = [tuple(at) for at in np.argwhere(allowed & seeds)]
    found = np.zeros_like(allowed)
    while todo:
        row, column = todo.pop()
        inside = 0 <= row < allowed.shape[0] and 0 <= column < allowed.shape[1]
        if inside and allowed[row, column] and not found[row, column]:
            found[row, column] = True
            todo += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return found


@given(PICTURES, st.data())
def test_regions_are_those_of_a_flood_pixel_by_pixel(allowed, data):
    seeds = data.draw(arrays(bool, allowed.shape))
    assert (connected(allowed, seeds) == flood(allowed, seeds)).all()
    parts = components(allowed, seeds, most=100)
    assert sum(part.astype(int) for part in parts).max(initial=0) <= 1 if parts else True
    assert (np.logical_or.reduce(parts) == flood(allowed, seeds)).all() if parts else not (allowed & seeds).any()


def test_holes_are_filled_and_bays_are_not():
    ring = np.zeros((7, 7), dtype=bool)
    ring[1:6, 1:6] = True
    ring[3, 3] = False
    assert fill_holes(ring).sum() == 25
    ring[3, 4:] = False
    assert fill_holes(ring).sum() == 22


@given(PICTURES.filter(lambda mask: mask.any()))
def test_the_inner_point_is_inside(mask):
    assert mask[inner_point(mask)]


def test_the_inner_point_of_a_ring_is_on_the_ring():
    ring = np.ones((9, 9), dtype=bool)
    ring[1:8, 1:8] = False
    assert centroid(ring) == (4.0, 4.0)
    assert ring[inner_point(ring)]


def clip_and_truth(tmp_path, seed, **knobs):
    clip = render_tracking(seed, TrackingScene(**knobs))
    path = tmp_path / f"{seed}.mp4"
    write_video(path, clip.frames, clip.fps, "x264-medium")
    frames = VideoFrames(path)
    truth = MaskTracks(len(frames), frames.size)
    for number, source in enumerate(frames.source_frames):
        truth.put(number, {k: clip.masks[k, source] for k in range(len(clip.colors))})
    return frames, truth


def agreement(found, truth):
    """Mean J and F over objects and frames."""
    scores = []
    for k in truth.objects:
        mine, true = (torch.from_numpy(np.stack([t.mask(k, f) for f in range(t.frames)])) for t in (found, truth))
        scores.append((float(region_iou(mine, true).mean()), float(boundary_f(mine, true).mean())))
    return np.mean(scores, axis=0)


def test_true_points_give_true_masks_on_real_encoded_clips(tmp_path):
    scores = []
    for seed in (1, 4, 8, 11):
        frames, truth = clip_and_truth(tmp_path, seed)
        scores.append(agreement(segment_tracks(RegionGrowing(), frames, true_tracks(truth, fps=6, every=3)), truth))
    j, f = np.mean(scores, axis=0)
    assert (j + f) / 2 > 0.93
    assert j > 0.88


def test_one_point_is_followed_to_both_ends(tmp_path):
    frames, truth = clip_and_truth(tmp_path, 2, objects=(1, 1), hops=0.0, pillars=0.0, takes=(1.0, 1.5))
    every = true_tracks(truth, fps=6)
    middle = Tracks((every.points[len(frames) // 2],))
    found = segment_tracks(RegionGrowing(), frames, middle)
    assert (agreement(found, truth) > 0.85).all()


def test_frames_come_once_each_forwards_from_the_first_prompt_and_then_back(tmp_path):
    frames, _ = clip_and_truth(tmp_path, 4)
    prompts = {5: {0: [(10.0, 10.0)]}, 9: {1: [(20.0, 20.0)]}}
    order = [number for number, _ in RegionGrowing().segment(frames, prompts)]
    assert order == [*range(5, len(frames)), *range(4, -1, -1)]
    assert list(RegionGrowing().segment(frames, {})) == []


def test_points_become_prompts_as_the_public_evaluation_places_them():
    at = [TrackPoint(t, 0, 0.5, 1.0) for t in (0.0, 0.25, 0.42, 0.75, 9.0)]
    prompts = frame_prompts(Tracks(tuple(at)), frames=10, size=(50, 100))
    assert prompts == {
        0: {0: [(50.0, 49.0)]},
        2: {0: [(50.0, 49.0)]},
        3: {0: [(50.0, 49.0)]},
        4: {0: [(50.0, 49.0)]},
        9: {0: [(50.0, 49.0)]},
    }  # 0.25 x 6 = 1.5 goes to the even 2, 0.75 x 6 = 4.5 to 4; 9 s is after the end


def test_every_color_has_a_region_of_its_own_even_where_objects_touch():
    picture = np.zeros((40, 80, 3), dtype=np.uint8)
    for k, color in enumerate(COLORS.values()):
        picture[10:30, 20 * k : 20 * k + 20] = color

    class One:
        size, seconds = (40, 80), [0.0]

        def __len__(self):
            return 1

        def __getitem__(self, number):
            return picture

    prompts = {0: {k: [(20.0 * k + 10, 20.0)] for k in range(4)}}
    [(_, masks)] = RegionGrowing().segment(One(), prompts)
    for k in range(4):
        expected = np.zeros((40, 80), dtype=bool)
        expected[10:30, 20 * k : 20 * k + 20] = True
        assert (masks[k] == expected).all(), k


@pytest.mark.parametrize(("options", "problem"), [({"reach": -1}, "reach"), ({"least": 0}, "least")])
def test_odd_options_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        RegionGrowing(**options)
