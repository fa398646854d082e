"""No record ends a run: each is trained on with as many image pads as its pictures give tokens, or counted as bad."""

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ov2kit.canvases import IMAGE_PAD, Canvases
from ov2kit.cli import run
from ov2kit.errors import DataError
from ov2kit.recipes import Batch, ConversationData
from ov2kit.recipes.data.faults import Fault, FaultLog
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.prompt.turns import prompts
from tests.conversation_data import conversation_data
from tests.recordings import make_media, talk, write_jsonl

SMALL: dict[str, Any] = {"budget_canvases": 2, "max_pixels": 56 * 84}
GOOD = talk(0, "text", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd")
    make_media(place, 1, 2)
    for name in ("broken.mp4", "broken.png", "empty.png"):
        (place / name).write_bytes(b"no picture at all" if name.startswith("broken") else b"")
    (place / "folder").mkdir()
    (place / "lines.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nWords.\n", encoding="utf-8")
    return place


def turn(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def check(batch: Batch, data: ConversationData) -> None:
    """As many pads as pictures give tokens, in what is trained on and in what is asked."""
    tokenizer = data.processor.tokenizer
    pad = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    tokens = int((batch.positions[:, 0] >= 0).sum()) // 4
    assert int((batch.input_ids == pad).sum()) == tokens
    assert bool((batch.labels >= 0).any(1).all())
    assert not bool((batch.labels == pad).any())
    if batch.position_ids is None:
        assert int((prompts(batch, data.processor.pad_id).input_ids == pad).sum()) == tokens


def used(path: Path, records: int, **options: Any) -> tuple[set[int], set[str]]:
    """Places of the records that two epochs train on, and the lines of those that are bad; each is one of both."""
    data = conversation_data(str(path), **({"max_bad_share": 1.0} | SMALL | options))
    data.setup("fit")
    seen: set[int] = set()
    for _ in range(2):
        for batch in data.train_dataloader():
            check(batch, data)
            seen |= set(batch.records)
    assert data.train_faults is not None
    bad = {place for place, kind in data.train_faults.faults if kind == "bad"}
    lines = {int(place.rpartition(":")[2].partition("#")[0]) for place in bad}
    assert len(bad) == data.train_faults.bad
    assert not {line - 1 for line in lines} & seen
    assert {line - 1 for line in lines} | seen == set(range(records))
    return seen, bad


TRAILING = {
    "picture": [turn("user", "What?"), turn("assistant", "A."), turn("user", "<image>\nAnd this?")],
    "two pictures": [
        turn("user", "<image>What?"), turn("assistant", "A."), turn("user", "<image>And?"), turn("tool", "x")
    ],
    "picture, then system": [turn("user", "What?"), turn("assistant", "A."), turn("system", "<image>")],
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAILING)
def test_what_follows_the_last_answer_is_left_out(kind: str, folder: Path) -> None:
    """Nothing is learned from it; its pictures would be shown without a place in what validation asks."""
    turns = TRAILING[kind]
    pictures = ["picture_0.png", "picture_1.png"][: sum("<image>" in t["content"] for t in turns)]
    path = write_jsonl(folder / "trailing.jsonl", [{"id": "x", "messages": turns, "images": pictures}, GOOD])
    assert used(path, 2) == ({0, 1}, set())
    found = ConversationIndex(path).read(0)
    assert found.messages[-1]["role"] == "assistant"
    assert found.images == len(pictures) - 1
    asked = ConversationIndex(path, needs_answer=False).read(0)
    assert asked.images == len(pictures)  # in prediction that turn is the question


def test_a_run_survives_such_a_record(folder: Path, tmp_path: Path) -> None:
    """The whole way, validation and its answers included."""
    path = write_jsonl(
        folder / "run.jsonl", [{"id": "x", "messages": TRAILING["picture"], "images": ["picture_0.png"]}, GOOD]
    )
    data = ["--data.sources.path", str(path), "--data.sources.val_path", str(path)]
    arguments = ["fit", "--config", "debug.yaml", *data, "--out", str(tmp_path), "--trainer.val_check_interval", "1"]
    assert run(arguments) == 0
    answers = [json.loads(line) for line in (tmp_path / "version_0" / "answers.jsonl").read_text().split("\n") if line]
    assert {answer["name"] for answer in answers} == {"x", "text-0"}


def test_pictures_whose_answer_is_cut_off_are_skipped(folder: Path) -> None:
    turns = [turn("user", "What?"), turn("assistant", "A."), turn("user", "<image>And?"), turn("assistant", "B " * 40)]
    path = write_jsonl(folder / "cut.jsonl", [{"id": "x", "messages": turns, "images": ["picture_0.png"]}, GOOD])
    lengths = {}
    for most in range(20, 140, 3):  # cut before, in and behind the picture
        data = conversation_data(str(path), max_length=most, oversize="truncate", max_bad_share=1.0, **SMALL)
        data.setup("fit")
        with contextlib.suppress(DataError):  # nothing is left for a batch
            for batch in data.train_dataloader():
                check(batch, data)
                lengths[most] = max(lengths.get(most, 0), batch.input_ids.shape[1])
    assert len(lengths) > 20
    assert len(set(lengths.values())) > 5


def test_records_that_are_bad_as_text_say_nothing_of_the_others(folder: Path) -> None:
    """Twenty of them, well within the share, before a single one was read."""
    records = [*({"id": i} for i in range(20)), *(talk(i, "text", None) for i in range(30))]
    assert len(used(write_jsonl(folder / "twenty.jsonl", records), 50, max_bad_share=0.5)[0]) == 30


def test_one_bad_record_does_not_end_a_small_run(folder: Path) -> None:
    """Of six, one is more than any sensible share."""
    records = [talk(i, "text", None) for i in range(5)] + [talk(5, "image", "broken.png")]
    path = write_jsonl(folder / "one_bad.jsonl", records)
    assert used(path, 6, max_bad_share=0.01)[0] == set(range(5))
    with pytest.raises(DataError, match="1 of 6 records cannot be used, more than max_bad_share=0"):
        used(path, 6, max_bad_share=0.0)
    log = FaultLog(6, 0.01)
    log.good()
    log.add([Fault("a:1", "", "bad")])
    with pytest.raises(DataError, match="2 of 6"):
        log.add([Fault("a:2", "", "bad")])


TEXTS = (
    "What?", "", " ", "<image>", "<video>", "<image><image>", "<image>\nand <video>", "<|image_pad|>", "<|im_end|>",
    "\u2028\u0085\x0b", "\ud800", "\0", "x" * 300, "<|vision_start|><image><|vision_end|>",
)  # fmt: skip
GOOD_PATHS = {"image": ("picture_0.png", "picture_1.png"), "video": ("clip_0.mp4",)}
PATHS = (
    *GOOD_PATHS["image"], "clip_0.mp4", "broken.mp4", "broken.png", "empty.png", "folder", "nowhere.png", "", "\0",
    "\ud800", ".", "/", "x" * 5000,
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 1e300, float("nan"), float("inf"), "", [], ["x"], {}, {"a": {"b": []}}, [[[]]], 10**400
)  # fmt: skip


class Maker:
    """Records of which about half are right; the others have something wrong anywhere.

    Args:
        seed: of all choices.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.wrong = 0.0

    def maybe(self, right: Any, *odd: Any) -> Any:
        """What is right, or something else."""
        return self.rng.choice(odd or ODD) if self.rng.random() < self.wrong else right

    def part(self) -> Any:
        kind = self.rng.choice(["text", "image", "video"])
        value = self.rng.choice(TEXTS) if kind == "text" else self.path(kind)
        part = {"type": self.maybe(kind, "audio", None, 3, []), kind: self.maybe(value)}
        return self.maybe({**part, "resized_height": 3} if self.rng.random() < 0.1 else part)

    def path(self, kind: str) -> Any:
        return self.maybe(self.rng.choice(GOOD_PATHS[kind]), *PATHS)

    def content(self) -> Any:
        several = self.rng.random() < 0.3
        return self.maybe([self.part() for _ in range(self.rng.randrange(3))] if several else self.rng.choice(TEXTS))

    def record(self) -> Any:
        """One of either dialect."""
        self.wrong = self.rng.choice([0.0, 0.0, 0.1, 0.3])
        older = self.rng.random() < 0.3
        names = ["human", "gpt"] if older else ["user", "assistant"]
        role, content = ("from", "value") if older else ("role", "content")
        roles = [self.rng.choice([*names, *names, "system"]) for _ in range(self.rng.randrange(4))]
        roles = [*(names if self.rng.random() < 0.8 else []), *roles] or ["system"]
        turns = [
            self.maybe({role: self.maybe(r, "bird", "", "tool", None, 3, []), content: self.content()}) for r in roles
        ]
        texts = [t[content] for t in turns if isinstance(t, dict) and isinstance(t.get(content), str)]
        record = {"id": self.maybe("same"), ("conversations" if older else "messages"): self.maybe(turns)}
        for kind in GOOD_PATHS:
            count = self.maybe(sum(text.count(f"<{kind}>") for text in texts), 0, 1, 2)
            entries: Any = [self.path(kind) for _ in range(count)]
            if kind == "video" and self.rng.random() < 0.3:
                entries = [
                    {"path": path, "subtitles": self.maybe("lines.srt", *ODD, "nowhere.srt")} for path in entries
                ]
            if entries or self.rng.random() < 0.5:
                record[f"{kind}s"] = self.maybe(entries)
        return self.maybe({**record, "extra": self.rng.choice(ODD)})


@pytest.mark.parametrize("seed", [0])
def test_any_record_is_used_or_counted(seed: int, folder: Path) -> None:
    make = Maker(seed)
    records = [GOOD, *(make.record() for _ in range(300))]
    path, faults = folder / f"any{seed}.jsonl", folder / f"any{seed}-faults.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    cache = str(folder / "cache")
    seen, bad = used(path, len(records), cache=cache, faults=str(faults), batch_size=3)
    assert len(seen) > 60
    assert len(bad) > 100
    written = [json.loads(line) for line in faults.read_text(encoding="utf-8").split("\n")[:-1]]
    assert {fault["place"] for fault in written} == bad
    assert all(fault["reason"] for fault in written)
    assert used(path, len(records), pack="stream", pack_length=1200, cache=cache) == (seen, bad)


def test_records_of_a_list_on_one_line_are_told_apart(folder: Path) -> None:
    """Faults and lengths go by place; a list that `json.dump` wrote has one line."""
    records = [talk(0, "image", "broken.png"), talk(1, "text", None, words=2), talk(2, "image", "broken.png"),
               talk(3, "text", None, words=30)]  # fmt: skip
    path = folder / "list.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    index = ConversationIndex(path)
    assert [index.place(i) for i in range(4)] == [f"{path}:1#{i}" for i in range(1, 5)]
    assert [index.position(i) for i in range(4)] == [0, 1, 2, 3]
    cache = folder / "list-cache"
    data = conversation_data(str(path), pack="offline", pack_length=120, cache=str(cache), max_bad_share=1.0, **SMALL)
    data.prepare_data()
    data.setup("fit")
    names = [name for batch in data.train_dataloader() for name in batch.names]
    assert sorted(names) == ["text-1", "text-3"]
    assert data.train_faults is not None
    counts = [line.rpartition(":")[2] for line in next(cache.glob("lengths-*.txt")).read_text().split("\n")[:4]]
    assert counts[0] == counts[2] == "0"
    assert 0 < int(counts[1]) < int(counts[3])


# -- what is kept on disk


def damage(path: Path, at: float) -> None:
    """Eight other bytes somewhere inside."""
    content = bytearray(path.read_bytes())
    place = int(at * (len(content) - 8))
    content[place : place + 8] = bytes(byte ^ 0x5A for byte in content[place : place + 8])
    path.write_bytes(content)


@pytest.mark.parametrize(("at", "num_workers"), [(0.0, 0), (0.02, 0), (0.5, 0), (1.0, 0), (0.5, 1)])
def test_damaged_canvases_are_made_again_and_counted(at: float, num_workers: int, folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(folder / "cached.jsonl", [talk(0, "image", "picture_0.png"), talk(1, "video", "clip_0.mp4")])
    plain = conversation_data(str(path), shuffle=False, **SMALL)
    wanted = [batch.pixel_values for batch in plain.train_dataloader()]
    cache = tmp_path / "cache"

    def epoch() -> tuple[list[torch.Tensor], FaultLog]:
        data = conversation_data(
            str(path), shuffle=False, cache=str(cache), num_workers=num_workers, max_bad_share=0.0, **SMALL
        )
        data.setup("fit")
        pixels = [batch.pixel_values for batch in data.train_dataloader()]
        data.teardown("fit")
        assert data.train_faults is not None
        return pixels, data.train_faults

    epoch()
    kept = sorted(cache.rglob("canvases.safetensors"))
    assert len(kept) == 2
    damage(kept[0], at)
    pixels, faults = epoch()
    assert all(torch.equal(a, b) for a, b in zip(pixels, wanted, strict=True))
    Canvases.load(kept[0].parent)  # whole again
    assert [fault.action for fault in faults.faults.values()] == ["rebuilt"]
    assert faults.summary() == "0 of 2 records not used, 0 truncated, 1 with damaged files in the cache"
    again = epoch()[1]
    assert not again.faults


def test_damaged_lengths_are_measured_again(folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(folder / "measured.jsonl", [talk(i, "text", None, words=3 + i) for i in range(4)])
    options: dict[str, Any] = {"pack": "offline", "pack_length": 200, "cache": str(tmp_path), **SMALL}
    conversation_data(str(path), **options).prepare_data()
    kept = next(tmp_path.glob("lengths-*.txt"))
    whole = kept.read_bytes()
    data = conversation_data(str(path), **options)
    for change in (lambda text: text.replace(b":", b":9", 1), lambda text: text[: len(text) // 2], lambda text: b""):
        kept.write_bytes(change(whole))
        data.prepare_data()
        assert kept.read_bytes() == whole
    given = tmp_path / "given.txt"
    given.write_bytes(whole.replace(b":", b":9", 1))
    with pytest.raises(DataError, match=r"given\.txt: is damaged"):
        conversation_data(str(path), **(options | {"lengths": str(given)})).train_dataloader()
    shutil.copyfile(kept, given)
    rows = list(conversation_data(str(path), **(options | {"lengths": str(given)})).train_dataloader())
    assert np.sum([len(row) for row in rows]) == 4
