"""A dataset: items -> shards, going on where the last run ended, whatever ended it.

    out/shards/shard-000000.tar ...   WebDataset samples
    out/manifest.parquet              one row per video; there only while the shards are complete
    out/timings.parquet               seconds per stage, which no two runs share
    out/dataset.json                  what decides the bytes of a sample
    out/state/                        what has been done so far

The content of each shard follows from the sorted items alone: so many per shard, those that gave nothing left out.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ov2kit.errors import DataError, OutputError, check_choice, check_number
from ov2kit.recipes.datasets.directories import FOLDER
from ov2kit.recipes.datasets.inputs import Item, fingerprint, staged
from ov2kit.recipes.datasets.local_engine import Outcome, run_local
from ov2kit.recipes.datasets.lock import is_of_locks, locked
from ov2kit.recipes.datasets.piece import read_piece
from ov2kit.recipes.datasets.shards import ShardFolder, is_known_by_content
from ov2kit.recipes.datasets.storage import LocalStorage, Storage
from ov2kit.recipes.datasets.work import Recipe

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
#: made from the shards when they are complete, and gone while they are not
FINISHED = ("manifest.parquet", "timings.parquet", "summary.html")
#: why a video that is not there, or of which nothing can be asked, is looked at again
UNREADABLE = "cannot be read"


@dataclass
class Plan:
    """What a run has to do.

    Args:
        groups: (item, fingerprint) of each shard.
        first: number of the first shard that is not as it should be; it and all after it are put together again,
            from finished samples where there are any.
        reasons: item name -> why it is looked at again.
    """

    groups: list[list[tuple[Item, str]]]
    first: int
    reasons: dict[str, str] = field(default_factory=dict)


def plan_run(items: Sequence[Item], shards: ShardFolder, per_shard: int, *, retry_failed: bool = False) -> Plan:
    """Compare what there is with what there should be."""
    check_number("videos_per_shard", per_shard, low=1, integer=True)
    known = [(item, fingerprint(item)) for item in items]
    groups = [known[start : start + per_shard] for start in range(0, len(known), per_shard)]
    first, before = len(groups), dict[str, tuple[str, str]]()
    for number in sorted({*shards.numbers(), *range(len(groups))}):
        state = shards.load(number)
        wanted = [(item.name, mark) for item, mark in groups[number]] if number < len(groups) else []
        failed = retry_failed and state is not None and any(row["status"] == "failed" for row in state.rows)
        if state is None or state.items != wanted or failed or not all(mark for _, mark in wanted):
            first = min(first, number)
        if state is not None:
            before |= {name: (mark, row["status"]) for (name, mark), row in zip(state.items, state.rows, strict=True)}
    plan = Plan(groups, first)
    for group in groups[first:]:
        for item, mark in group:
            said, status = before.get(item.name, ("", ""))
            if not said:
                plan.reasons[item.name] = "not finished yet" if mark else UNREADABLE
            elif said != mark:
                plan.reasons[item.name] = "changed since it was read"
            elif status == "failed" and retry_failed:
                plan.reasons[item.name] = "failed, and is tried again"
            else:
                plan.reasons[item.name] = "finished; only its shard is put together again"
    return plan


def find_changes(storage: Storage, recipe: Recipe) -> list[str] | None:
    """What differs between the options and format of a dataset and those of a recipe; None where there is no dataset.

    Raises:
        OutputError: something else is there.
    """
    try:
        found = json.loads(storage.read("dataset.json"))
    except FileNotFoundError:
        if others := [name for name in storage.names() if name != "state"]:
            raise OutputError(
                f"{storage.root}: expected an empty folder or a dataset, found {others[0]}; choose another place"
            ) from None
        return None
    except NotADirectoryError:
        raise OutputError(
            f"{storage.root}: expected a folder for the dataset, and it or one above it is a file; choose another place"
        ) from None
    except (ValueError, OSError) as error:
        path = storage.place("dataset.json")
        raise OutputError(f"{path}: not readable ({error}); choose another place") from error
    return list(_changes(found, recipe.facts()))


def check_recipe(storage: Storage, recipe: Recipe, *, overwrite: bool = False) -> bool:
    """Whether the folder holds a dataset made in this way.

    Raises:
        OutputError: it holds something else, or a dataset made with other options and `overwrite` is not given.
    """
    changed = find_changes(storage, recipe)
    if changed and not overwrite:
        raise OutputError(
            f"{storage.root}: was made with other options ({'; '.join(changed)}); pass --overwrite to replace it"
        )
    return changed == []


def _changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} {old} -> {new}"


def build_shards(
    items: Sequence[Item],
    folder: Path | str,
    recipe: Recipe,
    *,
    engine: Engine = "local",
    workers: int = 1,
    videos_per_shard: int = 256,
    attempts: int = 2,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: Callable[[dict[str, int], int, int], None] = lambda counts, done, total: None,
    finish: Callable[[ShardFolder], object] = lambda shards: None,
) -> Counter[str]:
    """Tokenize all items into shards; what is finished already stays.

    Args:
        items: from `find_items`; their order decides nothing.
        folder: of the dataset, a path or a URL that fsspec knows.
        recipe: how each video is treated.
        engine: "local" processes, or actors of "ray"; no result depends on it.
        workers: processes; no result depends on their number.
        videos_per_shard: items per shard, whether they give something or not.
        attempts: how often a video is tried whose worker dies or takes too long.
        overwrite: replace a dataset that was made with other options.
        retry_failed: try videos again that failed in an earlier run.
        progress: called with the counts of this run by kind of outcome, items done and items to do.
        finish: called with the finished shards, for what is made of them while no other run may change them.

    Returns:
        Rows by status.

    Raises:
        OutputError: the folder cannot be written, holds something else, or another run is at work there.
    """
    check_choice("engine", engine, ENGINES)
    check_number("workers", workers, low=1, integer=True)
    check_number("attempts", attempts, low=1, integer=True)
    check_number("videos_per_shard", videos_per_shard, low=1, integer=True)
    shards = ShardFolder(folder)
    storage = shards.storage
    check_recipe(storage, recipe, overwrite=overwrite)  # before a lock is left in a folder of something else
    with locked(storage) as check:
        if not check_recipe(storage, recipe, overwrite=overwrite):
            states = (f"state/{name}" for name in storage.names("state") if not is_of_locks(name))
            for name in (*FINISHED, "dataset.json", "shards", FOLDER, *states):
                storage.remove(name)
            with storage.write("dataset.json") as file:
                file.write(f"{json.dumps(recipe.facts(), indent=1, sort_keys=True)}\n".encode())
        if isinstance(storage, LocalStorage):
            storage.remove_partial()
        plan = plan_run(sorted(items), shards, videos_per_shard, retry_failed=retry_failed)
        if plan.first < len(plan.groups) or any(number >= plan.first for number in shards.numbers()):
            for name in FINISHED:
                storage.remove(name)
        for number in shards.numbers():
            if number >= plan.first:
                shards.take_apart(number, recipe, failures=not retry_failed)
        if retry_failed:
            for key in shards.pieces.names():
                if (piece := read_piece(shards.pieces, key)) is not None and piece.facts["status"] == "failed":
                    shards.pieces.remove(key)
        with tempfile.TemporaryDirectory() as scratch:
            _run(plan, shards, recipe, workers, attempts, progress, engine, scratch, check)
        check()
        shards.pieces.remove("")  # also what a run that had lost the place finished too late
        finish(shards)
        return Counter(row["status"] for row in shards.rows())


class _Done(Collection[str]):
    """Keys of results that are in a shard or lie there as an intact piece."""

    def __init__(self, finished: set[str], pieces: Storage) -> None:
        self.finished, self.pieces = finished, pieces

    def __contains__(self, key: object) -> bool:
        return key in self.finished or read_piece(self.pieces, str(key)) is not None

    def __iter__(self) -> Iterator[str]:
        yield from self.finished
        yield from (key for key in self.pieces.names() if key not in self.finished and key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _run(
    plan: Plan,
    shards: ShardFolder,
    recipe: Recipe,
    workers: int,
    attempts: int,
    progress: Callable[[dict[str, int], int, int], None],
    engine: Engine,
    scratch: str,
    check: Callable[[], None],
) -> None:
    seen = {row["sha256"]: row["name"] for row in shards.rows() if is_known_by_content(row)}
    finished = {recipe.key(sha256) for sha256 in seen}

    done = _Done(finished, shards.pieces)
    jobs = [(number, item) for number, group in enumerate(plan.groups[plan.first :]) for item, _ in group]
    left = [len(group) for group in plan.groups[plan.first :]]
    outcomes: dict[int, Outcome] = {}
    counts: Counter[str] = Counter()
    at = 0  # of the shards to be made: the first that is not
    numbered = enumerate(staged((item for _, item in jobs), scratch))
    run = run_local
    if engine == "ray":
        from ov2kit.recipes.datasets.ray_engine import run_ray as run
    for outcome in run(numbered, recipe, shards.pieces, workers=workers, attempts=attempts, done=done):
        check()
        outcomes[outcome.number] = outcome
        left[jobs[outcome.number][0]] -= 1
        counts[outcome.kind or "done"] += 1
        progress(counts, len(outcomes), len(jobs))
        while at < len(left) and left[at] == 0:
            group = plan.groups[plan.first + at]
            begin = sum(len(each) for each in plan.groups[plan.first : plan.first + at])
            mine = [outcomes[begin + place] for place in range(len(group))]
            shards.put_together(
                plan.first + at,
                [(item.name, mark) for item, mark in group],
                [(each.sha256, each.kind, each.reason) for each in mine],
                seen,
                recipe,
            )
            finished.update(recipe.key(each.sha256) for each in mine if each.sha256)
            at += 1
    if at < len(left):
        raise DataError(f"{shards.storage.root}: {sum(left)} videos have no outcome; run the command again")
