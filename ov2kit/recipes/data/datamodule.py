"""ConversationData: conversations with videos and pictures, as a LightningDataModule.

In a YAML file three lines are enough:

    data:
      sources:
        path: conversations.jsonl
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset

from ov2kit.codec import CodecTokenizer
from ov2kit.errors import DataError, check_type, deprecated
from ov2kit.recipes.data.canvas_cache import CanvasCache
from ov2kit.recipes.data.dataset import BatchDataset, ConversationDataset, Delivered, Processes
from ov2kit.recipes.data.faults import FaultLog
from ov2kit.recipes.data.feed import Feed
from ov2kit.recipes.data.fingerprints import batch_facts, lengths_digest, sample_settings
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.lengths import KnownLengths, has_intact_lengths, measured_lengths, write_lengths
from ov2kit.recipes.data.loaders import PlannedLoader, StreamLoader
from ov2kit.recipes.data.open_sources import OpenSources
from ov2kit.recipes.data.options import Loading, Order, Sources, Tokens
from ov2kit.recipes.data.plans import Records
from ov2kit.recipes.data.sections import SECTIONS, check_together, with_options
from ov2kit.recipes.data.training_loader import training_loader
from ov2kit.recipes.prompt.processor import Processor
from ov2kit.recipes.prompt.sample import Batch
from ov2kit.recipes.prompt.text_tokenizer import load_tokenizer

_log = logging.getLogger("ov2kit")


@runtime_checkable
class Model(Protocol):
    """What these data and a model need of each other."""

    #: reads and writes text, and names the files that go with the weights; `ConversationData.connect` sets it
    processor: Any

    @property
    def tokens_out(self) -> Callable[[int], int] | None:
        """How many tokens the model's connector makes of so many; None for one of each block."""


class ConversationData(LightningDataModule):
    """Batches of conversations to train on, to validate, and to generate from.

    `connect` it to the model before a trainer gets both. A checkpoint of it holds where training stands.

    Args:
        sources: which records there are.
        tokens: what a record becomes.
        order: which samples come when, and which of them together.
        loading: how samples are read.
        options: of the sections by themselves; deprecated, as is a path in place of `sources`.

    Raises:
        OptionError: an option is unknown, or options of two sections contradict each other.
    """

    def __init__(
        self,
        sources: Sources,
        tokens: Tokens = Tokens(),  # noqa: B008 # frozen
        order: Order = Order(),  # noqa: B008
        loading: Loading = Loading(),  # noqa: B008
        **options: Any,
    ) -> None:
        super().__init__()
        if options or isinstance(sources, str | os.PathLike | list):
            made = ", ".join(f"{section.__name__}(...)" for section in SECTIONS.values())
            deprecated("ConversationData(path, option=...)", f"ConversationData({made})", "0.2")
            sources, tokens, order, loading = with_options(sources, tokens, order, loading, options)
        for name, section in (("sources", sources), ("tokens", tokens), ("order", order), ("loading", loading)):
            check_type(name, section, SECTIONS[name], f"{SECTIONS[name].__name__}(...)")
        check_together(sources, tokens, order, loading)
        self.sources, self.tokens, self.order, self.loading = sources, tokens, order, loading
        self.test_path = sources.test_path or sources.val_path
        self.predict_path = sources.predict_path or self.test_path or sources.path
        self.codec, self.frames, self.image = tokens.visual_tokenizers(loading.threads, order.seed)
        self.max_length = (
            min(tokens.max_length or order.pack_length, order.pack_length) if order.pack else tokens.max_length
        )
        self.pin_memory = torch.cuda.is_available() if loading.pin_memory is None else loading.pin_memory
        #: makes samples of conversations; made by `connect` or `setup`, or set before to use another one
        self.processor: Processes | None = None
        self.train_faults: FaultLog | None = None
        self._made: Processes | None = None
        self._tokens_out: Callable[[int], int] | None = None
        self._is_connected = False
        self._opened = OpenSources(sources, self._codecs(), order.seed)
        self._loader: PlannedLoader | StreamLoader | None = None
        self._feeds: list[Feed] = []
        self._resume: Mapping[str, Any] | None = None

    def connect(self, model: Model) -> None:
        """Let data and model know what they need of each other. Call it before the trainer.

        The processor makes as many places for visual tokens as the model's `tokens_out` says, and the model
        reads and writes text with that processor. Data used alone, for a model whose connector makes one token
        of each block, need no connection.
        """
        self._tokens_out, self._is_connected = model.tokens_out, True
        if self.processor is self._made:
            self.processor = None  # made without this model
        model.processor = self._processor()

    def prepare_data(self) -> None:
        """Measure lengths once, where rows are planned by lengths that are not given; again where they are damaged."""
        self._expect_connection()
        measured = self.order.pack == "offline" and self.order.lengths is None
        if measured and not has_intact_lengths(place := self._lengths_file()):
            if place.exists():
                _log.warning("%s: is damaged; lengths are measured again", place)
            self._measure(place)

    def setup(self, stage: str) -> None:
        """Read the files of a stage and check every record.

        Raises:
            DataError: a file cannot be read, or too many records cannot be used.
        """
        self._expect_connection()
        if stage == "fit":
            self._loader, self._resume = None, None
        self._processor()
        if stage == "fit":
            self.train_faults = self._log(self._opened.index(self.sources.path))

    def train_dataloader(self) -> PlannedLoader | StreamLoader:
        """Batches to train on; continues where a loaded checkpoint stood."""
        index, processor = self._opened.index(self.sources.path), self._processor()
        records = replace(self._records(index, self._opened.split()[0], self.order.shuffle), mirror=self.tokens.mirror)
        if self.sources.shares is not None:
            records = replace(records, shares=self.tokens.video_shares, file_shares=tuple(self.sources.shares))
        log = self.train_faults = self.train_faults or self._log(index)
        facts = batch_facts(
            self.sources, self.tokens, self.order,
            max_length=self.max_length, records=records, stored=self._opened.stored(),
        )  # fmt: skip
        samples = ConversationDataset(
            index, processor, CanvasCache(self.loading.cache), max_length=self.max_length, oversize=self.tokens.oversize
        )
        before = self._loader
        self._loader = training_loader(
            records, samples, self.order, self.tokens.oversize, self._feed, log, facts,
            pad_id=processor.pad_id, pin_memory=self.pin_memory, trainer=self._attached,
        )  # fmt: skip
        if self._resume is not None:
            self._loader.load_state_dict(self._resume)
            self._resume = None
        elif before is not None:  # asked for again within one fit
            self._loader.bookmarks.begin(before.bookmarks.last)
        return self._loader

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Batches with labels, the same every time; none without `val_path` and `val_share`."""
        if self.sources.val_path is not None:
            index = self._opened.index(self.sources.val_path)
            return self._eval_loader(index, np.arange(len(index)))
        if self.sources.val_share:
            return self._eval_loader(self._opened.index(self.sources.path), self._opened.split()[1])
        return []

    def test_dataloader(self) -> PlannedLoader:
        """Batches with labels, as `val_dataloader`; the answers to compare with are in them.

        Raises:
            DataError: there is neither `test_path` nor `val_path`.
        """
        if self.test_path is None:
            raise DataError("there is nothing to test on: give test_path or val_path")
        index = self._opened.index(self.test_path)
        return self._eval_loader(index, np.arange(len(index)))

    def predict_dataloader(self) -> PlannedLoader:
        """Prompts of `predict_path`, padded on the left, to generate answers from."""
        index = self._opened.index(self.predict_path, needs_answer=False)
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
        tokenizer = self.processor.tokenizer if self.processor else load_tokenizer(self.tokens.tokenizer)
        return sample_settings(self.tokens, self.codec, tokenizer)

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
            self._loader.bookmarks.take()
        return batch

    @property
    def _attached(self) -> Any:
        """The trainer, if there is one."""
        return getattr(self, "trainer", None)

    def _ranks(self) -> tuple[int, int]:
        trainer = self._attached
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _processor(self) -> Processes:
        if self.processor is None:
            self.processor = self._made = Processor(
                load_tokenizer(self.tokens.tokenizer), codec=self.codec, frames=self.frames, image=self.image,
                frame_share=self.tokens.frame_share, decimals=self.tokens.decimals, tokens_out=self._tokens_out,
            )  # fmt: skip
        return self.processor

    def _expect_connection(self) -> None:
        """A trainer that has a model which needs these data, though nobody connected the two."""
        model = None if self._attached is None else self._attached.lightning_module
        if isinstance(model, Model) and not self._is_connected:
            deprecated("a trainer for a model and data that are not connected", "data.connect(model) before it", "0.2")
            self.connect(model)

    def _codecs(self) -> list[CodecTokenizer]:
        """Those that make codec canvases here: as they are, with a share of whole frames, or both."""
        found = [] if set(self.tokens.shares) == {"hybrid"} else [self.codec]
        if self.tokens.shares.get("hybrid"):
            found.append(self.codec.with_frame_share(self.tokens.frame_share))
        return found

    def _records(self, index: ConversationIndex, numbers: np.ndarray, shuffle: bool) -> Records:
        rank, world_size = self._ranks()
        path = self.order.lengths or (self._lengths_file() if self.order.pack == "offline" else None)
        return Records(
            index, numbers, self.tokens.shares, self.order.seed, shuffle, rank, world_size,
            self.tokens.video_tokens, self.tokens.image_tokens, None if path is None else KnownLengths(path),
        )  # fmt: skip

    def _log(self, index: ConversationIndex) -> FaultLog:
        path = self.sources.faults
        trainer = self._attached
        if path is None and trainer is not None:
            path = os.path.join(trainer.log_dir or trainer.default_root_dir, "faults.jsonl")
        return self._opened.fault_log(index, path, self._ranks()[0], self.order.lengths)

    def _eval_loader(self, index: ConversationIndex, numbers: np.ndarray, generate: bool = False) -> PlannedLoader:
        records = replace(self._records(index, numbers, False), shares=self.tokens.video_shares)  # every picture once
        samples = ConversationDataset(
            index, self._processor(), CanvasCache(self.loading.cache), generate=generate,
            max_length=self.max_length, oversize=self.tokens.oversize,
        )  # fmt: skip
        batches = BatchDataset(samples, numbers, side="left" if generate else "right")
        feed = self._feed(batches)
        batch_size = self.order.eval_batch_size or self.order.batch_size
        plan = partial(records.batches, batch_size=batch_size, group_by_length=False, keep_all=True)
        return PlannedLoader(feed, plan, self._log(index), same_epoch=True)

    def _feed(self, dataset: Dataset[Delivered]) -> Feed:
        pin_memory = self.pin_memory and isinstance(dataset, BatchDataset)
        feed = Feed(dataset, self.loading.num_workers, self.loading.prefetch, pin_memory)
        self._feeds.append(feed)
        return feed

    def _lengths_file(self) -> Path:
        assert self.loading.cache is not None
        tokenizers = self.codec, self.frames, self.image
        index = self._opened.index(self.sources.path)
        key = lengths_digest(index, self.tokens, tokenizers, self._codecs(), self._tokens_out)
        return Path(self.loading.cache) / f"lengths-{key}.txt"

    def _measure(self, place: Path) -> None:
        """Make every sample once and write its length down."""
        index = self._opened.index(self.sources.path)
        feed = self._feed(ConversationDataset(index, self._processor(), CanvasCache(self.loading.cache)))
        write_lengths(place, measured_lengths(index, self.tokens.shares, feed))
        feed.close()
