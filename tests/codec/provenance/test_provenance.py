"""Provenance reads what was written, believes nothing of another form, and loses nothing of it."""

import ast
import json
import math
from dataclasses import replace
from fractions import Fraction

import av
import pytest

from ov2kit.codec import CodecTokenizer, FrameTokenizer, Provenance, load_assets, save_assets
from ov2kit.codec.provenance.provenance import BitCostRecord
from ov2kit.errors import AssetError, CanvasError
from tests.paths import ROOT, SAMPLE


@pytest.fixture(scope="module")
def canvases():
    return CodecTokenizer(8, max_pixels=20_000)(SAMPLE)


def test_it_says_of_the_source_what_a_demuxer_says(canvases):
    with av.open(str(SAMPLE)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        first = min(packet.pts for packet in packets)
        seconds = max(Fraction(p.pts + p.duration - first) * stream.time_base for p in packets)
        expected = (len(packets), (stream.height, stream.width), stream.pix_fmt, container.format.name)
        codec = stream.codec.name
    made = Provenance.of(canvases)
    source = made.source
    assert (source.frames, source.coded_size, source.pix_fmt, source.container) == expected
    assert made.codec == codec
    assert source.seconds == pytest.approx(float(seconds), abs=1e-6)
    assert source.name == str(SAMPLE)


def test_groups_are_those_of_the_canvases(canvases):
    made = Provenance.of(canvases)
    assert [group.canvases for group in made.groups] == canvases.groups.bincount().tolist()
    firsts = canvases.positions[canvases.is_anchor][:, 0, 0, 0].tolist()
    assert [group.anchor for group in made.groups] == firsts
    for group in made.groups:
        assert group.frames[0] <= group.anchor < group.frames[1]
        assert group.seconds == pytest.approx(
            [frame / 25 for frame in (group.frames[0], group.frames[1] - 1)], abs=1e-3
        )
    assert len(made.groups) == 2
    assert made.bit_cost.energy
    assert (made.preset, made.cost, made.lost.cut) == ("paper", "bytes", False)


def test_nothing_is_lost_on_the_way_through_plain_data(canvases):
    plain = canvases.provenance
    assert plain == json.loads(json.dumps(plain))
    made = Provenance.from_dict(plain)
    assert Provenance.from_dict(made.to_dict()) == made
    assert made.to_dict() == plain
    assert plain["preset"] == "paper"  # the plain form stays what programs outside read
    assert plain["signal"]["used"] == made.signal.used == canvases.signal
    assert plain["bit_cost"]["cuts"] == list(made.bit_cost.cuts)


def test_without_bit_cost_grouping_it_is_said_to_be_none():
    made = CodecTokenizer(2, max_pixels=20_000, grouping="fixed")(SAMPLE).provenance
    assert made["bit_cost"] is None
    assert Provenance.from_dict(made).bit_cost is None
    frames = FrameTokenizer(2)(SAMPLE).provenance
    assert not {"bit_cost", "groups"} & set(frames)
    assert frames["frames"] == {"chosen": [0, 131]}


ODD = {
    "preset": 3,
    "codec": None,
    "source": {"seconds": "long", "frames": True, "fps": math.inf, "display_size": [1, 2, 3], "name": "a.mp4"},
    "groups": [{"seconds": [0, 1.5], "canvases": 1.0}, {"seconds": [1]}],
    "bit_cost": [1],
    "lost": {"packets": 1, "unknown": 2},
    "seconds": {"decode": 10**400},
    "options": "none",
    "format": "mp4",
    "title": "b",
}


def test_other_forms_are_kept_and_not_believed():
    made = Provenance.from_dict(ODD)
    assert made.to_dict() == {**ODD, "format": "mp4"}
    assert (made.preset, made.codec, made.bit_cost, made.lost, made.seconds, made.options) == (None,) * 6
    assert made.other["title"] == "b"
    source = made.source
    assert source.name == "a.mp4"
    assert (source.seconds, source.frames, source.fps, source.display_size) == (None,) * 4
    assert [group.seconds for group in made.groups] == [(0.0, 1.5), None]
    assert [dict(group.other) for group in made.groups] == [{"canvases": 1.0}, {"seconds": [1]}]
    assert made.cost == "bytes"
    for wrong in (None, "text", [1]):
        with pytest.raises(TypeError):
            Provenance.from_dict(wrong)


def test_a_newer_version_is_one_clear_error(canvases, tmp_path):
    newer = replace(canvases, provenance=canvases.provenance | {"format": "ov2kit.provenance.2"})
    words = "format 'ov2kit.provenance.2' is newer than 'ov2kit.provenance.1'.*update ov2kit"
    with pytest.raises(CanvasError, match=words):
        Provenance.of(newer)
    folder = save_assets(newer, tmp_path / "a", "jpg")
    with pytest.raises(AssetError, match=f"meta.json: provenance: {words}"):
        load_assets(folder)


def test_a_value_that_is_not_known_is_not_written():
    assert BitCostRecord(bin_seconds=0.5, energy=(1.0, 2.0)).to_dict() == {"bin_seconds": 0.5, "energy": [1.0, 2.0]}


def test_the_package_reads_provenance_by_its_names():
    for path in (ROOT / "ov2kit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            read = node.value if isinstance(node, ast.Subscript | ast.Attribute) else None
            is_keyed = isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get")
            if is_keyed and isinstance(read, ast.Attribute) and read.attr == "provenance":
                pytest.fail(f"{path.name}:{node.lineno} reads provenance by a key; use Provenance.of(canvases)")
