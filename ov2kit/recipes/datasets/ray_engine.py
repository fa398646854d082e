"""The Ray engine: Ray Data gives videos to actors, on one machine or on a cluster.

What a video meets is the local engine: each actor is one worker of it, with the same bounds. Ray does the rest: it
finds the cluster (RAY_ADDRESS), spreads and bounds what is in flight, and gives what a lost node had to others.
"""

import logging
import os
import tempfile
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ov2kit.errors import DataError, OutputError
from ov2kit.recipes.datasets.inputs import Item
from ov2kit.recipes.datasets.local_engine import Outcome, run_local
from ov2kit.recipes.datasets.storage import Storage, open_storage
from ov2kit.recipes.datasets.stores import is_remote
from ov2kit.recipes.datasets.work import Recipe

#: tasks of a run at most: Ray keeps facts of each; with more videos, a task has several
_TASKS = 20_000


def run_ray(
    jobs: Iterable[tuple[int, Item]],
    recipe: Recipe,
    pieces: Storage,
    *,
    workers: int = 1,
    attempts: int = 2,
    done: Collection[str] = (),
) -> Iterator[Outcome]:
    """Do all items, see `run_local`. Pieces come back to this process, which writes them: nodes need not share a disk.

    Args:
        jobs: numbers and items; local paths must lie there on every node.
        recipe: how they are treated.
        pieces: where pieces go.
        workers: actors at most, each takes a core.
        attempts: how often a video is tried whose worker dies or takes too long.
        done: keys whose results are already there.

    Raises:
        OutputError: a piece cannot be written.
        DataError: workers cannot be started, or Ray cannot go on.
    """
    import pyarrow
    import ray.data
    from ray.exceptions import RayError

    rows = [
        {"number": number, **vars(item), "url": item.url if is_remote(item.url) else os.path.abspath(item.url)}
        for number, item in jobs
    ]
    if not rows:
        return
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except Exception as error:  # a plain one where a node does not come up in time
            raise DataError(f"Ray cannot be started ({' '.join(str(error).split())[:300]})") from error
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False
        found = ray.data.from_items(rows, override_num_blocks=min(len(rows), _TASKS)).map_batches(
            _Actor,
            fn_constructor_args=(recipe, attempts, ray.put(frozenset(done))),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
        )
        tables: Iterator[Any] = iter(found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
        for table in tables:
            for row in table.to_pylist():
                if row["piece"]:
                    with pieces.write(recipe.key(row["sha256"])) as file:
                        file.write(row["piece"])
                yield Outcome(row["number"], row["sha256"], row["kind"], row["reason"])
    except (RayError, pyarrow.ArrowException, ConnectionError) as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, OutputError | DataError):
            raise type(cause)(str(cause)) from error
        raise DataError(f"Ray cannot go on ({' '.join(str(error).split())[-300:]}); run the command again") from error


class _Actor:
    """A worker of the local engine, which keeps its process and tokenizer from one video to the next."""

    def __init__(self, recipe: Recipe, attempts: int, done: Any) -> None:
        import ray

        self.recipe = recipe
        self.folder = tempfile.TemporaryDirectory()
        self.pieces = open_storage(self.folder.name)
        self.inbox: deque[tuple[int, Item]] = deque()
        keys = ray.get(done) if isinstance(done, ray.ObjectRef) else done
        self.outcomes = run_local(self._jobs(), recipe, self.pieces, attempts=attempts, done=keys)

    def _jobs(self) -> Iterator[tuple[int, Item]]:
        while True:
            yield self.inbox.popleft()

    def __call__(self, batch: Any) -> Any:
        """A table of items -> a table of outcomes with their pieces."""
        import pyarrow

        rows = []
        for row in batch.to_pylist():
            self.inbox.append((row.pop("number"), Item(**row)))
            outcome = next(self.outcomes)
            key, piece = self.recipe.key(outcome.sha256), b""
            if outcome.sha256 and self.pieces.size(key) is not None:
                piece = self.pieces.read(key)
                self.pieces.remove(key)
            rows.append({**vars(outcome), "piece": piece})
        types = {"number": pyarrow.int64(), "piece": pyarrow.large_binary()}
        names = ("number", "sha256", "kind", "reason", "piece")
        return pyarrow.Table.from_pylist(
            rows, pyarrow.schema({name: types.get(name, pyarrow.string()) for name in names})
        )
