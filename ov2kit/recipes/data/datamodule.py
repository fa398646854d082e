"""ConversationData: conversations with videos and pictures, as a LightningDataModule.

In a YAML file two lines are enough:

    data:
      path: conversations.jsonl
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset

from ov2kit.codec.tokenizers.presets import GroupingName, Preset
from ov2kit.errors import DataError, OptionError, check_choice, check_flag, check_number, check_type
from ov2kit.files import refuse_overwriting_inputs
from ov2kit.recipes.data.canvas_cache import CanvasCache
from ov2kit.recipes.data.dataset import BatchDataset, ConversationDataset, Delivered, Oversize, Processes
from ov2kit.recipes.data.faults import FaultLog
from ov2kit.recipes.data.feed import Feed
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.lengths import KnownLengths, has_intact_lengths, measured_lengths, write_lengths
from ov2kit.recipes.data.loaders import PlannedLoader, StreamLoader
from ov2kit.recipes.data.mixing import Source, check_mix
from ov2kit.recipes.data.plans import Records
from ov2kit.recipes.data.records import MAX_RECORD_BYTES
from ov2kit.recipes.data.visual_tokenizers import SaliencyName, build_tokenizers
from ov2kit.recipes.prompt.processor import Processor
from ov2kit.recipes.prompt.sample import Batch
from ov2kit.recipes.prompt.text_tokenizer import load_tokenizer

Pack = Literal["offline", "stream"]
_log = logging.getLogger("ov2kit")
Stage = Literal["train", "val", "test", "predict"]


class ConversationData(LightningDataModule):
    """Batches of conversations to train on, to validate, and to generate from.

    Args:
        path: JSON or JSONL file of conversations, or a list of them. docs/data.md has the form.
        val_path: the same, to validate on.
        val_share: hold out this share of `path` instead; no video is on both sides.
        test_path: the same, to generate answers for in `test`; `val_path` by default.
        predict_path: the same for `predict`; `test_path` by default, then `val_path`, then `path`.
        media_root: what relative paths of media are relative to; the folder of each file by default.
        tokenizer: directory of the language model's tokenizer; a small one of ours by default.
        source: videos as "codec" canvases, as sampled "frames", or a "mix" of both and pictures.
        mix: shares of codec, frames and image; 0.5, 0.375 and 0.125 by default.
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
        max_length: most tokens of a sample; `pack_length` with `pack`.
        oversize: "skip" longer samples or "truncate" their text; both are reported.
        num_workers: processes that read; 0 reads in the main one.
        prefetch: batches that each of them prepares ahead.
        pin_memory: hand over tensors in page-locked memory; where there is CUDA by default.
        seed: of order, mix and split.
        shuffle: a new order every epoch.
        cache: directory to keep canvases and measured lengths in.
        max_bad_share: stop when more than this share of the records cannot be used.
        faults: JSONL file of records that were not used; in the log directory by default.
        max_record_bytes: a longer record cannot be used, and is not even read.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range, or contradicts another one.
    """

    def __init__(
        self,
        path: str | list[str],
        val_path: str | list[str] | None = None,
        val_share: float = 0.0,
        test_path: str | list[str] | None = None,
        predict_path: str | list[str] | None = None,
        media_root: str | None = None,
        tokenizer: str | None = None,
        source: Source = "codec",
        mix: dict[str, float] | None = None,
        preset: Preset = "paper",
        grouping: GroupingName | None = None,
        saliency: SaliencyName = "motion+residual",
        rank_damping: float = 0.35,
        peak_weight: float = 0.35,
        block: int = 1,
        budget_canvases: int | None = None,
        budget_tokens: int | None = None,
        min_pixels: int = 3136,
        max_pixels: int = 150_000,
        patch: int = 14,
        merge: int = 2,
        decimals: int = 1,
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        group_by_length: bool = False,
        pack: Pack | None = None,
        pack_length: int = 32_768,
        pack_samples: int | None = None,
        pack_buffer: int = 32,
        rows_per_epoch: int | None = None,
        lengths: str | None = None,
        max_length: int | None = None,
        oversize: Oversize = "skip",
        num_workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool | None = None,
        seed: int = 0,
        shuffle: bool = True,
        cache: str | None = None,
        max_bad_share: float = 0.01,
        faults: str | None = None,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        super().__init__()
        places = {
            "val_path": val_path, "test_path": test_path, "predict_path": predict_path, "media_root": media_root,
            "tokenizer": tokenizer, "lengths": lengths, "cache": cache, "faults": faults,
        }  # fmt: skip
        for name, place in {"path": path, **places}.items():
            kinds = (str, os.PathLike, list) if name.endswith("path") else (str, os.PathLike)
            check_type(name, place, kinds, "a path", optional=name != "path")
        counts = {
            "batch_size": batch_size, "eval_batch_size": eval_batch_size, "pack_length": pack_length,
            "pack_samples": pack_samples, "pack_buffer": pack_buffer, "rows_per_epoch": rows_per_epoch,
            "max_length": max_length, "prefetch": prefetch,
        }  # fmt: skip
        needed = ("batch_size", "pack_length", "pack_buffer", "prefetch")
        for name, count in counts.items():
            check_number(name, count, low=1, integer=True, optional=name not in needed)
        check_number("num_workers", num_workers, low=0, integer=True)
        check_number("seed", seed, low=0, integer=True)
        check_number("decimals", decimals, low=0, high=9, integer=True)
        check_number("val_share", val_share, low=0, below=1)
        check_number("max_bad_share", max_bad_share, low=0, high=1)
        check_choice("oversize", oversize, get_args(Oversize))
        check_flag("group_by_length", group_by_length)
        check_flag("shuffle", shuffle)
        if pin_memory is not None:
            check_flag("pin_memory", pin_memory)
        if pack is not None:
            check_choice("pack", pack, get_args(Pack))
        if pack and batch_size != 1:
            raise OptionError(
                f"with pack a batch is one row of pack_length tokens: set batch_size to 1, got {batch_size}"
            )
        if pack == "offline" and lengths is None and cache is None:
            raise OptionError(
                "pack 'offline' needs lengths (a file of name:count), or a cache to measure them into once"
            )
        if val_path is not None and val_share:
            raise OptionError("give val_path or val_share, not both")
        check_number("max_record_bytes", max_record_bytes, low=1, integer=True)
        self.path, self.val_path, self.val_share = path, val_path, val_share
        self.test_path = test_path or val_path
        self.predict_path = predict_path or self.test_path or path
        self.media_root, self.tokenizer_path = media_root, tokenizer
        self.shares = check_mix(source, mix)
        self.source = source
        threads = max(1, (os.cpu_count() or 1) // num_workers) if num_workers else None
        self.codec, self.frames, self.image = build_tokenizers(
            preset=preset, grouping=grouping, saliency=saliency, rank_damping=rank_damping, peak_weight=peak_weight,
            block=block, budget_canvases=budget_canvases, budget_tokens=budget_tokens, min_pixels=min_pixels,
            max_pixels=max_pixels, patch=patch, merge=merge, threads=threads, seed=seed,
        )  # fmt: skip
        self._sample_options: dict[str, Any] = {
            "source": source, "preset": preset, "saliency": saliency, "rank_damping": rank_damping,
            "peak_weight": peak_weight, "block": block, "budget_canvases": self.codec.budget_canvases,
            "budget_tokens": budget_tokens, "min_pixels": min_pixels, "max_pixels": max_pixels, "patch": patch,
            "merge": merge, "decimals": decimals, "max_length": max_length, "oversize": oversize,
        }  # fmt: skip
        self.image_tokens = max(1, max_pixels // (patch * merge) ** 2)
        self.video_tokens = budget_tokens or (budget_canvases or 32) * self.image_tokens
        self.decimals = decimals
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.group_by_length = group_by_length
        self.pack, self.pack_length, self.pack_samples = pack, pack_length, pack_samples
        self.pack_buffer, self.rows_per_epoch = pack_buffer, rows_per_epoch
        self.lengths = lengths
        self.max_length = min(max_length or pack_length, pack_length) if pack else max_length
        self.oversize: Oversize = oversize
        self.num_workers, self.prefetch = num_workers, prefetch
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.seed, self.shuffle = seed, shuffle
        self.cache = cache
        self.max_bad_share, self.faults_path, self.max_record_bytes = max_bad_share, faults, max_record_bytes
        #: makes samples of conversations; made by `setup`, or set before to use another one
        self.processor: Processes | None = None
        self.train_faults: FaultLog | None = None
        self._indices: dict[str, ConversationIndex] = {}
        self._loader: PlannedLoader | StreamLoader | None = None
        self._feeds: list[Feed] = []
        self._resume: Mapping[str, Any] | None = None

    def prepare_data(self) -> None:
        """Measure lengths once, where rows are planned by lengths that are not given; again where they are damaged."""
        if self.pack == "offline" and self.lengths is None and not has_intact_lengths(place := self._lengths_file()):
            if place.exists():
                _log.warning("%s: is damaged; lengths are measured again", place)
            self._measure(place)

    def setup(self, stage: str) -> None:
        """Read the files of a stage and check every record.

        Raises:
            DataError: a file cannot be read, or too many records cannot be used.
        """
        if stage == "fit":
            self._loader, self._resume = None, None
        self._processor()
        if stage == "fit":
            self.train_faults = self._log(self._index(self.path))

    def train_dataloader(self) -> PlannedLoader | StreamLoader:
        """Batches to train on; continues where a loaded checkpoint stood."""
        index, processor = self._index(self.path), self._processor()
        records = self._records(index, self._split()[0], self.shuffle)
        log = self.train_faults = self.train_faults or self._log(index)
        facts = self._facts(records)
        samples = ConversationDataset(
            index, processor, CanvasCache(self.cache), max_length=self.max_length, oversize=self.oversize
        )
        before = self._loader
        if self.pack == "stream":
            if records.world_size > 1 and self.rows_per_epoch is None:
                raise DataError(
                    f"pack 'stream' on {records.world_size} ranks needs rows_per_epoch, or they would run out of rows "
                    "at different steps; or use pack 'offline'"
                )
            self._loader = StreamLoader(
                self._feed(samples), records.samples, log,
                pad_id=processor.pad_id, length=self.pack_length, buffer=self.pack_buffer,
                max_samples=self.pack_samples, rows_per_epoch=self.rows_per_epoch, facts=facts,
                pin_memory=self.pin_memory,
            )  # fmt: skip
            if records.world_size > 1:
                self._loader.bookmarks.gather, self._loader.bookmarks.rank = _gathered, records.rank
        else:
            row = self.pack_length if self.pack else None
            feed = Feed(
                BatchDataset(samples, records.numbers, pack_length=row),
                self.num_workers,
                self.prefetch,
                self.pin_memory,
            )
            if self.pack:
                plan = partial(
                    records.rows,
                    length=self.pack_length,
                    max_samples=self.pack_samples,
                    oversize=self.oversize,
                    faults=log,
                )
            else:
                plan = partial(records.batches, batch_size=self.batch_size, group_by_length=self.group_by_length)
            self._loader = PlannedLoader(feed, plan, log, facts)
        if self._attached is not None:
            self._loader.bookmarks.used = self._used
        if self._resume is not None:
            self._loader.load_state_dict(self._resume)
            self._resume = None
        elif before is not None:  # asked for anew within one fit
            self._loader.bookmarks.begin(before.bookmarks.last)
        return self._loader

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Batches with labels, the same every time; none without `val_path` and `val_share`."""
        if self.val_path is not None:
            index = self._index(self.val_path)
            return self._eval_loader(index, np.arange(len(index)))
        if self.val_share:
            return self._eval_loader(self._index(self.path), self._split()[1])
        return []

    def test_dataloader(self) -> PlannedLoader:
        """Batches with labels, as `val_dataloader`; the answers to compare with are in them.

        Raises:
            DataError: there is neither `test_path` nor `val_path`.
        """
        if self.test_path is None:
            raise DataError("there is nothing to test on: give test_path or val_path")
        index = self._index(self.test_path)
        return self._eval_loader(index, np.arange(len(index)))

    def predict_dataloader(self) -> PlannedLoader:
        """Prompts of `predict_path`, padded on the left, to generate answers from."""
        index = self._index(self.predict_path, needs_answer=False)
        return self._eval_loader(index, np.arange(len(index)), generate=True)

    def teardown(self, stage: str) -> None:
        """Let the workers end."""
        for feed in self._feeds:
            feed.close()

    def on_exception(self, exception: BaseException) -> None:
        """Let the workers end."""
        self.teardown("")

    def state_dict(self) -> dict[str, Any]:
        """Where training stands in its data, and what its samples are made with."""
        return {} if self._loader is None else {"train": self._loader.state_dict(), "settings": self.settings()}

    def settings(self) -> dict[str, Any]:
        """What decides how a record becomes a sample, as plain values by their flags.

        What decides which batches come is not among it: that is compared by `load_state_dict`.
        """
        tokenizer = self.processor.tokenizer if self.processor else load_tokenizer(self.tokenizer_path)
        return {
            **{f"data.{name}": value for name, value in self._sample_options.items()},
            "data.grouping": self.codec.options()["grouping"],
            "data.tokenizer": _digest(sorted(tokenizer.get_vocab().items())),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let `train_dataloader` continue there.

        Raises:
            DataError: options that decide which batches come have changed since.
        """
        self._resume = state_dict.get("train")
        if self._resume is not None and self._loader is not None:
            self._loader.load_state_dict(self._resume)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count the batches that training took."""
        if self._loader is not None and self._attached is not None and self._attached.training:
            self._loader.bookmarks.taken += 1
        return batch

    @property
    def _attached(self) -> Any:
        """The trainer, if there is one."""
        return getattr(self, "trainer", None)

    def _used(self) -> int:
        """Batches that training is done with, of those since the loader began."""
        assert self._loader is not None
        progress = self._attached.fit_loop.epoch_loop.batch_progress.current
        unfinished: int = progress.ready - progress.processed  # 1 where an exception stopped a step
        return self._loader.bookmarks.taken - unfinished

    def _ranks(self) -> tuple[int, int]:
        trainer = self._attached
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _processor(self) -> Processes:
        if self.processor is None:
            self.processor = Processor(
                load_tokenizer(self.tokenizer_path), codec=self.codec, frames=self.frames, image=self.image,
                decimals=self.decimals, tokens_out=self._tokens_out(),
            )  # fmt: skip
        return self.processor

    def _tokens_out(self) -> Any:
        """How many tokens the model's connector makes of a group, where it says so."""
        trainer = self._attached
        return None if trainer is None else getattr(trainer.lightning_module, "tokens_out", None)

    def _index(self, paths: str | list[str], needs_answer: bool = True) -> ConversationIndex:
        key = json.dumps([paths, needs_answer])
        if key not in self._indices:
            self._indices[key] = ConversationIndex(
                paths, self.media_root, needs_answer=needs_answer, max_record_bytes=self.max_record_bytes
            )
        return self._indices[key]

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        index = self._index(self.path)
        return index.split(self.val_share, self.seed) if self.val_share else (np.arange(len(index)), np.arange(0))

    def _records(self, index: ConversationIndex, numbers: np.ndarray, shuffle: bool) -> Records:
        rank, world_size = self._ranks()
        path = self.lengths or (self._lengths_file() if self.pack == "offline" else None)
        return Records(
            index, numbers, self.shares, self.seed, shuffle, rank, world_size, self.video_tokens, self.image_tokens,
            None if path is None else KnownLengths(path),
        )  # fmt: skip

    def _log(self, index: ConversationIndex) -> FaultLog:
        path = self.faults_path
        trainer = self._attached
        if path is None and trainer is not None:
            path = os.path.join(trainer.log_dir or trainer.default_root_dir, "faults.jsonl")
        if path is not None and (rank := self._ranks()[0]):
            path = str(Path(path).with_suffix(f".rank{rank}{Path(path).suffix}"))
        if path is not None:
            refuse_overwriting_inputs(path, [*(file.path for file in index.files), self.lengths])
        log = FaultLog(index.total, self.max_bad_share, path)
        log.add(index.faults, before_reading=True)
        return log

    def _eval_loader(self, index: ConversationIndex, numbers: np.ndarray, generate: bool = False) -> PlannedLoader:
        records = self._records(index, numbers, False)
        if len(self.shares) > 1:  # every picture once, whatever the share in training
            shares = {name: share for name, share in self.shares.items() if name != "image"}
            records = replace(records, shares=shares)
        samples = ConversationDataset(
            index, self._processor(), CanvasCache(self.cache), generate=generate,
            max_length=self.max_length, oversize=self.oversize,
        )  # fmt: skip
        batches = BatchDataset(samples, numbers, side="left" if generate else "right")
        feed = self._feed(batches)
        plan = partial(records.batches, batch_size=self.eval_batch_size, group_by_length=False, keep_all=True)
        return PlannedLoader(feed, plan, self._log(index), same_epoch=True)

    def _feed(self, dataset: Dataset[Delivered]) -> Feed:
        feed = Feed(dataset, self.num_workers, self.prefetch, self.pin_memory and isinstance(dataset, BatchDataset))
        self._feeds.append(feed)
        return feed

    def _facts(self, records: Records) -> dict[str, Any]:
        """What decides which batches come, by the names of the options."""
        facts: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "batch_size", "pack", "seed", "shuffle", "group_by_length", "max_length", "oversize", "val_share",
            )
        }  # fmt: skip
        if self.pack:
            facts |= {"pack_length": self.pack_length, "pack_samples": self.pack_samples}
        if self.pack == "stream":
            facts |= {"pack_buffer": self.pack_buffer, "rows_per_epoch": self.rows_per_epoch}
        if self.lengths is not None:
            facts["lengths"] = _digest(sorted(records.lengths.counts.items()) if records.lengths else None)
        return facts | {
            "source and mix": dict(sorted(self.shares.items())),
            "world_size": records.world_size,
            "records": records.index.fingerprint(),
        }

    def _lengths_file(self) -> Path:
        assert self.cache is not None
        tokens_out = self._tokens_out()
        key = [
            self._index(self.path).fingerprint(), self.tokenizer_path, self.decimals, sorted(self.shares),
            self.codec.options(), repr(self.codec), self.frames.options(), self.image.options(),
            None if tokens_out is None else [tokens_out(n) for n in (4, 64, 1024)],
        ]  # fmt: skip
        return Path(self.cache) / f"lengths-{_digest(key)}.txt"

    def _measure(self, place: Path) -> None:
        """Make every sample once and write its length down."""
        index = self._index(self.path)
        feed = self._feed(ConversationDataset(index, self._processor(), CanvasCache(self.cache)))
        write_lengths(place, measured_lengths(index, self.shares, feed))
        feed.close()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _gathered(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of all ranks, which all of them must ask for."""
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states
