"""Shares of an epoch, and batches of similar length that ranks share out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.errors import DataError
from ov2kit.recipes.data.conversations import KINDS
from ov2kit.recipes.data.length_groups import plan_batches
from ov2kit.recipes.data.mixing import check_mix, epoch_order
from ov2kit.recipes.prompt.sample import SAMPLE_KINDS


def kinds(videos: int, assets: int, images: int, texts: int) -> np.ndarray:
    counts = (videos, assets, images, texts)
    found = np.repeat(np.arange(len(KINDS), dtype=np.uint8), counts)
    return np.random.default_rng(0).permutation(found)


def dealt(
    of: np.ndarray, mix: dict[str, float] | None, epoch: int = 0, seed: int = 7, shuffle: bool = True
) -> tuple[list[int], list[str]]:
    order = epoch_order(np.arange(len(of)), of, check_mix("mix", mix), seed=seed, epoch=epoch, shuffle=shuffle)
    return order.records.tolist(), [SAMPLE_KINDS[c] for c in order.choices]


def test_published_mix_by_hand() -> None:
    """70 videos: 40 codec and 30 frames; pictures are an eighth of the 80 samples; text comes once."""
    records, choices = dealt(kinds(70, 0, 50, 5), None)
    assert Counter(choices) == {"codec": 40, "frames": 30, "image": 10, "text": 5}
    assert len(set(records)) == 85


@pytest.mark.parametrize(
    ("mix", "counts"),
    [
        ({"codec": 2, "frames": 1, "hybrid": 1}, {"codec": 35, "frames": 17, "hybrid": 18}),  # 17.5 rounds to even
        ({"codec": 1, "hybrid": 2}, {"codec": 23, "hybrid": 47}),
        ({"hybrid": 1}, {"hybrid": 70}),
        ({"hybrid": 6, "frames": 1, "image": 7}, {"hybrid": 60, "frames": 10, "image": 70}),
    ],
)
def test_hybrids_have_their_share(mix: dict[str, float], counts: dict[str, int]) -> None:
    _, choices = dealt(kinds(70, 0, 50 if "image" in mix else 0, 5), mix)
    assert Counter(choices) == {**counts, "text": 5}


@settings(max_examples=60)
@given(
    videos=st.integers(1, 90), images=st.integers(1, 40), texts=st.integers(0, 20),
    weights=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).filter(lambda w: w[0] + w[1] > 0),
    epoch=st.integers(0, 5),
)  # fmt: skip
def test_shares_are_exact_and_every_beginning_has_them(
    videos: int, images: int, texts: int, weights: tuple[int, int, int], epoch: int
) -> None:
    codec, frames, image = weights
    of = kinds(videos, 0, images, texts)
    records, choices = dealt(of, {"codec": codec, "frames": frames, "image": image}, epoch)
    counts = Counter(choices)
    assert abs(counts["codec"] - videos * codec / (codec + frames)) <= 0.5
    assert counts["codec"] + counts["frames"] == videos
    assert abs(counts["image"] - videos * image / (codec + frames)) <= 0.5
    seen = Counter(records)
    pictures = [seen[i] for i in np.flatnonzero(of == KINDS.index("image"))]
    assert max(pictures) - min(pictures) <= 1
    assert all(seen[i] == 1 for i in np.flatnonzero(of != KINDS.index("image")))
    for name, count in counts.items():
        so_far = np.cumsum([choice == name for choice in choices])
        even = np.arange(1, len(choices) + 1) * count / len(choices)
        assert np.abs(so_far - even).max() <= 1.5


def test_order_is_a_function_of_seed_and_epoch() -> None:
    of = kinds(40, 0, 40, 3)
    assert dealt(of, None) == dealt(of, None)
    assert dealt(of, None, epoch=1) != dealt(of, None)
    assert dealt(of, None, seed=8) != dealt(of, None)
    records, choices = dealt(of, None, shuffle=False)
    assert records == sorted(records)
    assert Counter(choices) == Counter(dealt(of, None)[1])


def test_pictures_take_turns_over_epochs() -> None:
    of = kinds(8, 0, 10, 0)
    seen: Counter[int] = Counter()
    for epoch in range(10):
        records, choices = dealt(of, {"codec": 1, "image": 0.5}, epoch)
        mine = [r for r, c in zip(records, choices, strict=True) if c == "image"]
        assert len(mine) == 4
        seen.update(mine)
    assert set(seen.values()) == {4}  # 40 of 10 pictures


def test_a_video_changes_sides_between_epochs() -> None:
    of = kinds(30, 0, 0, 0)
    sides = [dict(zip(*dealt(of, {"codec": 1, "frames": 1}, epoch), strict=True)) for epoch in range(6)]
    assert sum(len({side[i] for side in sides}) == 2 for i in range(30)) > 20


def test_prepared_directories_are_codec_canvases() -> None:
    of = kinds(6, 4, 0, 0)
    records, choices = dealt(of, {"codec": 1, "frames": 1})
    assert Counter(choices) == {"codec": 5, "frames": 5}
    assert all(c == "codec" for r, c in zip(records, choices, strict=True) if of[r] == KINDS.index("assets"))
    with pytest.raises(DataError, match=r"4 of 10 videos are prepared directories.* only 2"):
        dealt(of, {"codec": 1, "frames": 4})


def test_impossible_mixes_are_refused() -> None:
    with pytest.raises(DataError, match="no record of pictures"):
        dealt(kinds(8, 0, 0, 0), None)
    with pytest.raises(DataError, match="there is none"):
        dealt(kinds(0, 0, 3, 0), None)
    for mix, told in (
        ({"codec": 1, "sound": 1}, "unknown key 'sound' of mix; known: codec, frames, image"),
        ({"codec": -1}, r"mix\['codec'\] must be at least 0, got -1"),
        ({"image": 1}, "codec, frames and hybrid need a share"),
    ):
        with pytest.raises(ValueError, match=told):
            check_mix("mix", mix)


@settings(max_examples=80)
@given(
    n=st.integers(0, 300), batch_size=st.integers(1, 5), world_size=st.integers(1, 4),
    group=st.booleans(), keep_all=st.booleans(), epoch=st.integers(0, 3),
)  # fmt: skip
def test_ranks_have_as_many_batches_and_share_no_sample(
    n: int, batch_size: int, world_size: int, group: bool, keep_all: bool, epoch: int
) -> None:
    lengths = np.random.default_rng(n).integers(1, 1000, n)
    steps = plan_batches(lengths, batch_size, world_size, epoch=epoch, group_by_length=group, keep_all=keep_all)
    assert all(len(step) == world_size for step in steps)
    assert all(1 <= len(batch) <= batch_size for step in steps for batch in step)
    places = [int(place) for step in steps for batch in step for place in batch]
    lost, twice = n - len(set(places)), len(places) - len(set(places))
    assert 0 <= lost < world_size
    assert twice < world_size
    assert lost == 0 if keep_all else twice == 0
    assert world_size > 1 or (lost == 0 and twice == 0)


def test_grouping_saves_padding_and_stays_random() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 2000)

    def padding(group: bool, epoch: int = 0) -> float:
        steps = plan_batches(lengths, 8, 2, epoch=epoch, group_by_length=group)
        return sum(float((lengths[b].max() - lengths[b]).sum()) for step in steps for b in step) / lengths.sum()

    assert padding(True) < 0.05
    assert padding(False) > 0.5
    first, second = (plan_batches(lengths, 8, 2, epoch=e, group_by_length=True) for e in (0, 1))
    means = np.array([lengths[step[0]].mean() for step in first])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2  # not from long to short
    assert [b.tolist() for s in first for b in s] != [b.tolist() for s in second for b in s]
    ranks = np.array([[lengths[batch].mean() for batch in step] for step in first])
    assert np.abs(ranks[:, 0] - ranks[:, 1]).mean() < 30  # no rank waits
    assert 0.3 < (ranks[:, 0] > ranks[:, 1]).mean() < 0.7


def test_without_grouping_or_shuffling_the_order_stays() -> None:
    steps = plan_batches(np.ones(7, dtype=int), 2, group_by_length=False, shuffle=False)
    assert [batch.tolist() for step in steps for batch in step] == [[0, 1], [2, 3], [4, 5], [6]]
