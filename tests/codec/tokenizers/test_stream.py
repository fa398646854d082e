"""CodecTokenizer.stream: group by group the same as all at once, and early."""

import threading
from dataclasses import FrozenInstanceError

import pytest
import torch

from ov2kit.codec import CodecTokenizer, MotionResidualSaliency
from ov2kit.codec.tokenizers import codec
from ov2kit.errors import OptionError, VideoError
from tests.paths import SAMPLE
from tests.patience import PATIENCE

SMALL = {"budget_canvases": 8, "max_pixels": 20_000, "canvases_per_group": 2}
WAYS = {
    "paper": {},
    "release": {"preset": "release"},
    "one scale": {"saliency": MotionResidualSaliency(normalize="clip")},
    "block": {"block": 2, "anchor": "sharpest"},
}


@pytest.mark.parametrize("way", WAYS)
def test_joined_parts_are_what_forward_gives(way):
    whole = CodecTokenizer(**SMALL, **WAYS[way], threads=1)(SAMPLE)
    assert len(whole.provenance["groups"]) > 1
    for threads in (1, 3):
        parts = list(CodecTokenizer(**SMALL, **WAYS[way], threads=threads).stream(SAMPLE))
        for name in ("images", "positions", "groups", "is_anchor"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
        times = {frame: time for part in parts for frame, time in part.clip_times()[0].items()}
        assert times == dict(whole.clip_times()[0])
        assert [g for part in parts for g in part.provenance["groups"]] == whole.provenance["groups"]
        assert all(part.provenance["options"] == whole.provenance["options"] for part in parts)
        for part in parts:
            part.validate()
            assert len(part.provenance["groups"]) == 1
            shown = part.positions[..., 0].unique().tolist()
            assert {frame for frame in shown if frame >= 0} == set(part.clip_times()[0])
        assert sum(sum(part.provenance["signal"]["frames"].values()) for part in parts) == sum(
            whole.provenance["signal"]["frames"].values()
        )
        lost = [part.provenance.get("lost") for part in parts]
        assert lost[-1] == whole.provenance["lost"]
        assert lost[:-1] == [None if way in ("paper", "block") else lost[-1]] * (len(parts) - 1)
        once = [part.provenance["seconds"] for part in parts]
        assert ["packets" in seconds for seconds in once] == [True] + [False] * (len(parts) - 1)


@pytest.mark.parametrize(("way", "early"), [("paper", True), ("block", True), ("one scale", False), ("release", False)])
def test_a_group_comes_as_soon_as_its_frames_are_decoded(way, early):
    seen, came = [], []
    tokenizer = CodecTokenizer(**SMALL, **WAYS[way])
    for part in tokenizer.stream(SAMPLE, progress=lambda done, total: seen.append((done, total))):
        came.append((seen[-1][0], part.provenance["groups"][0]["candidates"]))
    total = seen[0][1]
    assert seen == [(done, total) for done in range(1, total + 1)]
    assert sum(candidates for _, candidates in came) == total
    through = [sum(candidates for _, candidates in came[: g + 1]) for g in range(len(came))]
    assert [done for done, _ in came] == (through if early else [total] * len(came))


def test_between_parts_torch_has_the_threads_of_the_caller():
    found = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen = [torch.get_num_threads() for _ in CodecTokenizer(**SMALL).stream(SAMPLE)]
    finally:
        torch.set_num_threads(found)
    assert set(seen) == {3}


def test_groups_are_joined_with_one_torch_thread(monkeypatch):
    """On a busy machine two wait for each other far longer than they save."""
    found, join, seen = torch.get_num_threads(), codec.join_groups, []

    def noted(*given, **options):
        seen.append(torch.get_num_threads())
        return join(*given, **options)

    monkeypatch.setattr(codec, "join_groups", noted)
    torch.set_num_threads(3)
    try:
        parts = list(CodecTokenizer(**SMALL).stream(SAMPLE))
        CodecTokenizer(**SMALL)(SAMPLE)
    finally:
        torch.set_num_threads(found)
    assert seen == [1] * (len(parts) + 1)


def test_leaving_early_ends_the_decoding():
    before = set(threading.enumerate())
    parts = CodecTokenizer(**SMALL, threads=2).stream(SAMPLE)
    next(parts)
    parts.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name


def test_errors_are_those_of_forward(tmp_path):
    tokenizer = CodecTokenizer(**SMALL)
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError):
        next(tokenizer.stream(tmp_path / "no.mp4"))
    with pytest.raises(OptionError, match="score_maps cover 1 of"):
        next(tokenizer.stream(SAMPLE, {0: torch.ones(2, 2)}))


def test_options_are_frozen():
    tokenizer = CodecTokenizer(budget_canvases=3)
    assert tokenizer.budget_canvases == tokenizer.settings.budget_canvases == 3
    with pytest.raises(AttributeError, match="block cannot change after a tokenizer is built"):
        tokenizer.block = 2
    with pytest.raises(FrozenInstanceError):
        tokenizer.settings.block = 2
