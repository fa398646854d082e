"""What goes into saliency: units, directions, distances, and where decoding may start."""

from types import SimpleNamespace

import numpy as np
import torch

from ov2kit.codec.signals.collect import collect_signals, motion_cell
from ov2kit.codec.signals.motion_search import estimate_motion
from ov2kit.codec.video.display_order import shown_pictures
from ov2kit.codec.video.entry_points import entry_points
from ov2kit.codec.video.frame import Frame
from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.references import References
from ov2kit.codec.video.vectors import VECTOR

CODED = (32, 64)


def frame(index, reference_index=-1, vector=None):
    vectors = None
    if vector is not None:
        vectors = np.zeros(1, dtype=VECTOR)
        for name, value in (("source", -1), ("w", 16), ("h", 16), ("dst_x", 8), ("dst_y", 8), ("motion_scale", 4)):
            vectors[name] = value
        vectors["motion_x"], vectors["motion_y"] = vector
    luma = torch.full((16, 16), index, dtype=torch.uint8)
    reference = torch.full((16, 16), reference_index, dtype=torch.uint8) if reference_index >= 0 else None
    return Frame(
        index, index / 25, "P", False, 100 + index, None, luma, reference, reference_index, vectors, CODED, False
    )


def test_vectors_come_in_scoring_pixels_and_distances_in_frames():
    """Quarter pixels (8, 16) are 2 and 4 coded pixels; 64 x 32 shrinks to 16 x 16: a quarter and a half of them."""
    signals = collect_signals([frame(5, 2, (8, 16)), frame(6, 5, (-4, 0))], Orientation())
    assert signals.distance.tolist() == [3, 1]
    assert signals.nbytes.tolist() == [105, 106]
    assert signals.motion[:, 0, 0].tolist() == [[0.5, 2.0], [-0.25, 0.0]]
    assert signals.motion[:, -1, -1].isnan().all()
    assert signals.reference[:, 0, 0].tolist() == [2, 5]


def test_a_frame_without_reference_is_compared_with_the_frame_before_it():
    first = collect_signals([frame(4), frame(9)], Orientation())
    assert first.valid.tolist() == [False, True]
    assert (first.reference[1] == 4).all()
    assert first.distance[1] == 5
    assert first.motion is None
    after = collect_signals([frame(9)], Orientation(), before=frame(7))
    assert after.valid.all()
    assert (after.reference == 7).all()


def test_vectors_of_a_frame_compared_with_another_are_not_used():
    signals = collect_signals([frame(3, vector=(8, 8)), frame(4, 3, (8, 8))], Orientation())
    assert signals.motion[0].isnan().all()
    assert not signals.motion[1].isnan().all()


def test_cells_are_no_finer_than_three_scoring_pixels():
    assert motion_cell(coded_height=240, scoring_height=100) == 8
    assert motion_cell(coded_height=720, scoring_height=100) == 16


def test_estimated_motion_points_to_where_a_block_was():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 1, 180, 292, generator=generator) * 255
    texture = torch.nn.functional.avg_pool2d(noise, 5, 1)[0, 0]
    texture = ((texture - texture.mean()) * 4 + 128).clamp(0, 255).to(torch.uint8)
    reference = texture[10:150, 10:262]
    moved = texture[13:153, 8:260]  # what is at (x, y) now was at (x - 2, y + 3)
    field = estimate_motion(torch.stack([moved, reference]), torch.stack([reference, reference]))
    assert field.shape == (2, 18, 32, 2)
    assert (field[0] == torch.tensor([-2.0, 3.0])).all(-1).float().mean() > 0.8
    assert not field[1].any()


def table(seconds, is_entry):
    n = len(seconds)
    seconds, flags = np.array(seconds, dtype=float), np.zeros(n, dtype=bool)
    order = np.argsort(seconds)
    return PacketTable(
        seconds, seconds, np.ones(n, dtype=np.int64), np.array(is_entry), np.array(is_entry), flags, flags, flags,
        np.ones(n, dtype=np.int64), order, True, "pts", seconds[order], 1.0,
    )  # fmt: skip


def test_decoding_starts_only_where_nothing_reaches_across():
    key = [True, False, False, True, False, False]
    assert entry_points(table([0, 2, 1, 3, 5, 4], key)).tolist() == [0, 3]
    assert entry_points(table([0, 1, 2, 4, 3, 5], key)).tolist() == [0]  # a picture shown before its key packet
    assert entry_points(table([0, 1, 4, 3, 5, 6], key)).tolist() == [0]  # one of before, shown after it


def test_frames_come_in_display_order_where_a_decoder_guesses_its_delay_too_short():
    """A decoder that gives pictures as they come: packets 0..5 are shown as 0, 2, 1, 4, 3, 5."""

    class Hasty:
        name = "hasty"

        def decode(self, packet):
            return [] if packet is None else [SimpleNamespace(pts=packet.pts, pict_type=2, is_corrupt=False)]

    rank = np.array([0, 2, 1, 4, 3, 5])
    packets = [(i, SimpleNamespace(size=1)) for i in range(6)]
    losses = DecodeLosses()
    references = References(np.ones(6, bool), losses)
    frames = [references.shown(i, p) for i, p in shown_pictures(Hasty(), packets, rank, losses)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [frame.reference_index for frame in frames] == [-1, 0, 1, 2, 3, 4]


def test_two_pictures_of_one_time_never_compare_frames():
    """A decoder that gives pictures without time stamps under one mark: the second is left out, not compared."""

    class Confused:
        name = "confused"

        def decode(self, packet):
            return [] if packet is None else [SimpleNamespace(pts=None, opaque=[1], pict_type=2, is_corrupt=False)]

    packets = [(i, SimpleNamespace(size=1)) for i in range(6)]
    frames = list(shown_pictures(Confused(), packets, np.arange(6), DecodeLosses()))
    assert [index for index, _ in frames] == [1]
