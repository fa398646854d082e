"""The batches of training: of records as they are, of rows planned before, or of rows made as samples come."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch.utils.data import Dataset

from ov2kit.errors import DataError
from ov2kit.recipes.data.bookmarks import Ranks
from ov2kit.recipes.data.dataset import BatchDataset, ConversationDataset, Delivered, Oversize
from ov2kit.recipes.data.faults import FaultLog
from ov2kit.recipes.data.feed import Feed
from ov2kit.recipes.data.loaders import Plan, PlannedLoader, StreamLoader
from ov2kit.recipes.data.options import Order
from ov2kit.recipes.data.plans import Records


def training_loader(
    records: Records,
    samples: ConversationDataset,
    order: Order,
    oversize: Oversize,
    feed: Callable[[Dataset[Delivered]], Feed],
    log: FaultLog,
    facts: Mapping[str, Any],
    *,
    pad_id: int,
    pin_memory: bool,
    trainer: Any,
) -> PlannedLoader | StreamLoader:
    """A loader that continues exactly where it was stopped.

    Args:
        records: what an epoch shows on this rank.
        samples: makes a sample of a record.
        order: how batches are made of them.
        oversize: see `Tokens`.
        feed: makes the workers that read.
        log: where faults go.
        facts: see `Bookmarks`.
        pad_id: fills rows.
        pin_memory: see `Loading`.
        trainer: that takes the batches; None for nobody who counts them.

    Raises:
        DataError: rows of a stream on several ranks, and nothing that says how many.
    """
    unfinished = None if trainer is None else partial(_unfinished_batches, trainer)
    if order.pack == "stream":
        if records.world_size > 1 and order.rows_per_epoch is None:
            raise DataError(
                f"pack 'stream' on {records.world_size} ranks needs rows_per_epoch, or they would run out of rows "
                "at different steps; or use pack 'offline'"
            )
        return StreamLoader(
            feed(samples), records.samples, log,
            pad_id=pad_id, length=order.pack_length, buffer=order.pack_buffer,
            max_samples=order.pack_samples, rows_per_epoch=order.rows_per_epoch, facts=facts,
            ranks=Ranks(records.rank, records.world_size), unfinished=unfinished, pin_memory=pin_memory,
        )  # fmt: skip
    plan: Plan
    if order.pack:
        plan = partial(
            records.rows,
            length=order.pack_length,
            max_samples=order.pack_samples,
            oversize=oversize,
            faults=log,
        )
    else:
        plan = partial(records.batches, batch_size=order.batch_size, group_by_length=order.group_by_length)
    row = order.pack_length if order.pack else None
    batches = feed(BatchDataset(samples, records.numbers, pack_length=row))
    return PlannedLoader(batches, plan, log, facts, unfinished=unfinished)


def _unfinished_batches(trainer: Any) -> int:
    """Batches that training took and is not done with: 1 where an exception stopped a step, else 0.

    The progress of the loop is the only place that knows: checkpoints are written in the hooks after a step.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    unfinished: int = progress.ready - progress.processed
    return unfinished
