"""What a whole dataset will take, from a few of its videos."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ov2kit.errors import check_number
from ov2kit.recipes.datasets.inputs import Item, staged
from ov2kit.recipes.datasets.local_engine import run_local
from ov2kit.recipes.datasets.piece import read_piece
from ov2kit.recipes.datasets.storage import open_storage
from ov2kit.recipes.datasets.work import Recipe


@dataclass(frozen=True)
class Estimate:
    """Of all videos, from those that were tried.

    Args:
        videos: all.
        tried: of them.
        failed: of those that were tried.
        hours: wall time with as many workers; the time that they take to start is not in it.
        gigabytes: of shards, in 10**9 bytes.
        tokens: in all canvases.
        video_hours: of playing time.
    """

    videos: int
    tried: int
    failed: int
    hours: float
    gigabytes: float
    tokens: int
    video_hours: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.videos} videos, {self.video_hours:.4g} hours of playing time: about {self.hours:.3g} hours, "
            f"{self.gigabytes:.3g} GB of shards, {self.tokens} tokens (from {self.tried} videos, {self.failed} failed)"
        )


def estimate(items: Sequence[Item], recipe: Recipe, tries: int, workers: int) -> Estimate:
    """Do some of the videos, evenly spaced in their order, and multiply.

    Args:
        items: all videos.
        recipe: how they would be treated.
        tries: how many to do at most; more give a better estimate.
        workers: processes.
    """
    check_number("tries", tries, low=1, integer=True)
    count = min(tries, len(items))
    chosen = [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        pieces = open_storage(Path(folder, "pieces"))
        outcomes = run_local(enumerate(staged(chosen, folder)), recipe, pieces, workers=workers)
        found = [next(outcomes)]  # the first waits for the workers to start: the clock begins behind it
        begin = time.perf_counter()
        found += list(outcomes)
        wall = time.perf_counter() - begin
        made = [read_piece(pieces, recipe.key(each.sha256)) for each in found if each.sha256]
    good = [piece for piece in made if piece is not None and piece.facts["status"] == "ok"]
    if count == 1:
        wall = sum(sum(piece.seconds.values()) for piece in good)
    scale = len(items) / count
    return Estimate(
        videos=len(items),
        tried=count,
        failed=count - len(good),
        hours=wall / max(1, count - 1) * len(items) / 3600,
        gigabytes=sum(len(piece.members) for piece in good) * scale / 1e9,
        tokens=round(sum(piece.facts["tokens"] for piece in good) * scale),
        video_hours=sum(piece.facts["duration"] for piece in good) * scale / 3600,
    )
