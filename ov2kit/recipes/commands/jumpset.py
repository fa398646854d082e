"""`ov2kit jumpset`: make a JumpScore-like set of rendered, encoded clips."""

import json

from jsonargparse import ArgumentParser, Namespace

from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.encode import ENCODINGS
from ov2kit.recipes.evidence.films.jumpset import make_jumpset
from ov2kit.recipes.evidence.films.rendered_set import SPLITS


def parser() -> ArgumentParser:
    """Options of `ov2kit jumpset`."""
    command = ArgumentParser(description="Make a JumpScore-like set of rendered, encoded clips.", exit_on_error=False)
    command.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    command.add_argument("--clips", type=int, default=512, help="of all splits; an eighth each is val and test")
    command.add_argument("--seed", type=int, default=0, help="decides every clip")
    command.add_argument("--size", type=int, default=96, help="edge of the pictures in pixels")
    command.add_argument("--encoding", default="h264-mix", choices=["h264-mix", *ENCODINGS], help="codec and settings")
    command.add_argument("--processes", type=int, default=1, help="clips made side by side")
    command.add_class_arguments(Difficulty, "difficulty")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit jumpset`."""
    knobs = Difficulty(**parsed.difficulty.as_dict())
    folder = make_jumpset(
        parsed.out, parsed.clips, seed=parsed.seed, size=parsed.size, encoding=parsed.encoding,
        difficulty=knobs, processes=parsed.processes,
    )  # fmt: skip
    counts = {split: len(json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))) for split in SPLITS}
    print(f"{folder}: " + ", ".join(f"{n} {split}" for split, n in counts.items()) + f" clips as {parsed.encoding}")
    return 0
