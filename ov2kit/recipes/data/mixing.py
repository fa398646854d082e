"""Which records an epoch shows, in what order, and each video as codec canvases or as frames.

Everything is a function of (seed, epoch) and the records, so that any process knows what comes
at any place without having read what comes before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from ov2kit.errors import DataError, OptionError, check_choice, check_keys, check_number
from ov2kit.recipes.data.conversations import KINDS
from ov2kit.recipes.data.turns import take_turns
from ov2kit.recipes.prompt.sample import SAMPLE_KINDS

SourceName = Literal["codec", "frames", "hybrid", "mix"]
_CODEC, _FRAMES, _IMAGE, _TEXT, _HYBRID = range(5)
#: of `SAMPLE_KINDS`, what a video can be shown as
VIDEO_KINDS = ("codec", "frames", "hybrid")
_VIDEO, _ASSETS, _PICTURE, _PLAIN = (KINDS.index(kind) for kind in ("video", "assets", "image", "text"))


@dataclass(frozen=True)
class EpochOrder:
    """What one epoch shows, in order.

    Args:
        records: (n,) int64 record numbers; a picture may occur more than once in a mix.
        choices: (n,) uint8 places in `SAMPLE_KINDS`.
        mirrored: (n,) bool, True where left and right are to be exchanged.
    """

    records: np.ndarray
    choices: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.records)


def check_mix(source: SourceName, mix: Mapping[str, float] | None) -> dict[str, float]:
    """The shares of a mix, adding up to 1; one kind of video alone for every other source.

    Raises:
        ValueError: unknown names, negative shares, no share for videos, or a mix without `source="mix"`.
    """
    if cast(str, source) == "route":
        raise OptionError(
            "source 'route' chooses by one question, and a conversation to learn from may have several; train with "
            "source 'mix' of codec, frames and hybrid, which is what it chooses from"
        )
    check_choice("source", source, get_args(SourceName))
    if mix is not None:
        check_keys("mix", mix, SAMPLE_KINDS)
        for name, share in mix.items():
            check_number(f"mix[{name!r}]", share, low=0)
    if source != "mix":
        return {source: 1.0}
    shares = dict(mix) if mix is not None else {"codec": 0.5, "frames": 0.375, "image": 0.125}
    if sum(shares.get(name, 0.0) for name in VIDEO_KINDS) <= 0:
        raise OptionError(f"mix: codec, frames and hybrid need a share between them, got {shares}")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def epoch_order(
    records: np.ndarray,
    kinds: np.ndarray,
    shares: Mapping[str, float],
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    mirror: float = 0.0,
    files: np.ndarray | None = None,
) -> EpochOrder:
    """Choose how each record of an epoch is read.

    Every video record comes once, as codec canvases, as frames or as a hybrid; of V videos, codec gets
    round(V * codec / (codec + frames + hybrid)), and frames and hybrid share the others likewise. With a
    share for images, pictures are V * image / (codec + frames + hybrid) of the epoch's samples, rounded:
    when there are more, epoch after epoch takes the next ones; when there are fewer, each comes as often
    as the others, give or take once. Without that share, and with `shares` of one kind, every picture
    comes once. Text comes once. Prepared directories are codec canvases already and come first.

    With `shuffle`, the kinds are spread evenly: each beginning of the epoch holds them in the
    epoch's shares, give or take one sample per kind.

    Args:
        records: (n,) record numbers to choose from; one that stands there twice counts as two.
        kinds: of all records, places in `KINDS`.
        shares: as `check_mix` gives them.
        seed: of the run.
        epoch: counts from 0.
        shuffle: records in a new order every epoch; else in their own.
        mirror: chance of each sample to be mirrored, drawn for every epoch.
        files: of all records, which file each stands in, to spread the kinds of each file evenly.

    Raises:
        DataError: the records cannot give the shares.
    """
    mine = kinds[records]
    videos, assets = records[mine == _VIDEO], records[mine == _ASSETS]
    pictures, plain = records[mine == _PICTURE], records[mine == _PLAIN]
    codec, frames, hybrid = (shares.get(name, 0.0) for name in VIDEO_KINDS)
    of_videos = codec + frames + hybrid
    count = len(videos) + len(assets)
    n_codec = round(count * codec / of_videos)
    if len(assets) > n_codec:
        raise DataError(
            f"{len(assets)} of {count} videos are prepared directories, which are codec canvases, but only {n_codec} "
            "may be: raise mix.codec, or give the videos themselves"
        )
    dealt = np.random.default_rng((seed, epoch, 1)).permutation(len(videos))
    chosen = np.full(len(videos), _FRAMES, dtype=np.uint8)
    chosen[dealt[: n_codec - len(assets)]] = _CODEC
    if hybrid:
        n_hybrid = round((count - n_codec) * hybrid / (frames + hybrid))
        chosen[dealt[n_codec - len(assets) :][:n_hybrid]] = _HYBRID
    if "image" in shares and len(shares) > 1:
        pictures = _sampled(pictures, round(count * shares["image"] / of_videos), count, seed, epoch)
    everything = np.concatenate([videos, assets, pictures, plain])
    sizes = (len(assets), len(pictures), len(plain))
    choices = np.concatenate([chosen, np.repeat(np.array([_CODEC, _IMAGE, _TEXT], dtype=np.uint8), sizes)])
    if shuffle:
        order = np.random.default_rng((seed, epoch, 2)).permutation(len(everything))
        kinds_of = choices.astype(np.int64)
        if files is not None:
            kinds_of += len(SAMPLE_KINDS) * files[everything]
        order = order[_spread(kinds_of[order])]
    else:
        order = np.argsort(everything, kind="stable")
    mirrored = np.random.default_rng((seed, epoch, 6)).random(len(order)) < mirror
    return EpochOrder(everything[order], choices[order], mirrored)


def _sampled(pictures: np.ndarray, wanted: int, videos: int, seed: int, epoch: int) -> np.ndarray:
    """`wanted` pictures, in turns."""
    if wanted and not len(pictures):
        raise DataError("mix: there is a share for images, but no record of pictures; set mix.image to 0")
    if not videos:
        raise DataError("mix: the shares of images follow the number of videos, and there is none; use source=codec")
    return take_turns(pictures, wanted, epoch, (seed, 3))


def _spread(kinds: np.ndarray) -> np.ndarray:
    """An order in which each kind comes at even distances; within a kind the order stays."""
    due = np.empty(len(kinds))
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        due[places] = (np.arange(len(places)) + 0.5) / len(places)
    return np.argsort(due, kind="stable")
