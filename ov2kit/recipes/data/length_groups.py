"""Batches of samples of similar length, the same number of them for every rank."""

import numpy as np

_POOL = 50  # batches of all ranks that are sorted together: similar lengths, yet other neighbors every epoch


def plan_batches(
    lengths: np.ndarray,
    batch_size: int,
    world_size: int = 1,
    *,
    seed: int = 0,
    epoch: int = 0,
    group_by_length: bool = True,
    shuffle: bool = True,
    keep_all: bool = False,
) -> list[list[np.ndarray]]:
    """Distribute samples over steps and ranks.

    With `group_by_length` the samples are taken in their order, 50 steps at a time, sorted by
    length within these and cut into steps, whose order is then shuffled. All ranks of a step get
    similar lengths too, so that none waits long for another.

    Args:
        lengths: (n,) of the samples, in the order of the epoch.
        batch_size: samples of a rank's batch.
        world_size: ranks.
        seed: of the run.
        epoch: of the run.
        group_by_length: else the order of the epoch is kept.
        shuffle: the order of steps; needs `group_by_length` to have an effect.
        keep_all: lose no sample. What is left over after whole steps is one more step, shared out
            evenly. Otherwise at most `world_size` - 1 samples are left out, so that no sample comes
            twice; with it, ranks without a share of the last step get a sample that another has too.

    Returns:
        For each step the places (in the order of the epoch) of every rank's batch; no batch is empty.

    Raises:
        ValueError: batch_size or world_size below 1.
    """
    if batch_size < 1 or world_size < 1:
        raise ValueError(f"batch_size and world_size must be at least 1, got {batch_size} and {world_size}")
    n, per_step = len(lengths), batch_size * world_size
    places = np.arange(n)
    rng = np.random.default_rng((seed, epoch, 4))
    if group_by_length:
        pool = per_step * _POOL
        pieces = [places[i : i + pool] for i in range(0, n, pool)]
        # Whole steps stay whole: only the last step of the last pool can be short.
        places = np.concatenate([p[np.argsort(-lengths[p], kind="stable")] for p in pieces]) if pieces else places
    steps = [places[i : i + per_step] for i in range(0, n, per_step)]
    if group_by_length and shuffle:
        steps = [steps[i] for i in rng.permutation(len(steps))]
    dealt = [_dealt(step, per_step, world_size, keep_all) for step in steps]
    if group_by_length and shuffle:  # or rank 0 would always have the longest
        dealt = [[p[i] for i in rng.permutation(world_size)] if len(p) else p for p in dealt]
    return [parts for parts in dealt if parts]


def _dealt(step: np.ndarray, per_step: int, world_size: int, keep_all: bool) -> list[np.ndarray]:
    """One batch per rank; none when there are not enough samples."""
    if len(step) < per_step and not keep_all:
        step = step[: len(step) // world_size * world_size]
    elif len(step) < world_size:
        step = np.concatenate([step, np.repeat(step[-1:], world_size - len(step))])
    return np.array_split(step, world_size) if len(step) else []
