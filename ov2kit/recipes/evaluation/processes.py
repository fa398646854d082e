"""Several processes that share an evaluation: which one this is, and where it writes."""

import os

from ov2kit.recipes.evaluation.predictions import PREDICTIONS


def processes(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world size) as given, else as torchrun and Slurm's torch launchers set them in the environment."""
    number = int(os.environ.get("RANK", "0")) if rank is None else rank
    return number, int(os.environ.get("WORLD_SIZE", "1")) if world_size is None else world_size


def log_name(rank: int, world_size: int) -> str:
    """The file of predictions that a process adds to; `read_folder` reads those of all."""
    return PREDICTIONS if world_size == 1 else f"predictions.rank-{rank}-of-{world_size}.jsonl"
