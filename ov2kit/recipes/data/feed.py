"""Workers: a list of what is wanted -> what they deliver, in that order."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from ov2kit.errors import DataError
from ov2kit.recipes.data.dataset import Delivered, Wanted, prepare_worker

_SIGNAL_SECONDS = 0.2


class Feed:
    """One `DataLoader` for all epochs: its workers stay.

    Args:
        dataset: gives a `Delivered` for a `Wanted`.
        num_workers: processes; 0 reads in this one.
        prefetch: deliveries that each worker prepares ahead.
        pin_memory: hand over tensors in page-locked memory.
    """

    def __init__(
        self, dataset: Dataset[Delivered], num_workers: int = 0, prefetch: int = 2, pin_memory: bool = False
    ) -> None:
        self.num_workers = num_workers
        self._list = _List()
        self._loader: DataLoader[Delivered] = DataLoader(
            dataset,
            batch_size=None,
            sampler=self._list,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            worker_init_fn=prepare_worker,
            prefetch_factor=prefetch if num_workers else None,
            persistent_workers=num_workers > 0,
        )

    def __call__(self, wanted: Iterable[Wanted]) -> Iterator[Delivered]:
        """Deliveries, in order.

        Raises:
            DataError: a worker died.
        """
        self._list.wanted = wanted
        deliveries = iter(self._loader)
        count = 0
        while True:
            try:
                delivered = next(deliveries)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not self.num_workers or str(error).startswith("Caught "):  # raised by the dataset itself
                    raise
                raise DataError(
                    f"a data worker died after {count} deliveries ({self._how_it_died(error)}); it was killed, often "
                    "for want of memory: use fewer workers, smaller canvases, or num_workers=0 to see the record"
                ) from error
            count += 1
            yield delivered

    def _how_it_died(self, error: BaseException) -> str:
        """End the other workers, and find the better of two reasons.

        What a dead worker was handing over is lost as a broken connection, before or after torch
        raises that the worker died, out of a signal handler and so wherever the program is.
        """
        try:
            time.sleep(_SIGNAL_SECONDS)
        except RuntimeError as late:
            error = late
        for _ in range(self.num_workers + 1):
            try:
                self.close()
                break
            except RuntimeError as late:
                error = late
        return f"{type(error).__name__}: {' '.join(str(error).split())}"

    def close(self) -> None:
        """Let the workers end now; the next call starts new ones.

        Left to garbage collection they may end late: torch waits seconds for each of them.
        """
        running, self._loader._iterator = self._loader._iterator, None
        end = getattr(running, "_shutdown_workers", None)
        if end is not None:
            end()


class _List(Sampler[Wanted]):
    """What is wanted next; changed between epochs."""

    def __init__(self) -> None:
        self.wanted: Iterable[Wanted] = ()

    def __iter__(self) -> Iterator[Wanted]:
        return iter(self.wanted)


def _as_it_is(delivered: Any) -> Any:
    return delivered
