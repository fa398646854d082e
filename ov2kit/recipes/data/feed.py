"""Workers: a list of what is wanted -> what they deliver, in that order."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from ov2kit.errors import DataError
from ov2kit.recipes.data.dataset import Delivered, Wanted, prepare_worker


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
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    f"a data worker died after {count} deliveries ({' '.join(str(error).split())}); it was killed, "
                    "often for want of memory: use fewer workers, smaller canvases, or num_workers=0 to see the record"
                ) from error
            count += 1
            yield delivered

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
