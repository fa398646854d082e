"""The options of `ConversationData` in four sections: which records, what becomes of them, in what order, read how."""

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ov2kit.codec.selection.whole_frames import FRAME_SHARE
from ov2kit.codec.tokenizers.presets import GroupingName, Preset
from ov2kit.errors import OptionError, check_choice, check_flag, check_number, check_numbers, check_type
from ov2kit.recipes.data.dataset import Oversize
from ov2kit.recipes.data.mixing import SourceName, check_mix
from ov2kit.recipes.data.records import MAX_RECORD_BYTES
from ov2kit.recipes.data.visual_tokenizers import SaliencyName, VisualTokenizers, build_tokenizers

Pack = Literal["offline", "stream"]


@dataclass(frozen=True)
class Sources:
    """Which records there are.

    Args:
        path: JSON or JSONL file of conversations, or a list of them. docs/data.md has the form.
        val_path: the same, to validate on.
        val_share: hold out this share of `path` instead; no video is on both sides.
        test_path: the same, to generate answers for in `test`; `val_path` by default.
        predict_path: the same for `predict`; `test_path` by default, then `val_path`, then `path`.
        shards: folder or URL of a dataset of `ov2kit dataset`: videos that it has, by their paths as records have
            them, are codec canvases from there, and need no file.
        media_root: what relative paths of media are relative to; the folder of each file by default.
        max_bad_share: stop when more than this share of the records cannot be used.
        faults: JSONL file of records that were not used; in the log directory by default.
        max_record_bytes: a longer record cannot be used, and is not even read.
        shares: of a training epoch, one number for each file of `path`: so many of its records come, and others in the
            next epoch, or as many times as needed. Every record comes once when omitted.

    Raises:
        OptionError: an option is of a wrong type or out of range, or contradicts another one.
    """

    path: str | list[str]
    val_path: str | list[str] | None = None
    val_share: float = 0.0
    test_path: str | list[str] | None = None
    predict_path: str | list[str] | None = None
    shards: str | None = None
    media_root: str | None = None
    max_bad_share: float = 0.01
    faults: str | None = None
    max_record_bytes: int = MAX_RECORD_BYTES
    shares: list[float] | None = None

    def __post_init__(self) -> None:
        for name in ("path", "val_path", "test_path", "predict_path"):
            kinds = (str, os.PathLike, list)
            check_type(name, getattr(self, name), kinds, "a path", optional=name != "path")
        _check_places(self, "shards", "media_root", "faults")
        check_number("val_share", self.val_share, low=0, below=1)
        check_number("max_bad_share", self.max_bad_share, low=0, high=1)
        check_number("max_record_bytes", self.max_record_bytes, low=1, integer=True)
        if self.val_path is not None and self.val_share:
            raise OptionError("give val_path or val_share, not both")
        if self.shares is not None:
            files = len(self.path) if isinstance(self.path, list) else 1
            check_numbers("shares", self.shares, length=files, low=0)
            if not sum(self.shares):
                raise OptionError("shares are all 0: no file would be trained on")


@dataclass(frozen=True)
class Tokens:
    """What a record becomes.

    Args:
        tokenizer: directory of the language model's tokenizer; a small one of ours by default.
        source: videos as "codec" canvases, as sampled "frames", as a "hybrid" of the two in one budget, or a "mix" of
            these and pictures.
        mix: shares of codec, frames, hybrid and image; 0.5, 0.375 and 0.125 by default.
        frame_share: of the canvases of a hybrid that are whole frames.
        preset: of `CodecTokenizer`, as the options down to `patch` and `merge`.
        grouping: "bitcost", "readiness", "fixed" or "container"; the preset's by default.
        saliency: what blocks are chosen by: "motion+residual", "motion", "residual", "luma", "random".
        rank_damping: lambda of the stratified selection.
        peak_weight: alpha of the stratified selection.
        block: merged tokens per edge of the blocks that are chosen.
        budget_canvases: most canvases of a video, and most frames; 32 when no budget is given.
        budget_tokens: most visual tokens of a video instead.
        min_pixels: smallest canvas area.
        max_pixels: largest canvas area.
        patch: patch edge in pixels, as the encoder has it.
        merge: patches per block edge, as the connector has it.
        decimals: digits of the seconds in time stamps.
        max_length: most tokens of a sample; the length of a row where samples are packed.
        oversize: "skip" longer samples or "truncate" their text; both are reported.
        mirror: chance of a training sample to be mirrored, pixels and coordinates together; records whose text
            has no mirror image come as they are. Not with `pack` "offline", which needs lengths before.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range, or contradicts another one.
    """

    tokenizer: str | None = None
    source: SourceName = "codec"
    mix: dict[str, float] | None = None
    frame_share: float = FRAME_SHARE
    preset: Preset = "paper"
    grouping: GroupingName | None = None
    saliency: SaliencyName = "motion+residual"
    rank_damping: float = 0.35
    peak_weight: float = 0.35
    block: int = 1
    budget_canvases: int | None = None
    budget_tokens: int | None = None
    min_pixels: int = 3136
    max_pixels: int = 150_000
    patch: int = 14
    merge: int = 2
    decimals: int = 1
    max_length: int | None = None
    oversize: Oversize = "skip"
    mirror: float = 0.0

    def __post_init__(self) -> None:
        _check_places(self, "tokenizer")
        _ = self.shares
        self.visual_tokenizers()  # which check their own options
        check_number("frame_share", self.frame_share, above=0, high=1)
        check_number("decimals", self.decimals, low=0, high=9, integer=True)
        check_number("max_length", self.max_length, low=1, integer=True, optional=True)
        check_choice("oversize", self.oversize, get_args(Oversize))
        check_number("mirror", self.mirror, low=0, high=1)

    @property
    def shares(self) -> dict[str, float]:
        """What videos are shown as, see `check_mix`."""
        return check_mix(self.source, self.mix)

    @property
    def video_shares(self) -> dict[str, float]:
        """`shares` without the pictures, where other options say how many of those come."""
        return {name: share for name, share in self.shares.items() if name != "image"}

    @property
    def image_tokens(self) -> int:
        """Most visual tokens of a picture."""
        return max(1, self.max_pixels // (self.patch * self.merge) ** 2)

    @property
    def video_tokens(self) -> int:
        """Most visual tokens of a video."""
        return self.budget_tokens or (self.budget_canvases or 32) * self.image_tokens

    def visual_tokenizers(self, threads: int | None = None, seed: int = 0) -> VisualTokenizers:
        """Tokenizers of codec canvases, frames and pictures, see `build_tokenizers`."""
        names = (
            "preset", "grouping", "saliency", "rank_damping", "peak_weight", "block",
            "budget_canvases", "budget_tokens", "min_pixels", "max_pixels", "patch", "merge",
        )  # fmt: skip
        return build_tokenizers(**{name: getattr(self, name) for name in names}, threads=threads, seed=seed)


@dataclass(frozen=True)
class Order:
    """Which samples come when, and which of them together.

    Args:
        batch_size: samples of a batch on each rank; 1 with `pack`, whose batch is one row.
        eval_batch_size: of the other stages; `batch_size` by default.
        group_by_length: batches of samples of similar length.
        pack: put several samples, isolated from each other, into one row: "offline" plans rows by
            lengths that are known or measured once, "stream" makes them as samples come.
        pack_length: tokens of a row.
        pack_samples: most samples of a row.
        pack_buffer: samples that wait at most, for "stream".
        rows_per_epoch: rows that count as an epoch on each rank, for "stream"; needed with several ranks.
        lengths: file of `name:count` lines, for "offline" and to group by.
        shuffle: a new order every epoch.
        seed: of order, mix, split and random saliency.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range, or contradicts another one.
    """

    batch_size: int = 1
    eval_batch_size: int | None = None
    group_by_length: bool = False
    pack: Pack | None = None
    pack_length: int = 32_768
    pack_samples: int | None = None
    pack_buffer: int = 32
    rows_per_epoch: int | None = None
    lengths: str | None = None
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "pack_length", "pack_buffer"):
            check_number(name, getattr(self, name), low=1, integer=True)
        for name in ("eval_batch_size", "pack_samples", "rows_per_epoch"):
            check_number(name, getattr(self, name), low=1, integer=True, optional=True)
        check_number("seed", self.seed, low=0, integer=True)
        check_flag("group_by_length", self.group_by_length)
        check_flag("shuffle", self.shuffle)
        _check_places(self, "lengths")
        if self.pack is not None:
            check_choice("pack", self.pack, get_args(Pack))
        if self.pack and self.batch_size != 1:
            raise OptionError(
                f"with pack a batch is one row of pack_length tokens: set batch_size to 1, got {self.batch_size}"
            )


@dataclass(frozen=True)
class Loading:
    """How samples are read: what changes no sample.

    Args:
        num_workers: processes that read; 0 reads in the main one.
        prefetch: batches that each of them prepares ahead.
        pin_memory: hand over tensors in page-locked memory; where there is CUDA by default.
        cache: directory to keep canvases and measured lengths in.

    Raises:
        OptionError: an option is of a wrong type or out of range.
    """

    num_workers: int = 0
    prefetch: int = 2
    pin_memory: bool | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        check_number("num_workers", self.num_workers, low=0, integer=True)
        check_number("prefetch", self.prefetch, low=1, integer=True)
        if self.pin_memory is not None:
            check_flag("pin_memory", self.pin_memory)
        _check_places(self, "cache")

    @property
    def threads(self) -> int | None:
        """Threads that decode in each worker; all of them without workers."""
        return max(1, (os.cpu_count() or 1) // self.num_workers) if self.num_workers else None


def _check_places(options: Any, *names: str) -> None:
    for name in names:
        check_type(name, getattr(options, name), (str, os.PathLike), "a path", optional=True)
