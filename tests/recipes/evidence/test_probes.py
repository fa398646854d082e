"""The read-out by positions: probes know of time what the encoder's positions say, and nothing else."""

from dataclasses import replace

import pytest
import torch

from ov2kit.recipes.evidence.runs.canvas_store import PATCH, StoredClip
from ov2kit.recipes.evidence.runs.clip_batch import ClipBatch, pack
from ov2kit.recipes.evidence.runs.small_model import JumpModel
from ov2kit.recipes.evidence.runs.variant import SweepError, Variant

QUERIES = torch.arange(20) * 0.1
RATES = (25.0, 30.0)  # frames per second
FIRST = (0, 7)  # source frame at second 0
GROUPS = ((0, 0, 1, 1), (0, 1, 1, 1))


@pytest.fixture(scope="module")
def clips() -> list[StoredClip]:
    """Two clips of four canvases of 4 x 4 patches, whose patches are of frames in any order."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for rate, first, groups in zip(RATES, FIRST, GROUPS, strict=True):
        frame = torch.randint(first, first + 50, (64,), generator=draw)
        place = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(4, 1)
        positions = torch.cat([frame[:, None], place], dim=1).int()
        patches = torch.randint(0, 256, (64, 3 * PATCH**2), generator=draw, dtype=torch.uint8)
        found.append(StoredClip(patches, positions, (frame - first) / rate, groups, (1.0,), 2.0))
    return found


def model(positions: str = "exact", **options) -> JumpModel:
    torch.manual_seed(0)
    return JumpModel(readout="positions", positions=positions, **options).eval()


def otherwise(batch: ClipBatch) -> ClipBatch:
    """The batch with every time and place but the encoder's positions changed."""
    order = torch.randperm(len(batch.token_frame), generator=torch.Generator().manual_seed(1))
    return replace(
        batch,
        token_frame=batch.token_frame[order],
        canvas_frame=batch.canvas_frame.flip(0),
        place=batch.place[order],
        frame_seconds=batch.frame_seconds.flip(1) + 3.0,
    )


def test_times_given_beside_the_positions_change_nothing(clips):
    batch = pack(clips, "group")
    probing, timed = model(), JumpModel(positions="exact").eval()
    assert torch.equal(probing(otherwise(batch), QUERIES), probing(batch, QUERIES))
    assert (timed(otherwise(batch), QUERIES) - timed(batch, QUERIES)).abs().max() > 1e-3  # which they do elsewhere


def test_other_positions_change_the_answer_of_their_clip(clips):
    batch = pack(clips, "full")
    moved = batch.positions.clone()
    moved[:64, 0] = moved[:64, 0].flip(0)
    before, after = (model()(each, QUERIES) for each in (batch, replace(batch, positions=moved)))
    assert (after[0] - before[0]).abs().max() > 1e-3
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("positions", "tells"), [("release", True), ("exact", True), ("2d", False), ("none", False)])
def test_without_time_in_the_positions_all_moments_are_the_same(positions, tells, clips):
    probing, read = model(positions), []
    probing.readout.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    probing(pack(clips, "full"), QUERIES)
    apart = (read[0] - read[0][:, :1]).abs().max()
    assert apart > 1e-2 if tells else apart < 1e-5


def test_probes_stand_at_the_frames_of_the_times_asked_about(clips):
    batch = pack(clips, "group")
    pixels, positions, segments = model().readout.beside(torch.zeros(128, 3 * PATCH**2), batch, QUERIES)
    assert len(pixels) == len(positions) == segments.num_tokens == 128 + 2 * 20
    for own, rate, first in zip(positions[128:].view(2, 20, 3), RATES, FIRST, strict=True):
        torch.testing.assert_close(own[:, 0], first + rate * QUERIES, rtol=0, atol=1e-3)
        assert (own[:, 1:] == 1.5).all()  # the middle of four rows and columns


def test_a_clip_of_one_frame_has_that_frame_at_all_times(clips):
    one = replace(clips[0], positions=clips[0].positions * 0 + 3, seconds=clips[0].seconds * 0 + 0.5)
    rate, first = pack([one], "full").frame_rates[0].tolist()
    assert (rate, first) == (0.0, 3.0)


@pytest.mark.parametrize("visibility", ["group", "full", "canvas", "window", "causal"])
def test_probes_see_their_clip_and_are_seen_by_none(visibility, clips):
    batch = pack(clips, visibility)
    probing = model(visibility=visibility)
    everything = probing.readout.beside(torch.rand(128, 3 * PATCH**2), batch, QUERIES)
    seen = everything[2].dense()
    assert not seen[:, 128:].any()
    assert torch.equal(
        seen[128:].int(), torch.block_diag(torch.ones(20, 64), torch.ones(20, 64), torch.ones(0, 40)).int()
    )
    assert torch.equal(seen[:128, :128], batch.segments.dense())
    plain = probing.encoder(everything[0][:128], batch.positions, batch.segments)
    torch.testing.assert_close(probing.encoder(*everything)[:128], plain, rtol=0, atol=1e-5)


def test_causal_groups_see_those_before_them_in_their_clip(clips):
    """By hand: groups of 2 + 2 and of 1 + 3 canvases of 16 patches."""
    segments = pack(clips, "causal").segments
    assert segments.lengths == (32, 32, 16, 48)
    assert segments.keys == ((0, 32), (0, 64), (64, 80), (64, 128))


def test_every_weight_learns(clips):
    probing = model().train()
    probing(pack(clips, "group"), QUERIES).square().sum().backward()
    assert [name for name, p in probing.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    "given",
    [
        {"connector": "pool"},
        {"visibility": "spatial"},
        {"source": "frames", "pruning": "evs", "encoded": 16},
    ],
    ids=["connector", "spatial", "pruning"],
)
def test_what_probes_cannot_read_is_refused(given):
    with pytest.raises(SweepError, match=r"readout .positions. reads probes one by one.*expected pruning none"):
        Variant(readout="positions", **given)


def test_runs_from_before_this_readout_are_found_again():
    assert Variant().run_key(0) == "e0cf00b1bd0c"
    assert Variant(source="frames").run_key(3) == "3f6fde0aaef1"
    assert Variant(readout="positions").run_key(0) != Variant().run_key(0)
    assert Variant(readout="positions").canvas_key() == Variant().canvas_key()
