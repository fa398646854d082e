"""Events stand out from camera, light and habit: each part against a second derivation, then all of it."""

import numpy as np
import pytest
import torch

from ov2kit.codec import CodecTokenizer, EventSaliency
from ov2kit.codec.scoring.camera_registration import camera_motion, moved
from ov2kit.codec.scoring.habit import beyond_habit
from ov2kit.codec.scoring.light import difference_but_light
from ov2kit.codec.scoring.maps import lower_median
from ov2kit.codec.scoring.spread import damped_over_time
from tests.clips import encode

H, W, GRID = 35, 60, (7, 12)
STILL = torch.zeros(2, 3)


def world(x, y, seed=0):
    """Gray levels at any place, in pixels: sines of many directions, so that no interpolation is needed."""
    rng = np.random.default_rng(seed)
    level = np.full(np.broadcast(x, y).shape, 120.0)
    for _ in range(40):
        angle, length = rng.uniform(0, np.pi), rng.uniform(7, 40)
        wave = (np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / length
        level += rng.uniform(4, 9) * np.sin(wave + rng.uniform(0, 7))
    return level


def seen(motion=STILL, seed=0):
    """(H, W) of what a camera sees that has moved: its pixel (x, y) shows the world at (x, y) + motion @ (1, u, v)."""
    y, x = np.mgrid[0:H, 0:W].astype(float)
    u, v = x / (W - 1) * 2 - 1, y / (H - 1) * 2 - 1
    (dx, dxu, dxv), (dy, dyu, dyv) = motion.tolist()
    return torch.from_numpy(world(x + dx + dxu * u + dxv * v, y + dy + dyu * u + dyv * v, seed)).float()


MOTIONS = {
    "part of a pixel": [[0.4, 0, 0], [-0.3, 0, 0]],
    "far": [[9.0, 0, 0], [-5.0, 0, 0]],
    "zoom": [[0.0, 1.5, 0], [0.0, 0, 0.9]],
    "roll": [[0.0, 0, -0.9], [0.0, 1.5, 0]],
    "all": [[3.2, -0.8, 0.5], [1.6, 0.6, -0.4]],
}


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("crossed", [False, True])
def test_the_motion_of_a_camera_is_found_even_behind_something_that_moves(name, crossed):
    motion = torch.tensor(MOTIONS[name])
    luma, reference = seen(motion), seen()
    if crossed:
        luma[8:20, 10:22] += 50  # something goes its own way
        reference[12:24, 30:42] += 50
    found = camera_motion(luma[None], reference[None])[0]
    corners = torch.tensor([[1.0, u, v] for u in (-1, 1) for v in (-1, 1)])
    assert (corners @ (found - motion).T).abs().max() < (0.35 if crossed else 0.25)  # pixels
    again = moved(reference[None], found[None])[0]
    inside = slice(9, -9), slice(13, -13)
    if not crossed:
        assert (again - luma)[inside].abs().mean() < 0.15 * (reference - luma)[inside].abs().mean() + 0.5


def test_no_motion_where_there_is_none():
    still, noise = seen(), torch.randn(H, W, generator=torch.Generator().manual_seed(0))
    lit = still.clone()
    lit[5:15, 5:20] += 80
    black = torch.zeros(H, W)
    pairs = [(still, still), (still + 0.3 * noise, still), (lit, still), (still - 30, still), (black, black)]
    found = camera_motion(torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs]))
    assert found.abs().max() == 0
    unlike = camera_motion(seen(seed=1)[None], seen(seed=2)[None])
    assert unlike.isfinite().all()


def test_pairs_are_found_alone_as_together():
    reference = seen().expand(len(MOTIONS) + 1, H, W)
    luma = torch.stack([seen(), *(seen(torch.tensor(m)) for m in MOTIONS.values())])
    together = camera_motion(luma, reference)
    for n in range(len(luma)):
        alone = camera_motion(luma[n : n + 1], reference[:1])[0]
        torch.testing.assert_close(alone, together[n], rtol=0, atol=1e-3)


def test_light_is_a_line_per_band():
    """Where all pixels follow one line, it is that of numpy's least squares, but for the stiffness."""
    reference = torch.stack([seen(), seen(seed=3)])
    gain = torch.tensor([0.7, 1.2, 0.9, 1.0, 1.1, 0.8, 1.3]).repeat_interleave(H // 7)[:, None]
    luma = gain * reference + torch.linspace(-20, 20, H)[:, None].div(20).round() * 20
    left = difference_but_light(luma, reference, 7)
    for n in range(2):
        for band in range(7):
            rows = slice(band * H // 7, (band + 1) * H // 7)
            x, y = reference[n, rows].flatten().numpy(), luma[n, rows].flatten().numpy()
            if np.ptp((luma - gain * reference)[n, rows].numpy()) > 1e-3:
                continue  # two lines in one band
            assert np.polyfit(x, y, 1)[0] == pytest.approx(float(gain[rows.start, 0]), abs=1e-4)
            assert left[n, rows].abs().max() < 2.5  # of 50 gray levels
    same = difference_but_light(reference, reference, 7)
    assert same.abs().max() < 1e-3


def test_what_happens_in_a_part_of_a_band_stays():
    reference = seen()[None]
    luma = 0.8 * reference + 10
    luma[:, 5:10, 20:30] += 60
    left = difference_but_light(luma, reference, 7)[0]
    assert left[5:10, 20:30].mean() > 45
    left[5:10, 20:30] = 0
    assert left.abs().mean() < 2.5
    assert difference_but_light(luma, reference)[0][5:10, 20:30].mean() > 45  # in one band, too


def test_habit_by_hand():
    scores = torch.tensor([[0.0, 9.0, 2.0], [0.0, 11.0, 2.0], [6.0, 10.0, 2.0], [0.0, 40.0, 2.0], [0.0, 8.0, 2.0]])
    expected = torch.zeros(5, 3)
    expected[2, 0] = 6 / (1 + 0)  # usual 0 within 0, at most 0 in three of four
    expected[3, 1] = (40 - 10 - 2 * 1) / (1 + 11)  # usual 10 within 1, at most 11
    torch.testing.assert_close(beyond_habit(scores[:, None], 2.0, quantile=0.75)[:, 0], expected)
    often = np.quantile(scores.numpy(), 0.9, axis=0).tolist()
    expected[2, 0], expected[3, 1] = 6 / (1 + often[0]), 28 / (1 + often[1])
    torch.testing.assert_close(beyond_habit(scores[:, None], 2.0)[:, 0], expected)
    assert (beyond_habit(scores[:, None].expand(5, 1, 3)[..., 2:]) == 0).all()


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_of_two_medians_the_lower(count, dim):
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 4, 5)).astype(np.float32))
    values = values.repeat_interleave(2, dim).narrow(dim, 0, min(count, 2 * values.shape[dim]))
    assert torch.equal(lower_median(values, dim), values.median(dim).values)
    assert torch.equal(lower_median(values, dim, keepdim=True), values.median(dim, keepdim=True).values)


def film(seconds=6.0, rate=8, motion=None, snow=False, hum=False, seed=0):
    """(T, H, W) uint8 with something that blinks on in blocks (3, 5) and (3, 6), frames 9 to 11."""
    rng, pictures = np.random.default_rng(seed), []
    for t in range(int(seconds * rate)):
        picture = seen(STILL if motion is None else motion(t)).numpy().copy()
        if 9 <= t < 12:
            picture[15:20, 25:35] += 45
        if hum:
            rows = np.arange(H)[:, None] / H
            picture *= 1 + 0.1 * np.sin(2 * np.pi * (0.37 * t + 1.3 * rows))
        picture += rng.normal(0, 1.0, picture.shape)
        if snow:
            picture[:, 45:] = rng.uniform(0, 255, (H, 15))
        pictures.append(picture.clip(0, 255))
    return torch.from_numpy(np.stack(pictures)).round().byte()


def shaking(t):
    return torch.tensor([[2.5 * np.sin(1.9 * t), 0.2 * np.cos(t), 0.3], [2.0 * np.cos(1.3 * t), -0.3, 0.2 * np.sin(t)]])


@pytest.mark.parametrize("kind", ["still", "shaking", "snow", "hum"])
def test_the_event_scores_best_before_any_background(kind):
    luma = film(motion=shaking if kind == "shaking" else None, snow=kind == "snow", hum=kind == "hum")
    damped, scores = EventSaliency()(luma, GRID), EventSaliency(spread=0.0)(luma, GRID)
    assert damped.shape == (48, *GRID)
    assert set((damped.flatten().topk(2).indices % 84).tolist()) == {3 * 12 + 5, 3 * 12 + 6}
    best = scores.flatten().topk(4).indices
    frames, places = best.div(84, rounding_mode="floor"), best % 84
    assert set(places.tolist()) <= {3 * 12 + 5, 3 * 12 + 6}
    assert set(frames.tolist()) <= {7, 8, 9, 10, 11, 12, 13}
    away = scores[:, torch.arange(7) != 3].flatten(1)
    assert scores[8:13, 3, 5:7].max() > 2 * away.max()


@pytest.mark.parametrize(
    ("kind", "option"),
    [("snow", {"habit": None}), ("shaking", {"camera": "none", "habit": None}), ("hum", {"light": "none"})],
)
def test_each_part_is_what_does_it(kind, option):
    """Without it the background scores as much as the event, or more."""
    luma = film(motion=shaking if kind == "shaking" else None, snow=kind == "snow", hum=kind == "hum")
    share = []
    for saliency in (EventSaliency(memory=None), EventSaliency(memory=None, **option)):
        scores = saliency(luma, GRID)
        share.append(float(scores[8:13, 3, 5:7].max() / scores[:, torch.arange(7) != 3].max()))
    assert share[1] < 0.5 * share[0]


def test_the_frame_after_is_seen_as_the_camera_moves():
    """The first frame is compared with the next alone, the last with the one before."""
    luma = film(motion=shaking)[:2]
    with_camera, without = (
        EventSaliency(camera=camera, habit=None, frame_level=None, echo=0.0)(luma, GRID)
        for camera in ("affine", "none")
    )
    assert (with_camera.mean((1, 2)) < 0.4 * without.mean((1, 2))).all()


def test_what_changes_slowly_is_found_where_it_lasts():
    luma = torch.stack([seen()] * 30)
    luma[:, 15:20, 25:30] += 1.5 * torch.cat([torch.zeros(18), torch.arange(12.0)]).view(-1, 1, 1)
    luma = luma.round().byte()
    plain, lasting = (
        EventSaliency(lasting=x, frame_level=None, habit_quantile=0.5, spread=0.0)(luma, GRID)[26:, 3, 5]
        for x in (0.0, 1.0)
    )
    assert (lasting > plain + 2).all()


def test_echo_and_frame_level_by_hand():
    luma = film()
    plain = EventSaliency(echo=0.0, frame_level=None, spread=0.0)(luma, GRID)
    level = plain / (0.5 + plain.mean((1, 2), keepdim=True))
    torch.testing.assert_close(EventSaliency(echo=0.0, frame_level=0.5, spread=0.0)(luma, GRID), level)
    echoed = EventSaliency(echo=0.3, frame_level=0.5, spread=0.0)(luma, GRID)
    t = 9
    torch.testing.assert_close(echoed[t], level[t] + 0.3 * torch.maximum(level[t - 1], level[t + 1]))
    torch.testing.assert_close(echoed[0], level[0] + 0.3 * level[1])


def test_what_comes_back_to_how_it_was_is_remembered():
    """Something passes in two frames: it scores there, but not that the background is as it was before."""
    luma = torch.stack([seen()] * 12).round().byte()
    luma[5:7, 15:20, 25:30] += 45
    options = {
        "camera": "none",
        "light": "none",
        "tolerance": 0.0,
        "habit": None,
        "frame_level": None,
        "echo": 0.0,
        "spread": 0.0,
    }
    at_once, remembering = (EventSaliency(memory=n, **options)(luma, GRID)[:, 3, 5] for n in (None, 3))
    torch.testing.assert_close(at_once, torch.tensor([0.0] * 4 + [45.0] * 4 + [0.0] * 4))
    expected = at_once.clone()
    expected[4] = expected[7] = 0  # as 3 frames before, and 3 after
    torch.testing.assert_close(remembering, expected)


def test_a_place_is_damped_by_the_rank_of_its_moments():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (9, 2, 3)).astype(np.float32)  # some are equal
    expected = np.empty_like(scores)
    for row in range(2):
        for column in range(3):
            moments = sorted(range(9), key=lambda t, at=scores[:, row, column]: (-at[t], t))
            for rank, t in enumerate(moments):
                expected[t, row, column] = scores[t, row, column] / np.sqrt(1 + 0.7 * rank)
    torch.testing.assert_close(damped_over_time(torch.from_numpy(scores), 0.7), torch.from_numpy(expected))


@pytest.mark.parametrize(("option", "times"), [({"habit_quantile": 0.5}, 10), ({"spread": 0.0}, 1.2)])
def test_fewer_blocks_of_what_passes_all_the_time_score_above_what_happens_once(option, times):
    rng = np.random.default_rng(0)
    luma = np.stack([seen().numpy()] * 40) + rng.normal(0, 1, (40, H, W))
    for t in range(40):
        for row, pace in ((2, 7), (22, -5)):
            left = (pace * t) % (W - 8)
            luma[t, row : row + 8, left : left + 8] = 230
    luma[15:20, 15:20, 25:30] += 12
    luma = torch.from_numpy(luma.clip(0, 255)).round().byte()
    among = []
    for saliency in (EventSaliency(), EventSaliency(**option)):
        scores = saliency(luma, GRID)
        among.append(int((scores > scores[14:21, 3, 5].max()).sum()))
    assert among[1] > times * among[0]


def test_the_frame_before_takes_part():
    luma = film()
    alike = EventSaliency(memory=None, habit=None, frame_level=None, echo=0.0, spread=0.0)
    whole, part = alike(luma, GRID), alike(luma[9:], GRID, luma[8])
    torch.testing.assert_close(part, whole[9:], rtol=1e-3, atol=1e-3)
    alone = EventSaliency()(luma[:1], GRID)
    assert (alone == 0).all()


def test_wrong_shapes_are_refused():
    luma = torch.zeros(3, 35, 60, dtype=torch.uint8)
    for wrong, grid, before, said in (
        (luma.float(), GRID, None, "uint8"),
        (luma[0], GRID, None, r"\(T, h, w\)"),
        (luma, (6, 12), None, "grid of"),
        (luma, GRID, luma, "before must be"),
        (luma[:, :3, :3], (1, 1), None, "4 x 4"),
    ):
        with pytest.raises(ValueError, match=said):
            EventSaliency()(wrong, grid, before)


def test_the_preset_scores_by_events_from_any_codec(tmp_path):
    for codec, suffix in (("libx264", "mp4"), ("libvpx-vp9", "webm")):
        path = encode(tmp_path / f"x.{suffix}", codec=codec, frames=40)
        canvases = CodecTokenizer(budget_canvases=4, preset="event", max_pixels=20_000)(path)
        canvases.validate()
        made = canvases.provenance
        assert (made["preset"], canvases.signal) == ("event", "luma, events")
        assert made["options"]["candidates"] == "uniform"
        assert made["options"]["saliency"].startswith("EventSaliency(camera='affine'")
        parts = list(CodecTokenizer(budget_canvases=4, preset="event", max_pixels=20_000).stream(path))
        assert torch.equal(torch.cat([part.images for part in parts]), canvases.images)
        one = CodecTokenizer(budget_canvases=4, preset="event", max_pixels=20_000, threads=1)(path)
        assert torch.equal(one.positions, canvases.positions)
