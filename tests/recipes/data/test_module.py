"""ConversationData on real clips: bad files, workers, caches, ranks, and a config's three lines."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser

from ov2kit.canvases import IMAGE_PAD, Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, save_assets
from ov2kit.errors import DataError
from ov2kit.recipes import ConversationData, Processor
from ov2kit.recipes.data import open_sources
from ov2kit.recipes.data.canvas_cache import CanvasCache
from ov2kit.recipes.data.dataset import BatchDataset, ConversationDataset, Wanted
from ov2kit.recipes.data.plans import Records
from ov2kit.recipes.data.visual_tokenizers import build_tokenizers
from tests.conversation_data import conversation_data
from tests.paths import ROOT
from tests.patience import PATIENCE
from tests.recordings import make_media, mixed_records, talk, write_jsonl

SMALL: dict[str, Any] = {"budget_canvases": 3, "max_pixels": 56 * 84}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    make_media(folder, 4, 3)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    (folder / "broken.png").write_bytes(b"no picture")
    write_jsonl(folder / "good.jsonl", mixed_records(6, 3, 2))
    return folder


def names(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch.names]


def test_three_lines_of_yaml_are_enough(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "three.yaml"
    config.write_text(f"data:\n  sources:\n    path: {folder / 'good.jsonl'}\n")
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(ConversationData, "data")
    data = parser.instantiate_classes(parser.parse_path(config)).data
    assert isinstance(data, ConversationData)
    data.setup("fit")
    assert sorted(names(data.train_dataloader())) == sorted(r["id"] for r in mixed_records(6, 3, 2))


def test_every_flag_of_the_tokenizers_arrives(folder: Path) -> None:
    data = conversation_data(
        str(folder / "good.jsonl"), grouping="fixed", saliency="luma", rank_damping=0.1, peak_weight=0.9, block=2,
        budget_tokens=60, min_pixels=3200, max_pixels=9000, preset="release", decimals=2,
    )  # fmt: skip
    options = data.codec.options()
    expected = {
        "grouping": "fixed", "motion": "none", "rank_damping": 0.1, "peak_weight": 0.9, "block": 2,
        "budget_tokens": 60, "budget_canvases": None, "min_pixels": 3200, "max_pixels": 9000, "selection": "topk",
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected
    assert data.frames.budget_tokens == 60
    data.setup("fit")
    assert data.processor is not None
    assert data.processor.decimals == 2  # type: ignore[attr-defined]


def test_saliency_flags_choose_other_blocks_of_the_same_frames(folder: Path) -> None:
    found: dict[str, Canvases] = {}
    for name in ("motion+residual", "motion", "residual", "luma", "event", "random"):
        codec = build_tokenizers(saliency=name, grouping="fixed", budget_canvases=6, max_pixels=84 * 84)[0]  # type: ignore[arg-type]
        found[name] = codec(folder / "clip_3.mp4")
    shapes = {tuple(canvases.positions.shape) for canvases in found.values()}
    assert len(shapes) == 1
    assert len({canvases.positions.numpy().tobytes() for canvases in found.values()}) == 6
    assert found["random"].signal == "random"
    assert found["random"].provenance["signal"]["used"] == "random"
    assert found["luma"].signal == "luma"
    assert found["event"].signal == "luma, events"
    again = build_tokenizers(saliency="random", grouping="fixed", budget_canvases=6, max_pixels=84 * 84)[0]
    other = build_tokenizers(saliency="random", grouping="fixed", budget_canvases=6, max_pixels=84 * 84, seed=1)[0]
    assert torch.equal(again(folder / "clip_3.mp4").positions, found["random"].positions)
    assert not torch.equal(other(folder / "clip_3.mp4").positions, found["random"].positions)
    with pytest.raises(ValueError, match="preset 'release' does not weigh motion and residual"):
        build_tokenizers(saliency="motion", preset="release")


def test_batches_hold_what_the_processor_makes(folder: Path) -> None:
    data = conversation_data(str(folder / "good.jsonl"), batch_size=3, source="frames", **SMALL)
    data.setup("fit")
    assert data.processor is not None
    pad = data.processor.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    for batch in data.train_dataloader():
        blocks = (batch.positions.view(-1, 4, 3)[:, 0, 0] >= 0).sum()
        assert int((batch.input_ids == pad).sum()) == int(blocks)
        assert bool((batch.labels[batch.attention_mask == 0] == -100).all())
        assert (batch.labels >= 0).any(1).all()
        for name, stats in zip(batch.names, batch.stats, strict=True):
            assert stats["frames"] == float(name.startswith("video"))


def test_hybrids_are_a_source_like_the_others(folder: Path) -> None:
    data = conversation_data(str(folder / "good.jsonl"), batch_size=3, source="hybrid", frame_share=0.5, **SMALL)
    data.setup("fit")
    assert isinstance(data.processor, Processor)
    assert data.processor.hybrid.frame_share == 0.5
    for batch in data.train_dataloader():
        for name, stats in zip(batch.names, batch.stats, strict=True):
            is_video = name.startswith("video")
            assert (stats["hybrid"], stats["codec"]) == (float(is_video), 0.0)
            if is_video:
                assert stats["p_canvases"] == stats["canvases"] - round(stats["canvases"] / 2)
    assert data.settings()["data.tokens.frame_share"] == 0.5
    plain = conversation_data(str(folder / "good.jsonl"), **SMALL)
    assert "data.tokens.frame_share" not in plain.settings()  # as before there were hybrids


@pytest.mark.parametrize(
    ("mix", "made_with", "differs"),
    [
        ({"codec": 1}, None, None),
        ({"hybrid": 1}, 0.5, None),
        ({"codec": 1}, 0.5, "tokens.frame_share is None, there 0.5"),
        ({"hybrid": 1}, None, "tokens.frame_share is 0.5, there None"),
        ({"codec": 1, "hybrid": 1}, 0.5, "tokens.frame_share is None, there 0.5"),
        ({"hybrid": 1}, 0.25, "tokens.frame_share is 0.5, there 0.25"),
    ],
)
def test_shards_are_of_the_share_that_stands_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mix: dict[str, float], made_with: float | None, differs: str | None
) -> None:
    options = CodecTokenizer(frame_share=made_with, **SMALL).options()
    monkeypatch.setattr(open_sources, "StoredVideos", lambda _: SimpleNamespace(options=options))
    data = conversation_data(str(folder / "good.jsonl"), source="mix", mix=mix, shards="there", **SMALL)
    with pytest.raises(DataError, match=differs) if differs else nullcontext():
        data._opened.stored()


def test_packed_rows_hold_every_sample_once(folder: Path, tmp_path: Path) -> None:
    for pack in ("stream", "offline"):
        data = conversation_data(
            str(folder / "good.jsonl"), pack=pack, pack_length=300, pack_samples=3, cache=str(tmp_path), **SMALL
        )  # type: ignore[arg-type]
        data.prepare_data()
        data.setup("fit")
        seen = []
        for batch in data.train_dataloader():
            assert batch.input_ids.shape == (1, 300)
            assert batch.position_ids is not None
            starts = int((batch.position_ids == 0).sum())
            used = len(batch.names)
            assert used <= 3
            assert starts in (used, used + 1)  # what fills the row is a run of its own
            seen += batch.names
        assert sorted(seen) == sorted(r["id"] for r in mixed_records(6, 3, 2))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_file_is_reported_and_skipped(folder: Path, tmp_path: Path, num_workers: int) -> None:
    records = [talk(0, "video", "clip_0.mp4"), talk(1, "video", "broken.mp4"), talk(2, "image", "broken.png")]
    records += [talk(i, "text", None) for i in range(3, 8)]
    path = write_jsonl(folder / f"bad{num_workers}.jsonl", [*records, "no json"])
    data = conversation_data(
        str(path), batch_size=2, num_workers=num_workers, max_bad_share=0.4, faults=str(tmp_path / "f.jsonl"), **SMALL
    )
    data.setup("fit")
    loader = data.train_dataloader()
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == 4
        assert {"video-0", *(f"text-{i}" for i in range(3, 8))} <= {name for b in batches for name in b.names}
    data.teardown("fit")
    written = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert sorted(fault["place"].rpartition(":")[2] for fault in written) == ["2", "3", "9"]
    told = {fault["name"]: fault["reason"] for fault in written}
    assert "broken.mp4: not a video" in told["video-1"]
    assert "broken.png: not a picture" in told["image-2"]
    assert data.train_faults is not None
    assert data.train_faults.bad == 3


def test_too_many_bad_files_stop_the_run(folder: Path) -> None:
    records = [talk(i, "video", "broken.mp4") for i in range(2)] + [talk(i, "text", None) for i in range(8)]
    data = conversation_data(str(write_jsonl(folder / "much.jsonl", records)), max_bad_share=0.1, **SMALL)
    data.setup("fit")
    with pytest.raises(DataError, match=r"2 of 10 records cannot be used, more than max_bad_share=0.1: .*much.jsonl:"):
        list(data.train_dataloader())


def test_a_batch_without_a_good_record_gets_another_one(folder: Path) -> None:
    records = [talk(0, "video", "broken.mp4"), talk(1, "video", "broken.mp4"), talk(2, "text", None)]
    path = write_jsonl(folder / "all_bad.jsonl", records)
    data = conversation_data(str(path), shuffle=False, max_bad_share=0.9, **SMALL)
    data.setup("fit")
    assert names(data.train_dataloader()) == ["text-2"] * 3
    assert data.train_faults is not None
    assert [f.action for f in data.train_faults.faults.values()] == ["replaced", "replaced"]


def test_long_samples_are_skipped_or_truncated_and_reported(folder: Path) -> None:
    records = [talk(0, "text", None, words=200), talk(1, "text", None), talk(2, "video", "clip_0.mp4", words=200)]
    path = write_jsonl(folder / "long.jsonl", records)
    kept = {}
    for oversize in ("skip", "truncate"):
        data = conversation_data(str(path), max_length=100, oversize=oversize, max_bad_share=0.9, **SMALL)  # type: ignore[arg-type]
        data.setup("fit")
        kept[oversize] = {batch.names[0]: batch for batch in data.train_dataloader()}
        assert data.train_faults is not None
        reported = {fault.name: (fault.action, fault.reason) for fault in data.train_faults.faults.values()}
        assert set(reported) == {"text-0", "video-2"}
        assert reported["video-2"][0] != "truncated"
    assert set(kept["skip"]) == {"text-1"}
    assert set(kept["truncate"]) == {"text-0", "text-1"}
    assert kept["truncate"]["text-0"].input_ids.shape == (1, 100)
    assert reported["text-0"][0] == "truncated"
    assert "visual tokens" in reported["video-2"][1]


def test_lengths_that_were_given_wrong_are_noticed(folder: Path, tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.txt"
    lengths.write_text("".join(f"{r['id']}:100\n" for r in mixed_records(6, 3, 2)))
    data = conversation_data(
        str(folder / "good.jsonl"), pack="offline", pack_length=300, lengths=str(lengths), max_bad_share=1.0, **SMALL
    )
    data.setup("fit")
    seen = names(data.train_dataloader())
    assert data.train_faults is not None
    assert {f.name for f in data.train_faults.faults.values()} == {r["id"] for r in mixed_records(6, 3, 2)} - set(seen)
    assert all("length was given wrong" in f.reason for f in data.train_faults.faults.values())
    lengths.write_text("video-0:100\n")
    with pytest.raises(DataError, match=r"no length of .*good\.jsonl:"):
        list(data.train_dataloader())


def test_prepared_directories_come_as_they_are(folder: Path, tmp_path: Path) -> None:
    canvases = CodecTokenizer(3, max_pixels=56 * 84)(folder / "clip_1.mp4")
    save_assets(canvases, folder / "prepared")
    path = write_jsonl(folder / "prepared.jsonl", [talk(0, "video", "prepared"), talk(1, "video", "clip_1.mp4")])
    data = conversation_data(str(path), shuffle=False, **SMALL)
    data.setup("fit")
    one, two = data.train_dataloader()
    assert torch.equal(one.pixel_values, two.pixel_values)
    assert torch.equal(one.positions, two.positions)


def test_prompts_are_padded_on_the_left_and_hold_no_answer(folder: Path) -> None:
    data = conversation_data(str(folder / "good.jsonl"), val_path=str(folder / "good.jsonl"), batch_size=4, **SMALL)
    batches = list(data.predict_dataloader())
    assert names(batches) == [r["id"] for r in mixed_records(6, 3, 2)]
    for batch in batches:
        assert bool(batch.attention_mask[:, -1].all())
        assert bool((batch.labels == -100).all())
        assert data.processor is not None
        texts = data.processor.tokenizer.batch_decode(batch.input_ids)
        assert all("answer" not in text and text.endswith("assistant\n") for text in texts)
    labeled = list(data.test_dataloader())  # a test compares answers with what was expected
    assert names(labeled) == names(batches)
    assert all(bool((batch.labels != -100).any(1).all()) for batch in labeled)
    assert names(data.val_dataloader()) == names(data.val_dataloader())


def test_cache_gives_the_same_canvases_and_knows_what_changes_them(folder: Path, tmp_path: Path) -> None:
    cache, clip = CanvasCache(tmp_path), folder / "clip_2.mp4"
    codec = CodecTokenizer(3, max_pixels=56 * 84)
    made, kept = cache(codec, clip), cache(codec, clip)
    assert torch.equal(made.images, kept.images)
    assert torch.equal(made.positions, kept.positions)
    places = {
        cache.place(tokenizer, clip)
        for tokenizer in (
            codec, CodecTokenizer(4, max_pixels=56 * 84), CodecTokenizer(3, max_pixels=56 * 84, motion="none"),
            FrameTokenizer(3, max_pixels=56 * 84), build_tokenizers(saliency="random", **SMALL)[0],
        )
    }  # fmt: skip
    assert len(places) == 5
    saved = cache.place(codec, clip) / "canvases.safetensors"
    saved.write_bytes(b"damaged")
    assert torch.equal(cache(codec, clip).images, made.images)
    assert saved.stat().st_size > 100
    os.utime(clip)
    assert cache.place(codec, clip) not in places


class Suicide:
    """A processor that kills its process at one record."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __getattr__(self, name: str) -> Any:
        if name == "processor":
            raise AttributeError(name)
        return getattr(self.processor, name)

    def __call__(self, messages: Any, **options: Any) -> Any:
        if options["name"] == "text-1":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.processor(messages, **options)


def test_a_dead_worker_is_one_clear_error(folder: Path) -> None:
    data = conversation_data(str(folder / "good.jsonl"), num_workers=1, **SMALL)
    data.setup("fit")
    data.processor = Suicide(data.processor)  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"a data worker died after \d+ deliveries .*num_workers=0"):
        list(data.train_dataloader())
    data.teardown("fit")


INTERRUPTED = """
import sys, time
from tests.conversation_data import conversation_data
data = conversation_data(sys.argv[1], num_workers=2, budget_canvases=3, max_pixels=56 * 84)
data.setup("fit")
try:
    while True:
        for batch in data.train_dataloader():
            print("batch", flush=True)
            time.sleep(0.05)
except KeyboardInterrupt:
    data.teardown("fit")
    print("stopped", flush=True)
"""


def test_interrupt_ends_workers_without_their_tracebacks(folder: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(folder / "good.jsonl")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "batch\n"
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: workers get it too
    out, err = run.communicate(timeout=PATIENCE)
    assert out.endswith("stopped\n")
    assert "Traceback" not in err
    assert gone(run.pid)


def gone(group: int) -> bool:
    """Whether no process of a group is left; the system may take a moment to forget the last of them."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ranks_share_an_epoch(folder: Path, tmp_path: Path) -> None:
    data = conversation_data(str(folder / "good.jsonl"), cache=str(tmp_path), pack="offline", pack_length=300, **SMALL)
    data.prepare_data()
    data.setup("fit")
    index = data._opened.index(data.sources.path)
    lengths = data._records(index, np.arange(11), True).lengths
    ranks = [Records(index, np.arange(11), {"codec": 1.0}, rank=r, world_size=2, lengths=lengths) for r in range(2)]
    for plans in (
        [rank.batches(1, 2, True) for rank in ranks],
        [rank.rows(1, 300, None, "skip") for rank in ranks],
    ):
        assert len(plans[0]) == len(plans[1]) > 1
        mine, other = ({r for wanted in plan for r in wanted.records} for plan in plans)
        assert mine.isdisjoint(other)
        assert len(mine | other) >= 10 if len(plans[0]) == 3 else len(mine | other) > 5
    mine, other = ({wanted.records[0] for wanted in rank.samples(1)} for rank in ranks)
    assert mine.isdisjoint(other)
    assert len(mine | other) == 11


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pack": "stream", "batch_size": 2}, "set batch_size to 1, got 2"),
        ({"pack": "offline"}, "needs lengths"),
        ({"pack": "offline", "lengths": "x", "mirror": 0.5}, "use pack 'stream'"),
        ({"mirror": 1.5}, "mirror must be from 0 to 1, got 1.5"),
        ({"val_path": "x", "val_share": 0.1}, "val_path or val_share"),
        ({"source": "sound"}, "unknown source 'sound'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        conversation_data("all.jsonl", **options)


def test_substitutes_come_from_the_same_set(folder: Path) -> None:
    """A validation record never stands in for a bad one of training."""
    records = [talk(0, "video", "broken.mp4"), talk(1, "text", None), talk(2, "text", None)]
    data = conversation_data(str(write_jsonl(folder / "set.jsonl", records)), **SMALL)
    data.setup("fit")
    assert data.processor is not None
    samples = ConversationDataset(data._opened.index(data.sources.path), data.processor)
    assert BatchDataset(samples, np.array([0, 2]))[Wanted((0,), (0,), (False,))].content.names == ("text-2",)
    assert BatchDataset(samples, np.array([0]))[Wanted((0,), (0,), (False,))].content is None
