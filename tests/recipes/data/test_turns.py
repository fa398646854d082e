"""Shares of an epoch by file: exact, in turns, and the same for ranks, workers and resumed runs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov2kit.errors import DataError, OptionError
from ov2kit.recipes.data.mixing import epoch_order
from ov2kit.recipes.data.options import Sources
from ov2kit.recipes.data.turns import counts_of, records_in_shares
from ov2kit.recipes.prompt.sample import SAMPLE_KINDS
from tests.conversation_data import conversation_data
from tests.recipes.data.test_resume import Notes, keep_all, trainer
from tests.recordings import make_media, mixed_records, write_jsonl

NAMES = ["captions.jsonl", "tracks.jsonl", "points.jsonl"]
SIZES = {"captions.jsonl": 4, "tracks.jsonl": 12, "points.jsonl": 2}


def files_of(*sizes: int) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def taken(files: np.ndarray, shares: list[float], epoch: int, seed: int = 0) -> list[int]:
    return records_in_shares(np.arange(len(files)), files, NAMES, shares, seed=seed, epoch=epoch).tolist()


def test_shares_by_hand() -> None:
    """Of 80 records half are of the first file, each 4 times; the second shows its other half in the next epoch."""
    files = files_of(10, 40, 30)
    first, second = (taken(files, [0.5, 0.25, 0.25], epoch) for epoch in (0, 1))
    assert Counter(files[first].tolist()) == Counter(files[second].tolist()) == {0: 40, 1: 20, 2: 20}
    assert set(Counter(r for r in first if r < 10).values()) == {4}
    assert {r for r in first + second if 10 <= r < 50} == set(range(10, 50))
    assert taken(files, [2, 1, 1], 0) == first  # in any unit
    assert taken(files, [2, 1, 1], 0, seed=1) != first


@given(
    sizes=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    shares=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    epochs=st.integers(1, 6),
)
def test_every_record_comes_as_often_as_the_others_of_its_file(
    sizes: list[int], shares: list[int], epochs: int
) -> None:
    files = files_of(*sizes)
    counts = counts_of(len(files), shares)
    assert sum(counts) == len(files)
    assert all(abs(c - len(files) * s / sum(shares)) < 1 for c, s in zip(counts, shares, strict=True))
    if 0 in counts:
        with pytest.raises(DataError, match=f"of {len(files)} records that is none"):
            taken(files, list(shares), 0)
        return
    seen: Counter[int] = Counter()
    for epoch in range(epochs):
        records = taken(files, list(shares), epoch)
        assert Counter(files[records].tolist()) == dict(enumerate(counts))
        seen.update(records)
    for file in range(3):
        times = [seen[r] for r in np.flatnonzero(files == file).tolist()]
        assert max(times) - min(times) <= 1


def test_every_beginning_of_an_epoch_holds_the_shares_of_files_and_kinds() -> None:
    files = files_of(60, 60, 60)
    kinds = np.zeros(180, dtype=np.uint8)
    kinds[120:] = 2  # the last file has pictures
    records = records_in_shares(np.arange(180), files, NAMES, [3, 2, 1], seed=5, epoch=0)
    order = epoch_order(records, kinds, {"codec": 0.5, "frames": 0.5}, seed=5, epoch=0, files=files)
    assert Counter(SAMPLE_KINDS[c] for c in order.choices) == {"codec": 75, "frames": 75, "image": 30}
    for file, count in enumerate((90, 60, 30)):
        so_far = np.cumsum(files[order.records] == file)
        assert np.abs(so_far - np.arange(1, 181) * count / 180).max() <= 2


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ([1, 0, 1], None),
        ([1, 1, 1e-9], r"points\.jsonl has a share of 1e-09, but of 9 records that is none"),
        ([0, 0, 0], "no file would be trained on"),
        ([1, 1], "shares must"),
        ([1, -1, 1], "shares"),
        ("captions", "shares must"),
    ],
)
def test_shares_that_cannot_be_given_are_refused(shares: Any, problem: str | None) -> None:
    if problem is None:
        assert set(files_of(3, 3, 3)[taken(files_of(3, 3, 3), shares, 0)]) == {0, 2}
        return
    with pytest.raises((DataError, OptionError), match=problem):
        taken(files_of(3, 3, 3), Sources(NAMES, shares=shares).shares or [], 0)


def test_a_file_without_a_record_to_train_on_is_named() -> None:
    with pytest.raises(DataError, match=r"tracks\.jsonl has a share of 1, but it has no record to train on"):
        records_in_shares(np.array([0, 1, 8]), files_of(3, 3, 3), NAMES, [1, 1, 1], seed=0, epoch=0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Videos, texts and pictures, each kind in a file of its own."""
    folder = tmp_path_factory.mktemp("shares")
    make_media(folder, 4, 3)
    kinds = {"captions.jsonl": (4, 0, 0), "tracks.jsonl": (0, 0, 12), "points.jsonl": (0, 2, 0)}
    for name, counts in kinds.items():
        records: list[Any] = mixed_records(*counts)
        write_jsonl(folder / name, [record | {"id": f"{name}-{record['id']}"} for record in records])
    return [str(folder / name) for name in kinds]


def data(paths: list[str], **options: Any) -> Any:
    small: dict[str, Any] = {"budget_canvases": 2, "max_pixels": 56 * 84, "seed": 3, "shares": [0.5, 0.25, 0.25]}
    small |= {"source": "mix", "batch_size": 2, "cache": str(Path(paths[0]).parent / "cache")}
    return conversation_data(paths, **(small | options))


def names_of(loader: Any) -> list[tuple[str, ...]]:
    return [batch.names for batch in loader]


def test_an_epoch_has_the_shares_and_a_resumed_one_the_same_batches(paths: list[str], tmp_path: Path) -> None:
    whole = Notes()
    trainer(tmp_path, keep_all(tmp_path), max_epochs=2).fit(whole, data(paths))
    names = [name for row, _ in whole.seen for name in row]
    assert len(names) == 36
    for epoch in (names[:18], names[18:]):
        assert Counter(name.split("-")[0] for name in epoch) == {
            "captions.jsonl": 9, "tracks.jsonl": 5, "points.jsonl": 4,
        }  # fmt: skip
    rest = Notes()
    trainer(tmp_path, max_epochs=2).fit(rest, data(paths, num_workers=2), ckpt_path=tmp_path / "step=5.ckpt")
    assert rest.seen == whole.seen[5:]
    with pytest.raises(DataError, match=r"shares was \[0\.5, 0\.25, 0\.25\] and is \[1, 1, 1\]"):
        trainer(tmp_path).fit(Notes(), data(paths, shares=[1, 1, 1]), ckpt_path=tmp_path / "step=5.ckpt")


def test_ranks_share_one_epoch(paths: list[str]) -> None:
    alone = names_of(data(paths, shuffle=False).train_dataloader())
    assert alone == sorted(alone, key=lambda row: NAMES.index(row[0].split("-")[0]))
    records = []
    for rank in range(2):
        part = data(paths)
        part._ranks = lambda rank=rank: (rank, 2)
        records.append([name for row in names_of(part.train_dataloader()) for name in row])
    assert len(records[0]) == len(records[1])
    together = Counter(name for part in records for name in part)
    one = Counter(name for row in names_of(data(paths).train_dataloader()) for name in row)
    assert sum((one - together).values()) <= 2  # of 18 samples, ranks of two take 16


def test_validation_holds_every_record_once(paths: list[str]) -> None:
    names = [n for row in names_of(data(paths, val_path=paths).val_dataloader()) for n in row]
    assert len(names) == len(set(names)) == sum(SIZES.values())


def test_a_mix_with_pictures_contradicts_shares(paths: list[str]) -> None:
    with pytest.raises(OptionError, match="leave image out of mix"):
        data(paths, mix={"codec": 1, "image": 1})
    plain = [json.dumps(row) for row in names_of(data(paths, mix={"codec": 4, "frames": 3}).train_dataloader())]
    assert len(plain) == 9
