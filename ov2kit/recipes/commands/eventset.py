"""`ov2kit eventset`: make a set of small events on footage of many kinds, with the mask of each."""

from typing import get_args

from jsonargparse import ArgumentParser, Namespace

from ov2kit.recipes.evidence.films.encode import ENCODINGS
from ov2kit.recipes.evidence.films.event_actors import EventKind
from ov2kit.recipes.evidence.films.event_scene import FOOTAGE, EventScene
from ov2kit.recipes.evidence.films.eventset import EVENT_SPLITS, make_eventset, read_events


def parser() -> ArgumentParser:
    """Options of `ov2kit eventset`."""
    command = ArgumentParser(
        description="Make clips in which something small happens, with what it covers in each frame.",
        exit_on_error=False,
    )
    command.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    command.add_argument("--clips", type=int, default=2, help="of each kind of footage in each split")
    command.add_argument("--seed", type=int, default=0, help="decides every clip")
    command.add_argument("--footage", nargs="+", choices=list(FOOTAGE), help="kinds of footage; all by default")
    command.add_argument("--kinds", nargs="+", choices=get_args(EventKind), help="kinds of events; all by default")
    command.add_argument("--encoding", default="mix", choices=["mix", *ENCODINGS], help="codec and settings")
    command.add_argument("--real", nargs="+", default=[], metavar="FILE", help="videos to use as background")
    command.add_argument("--processes", type=int, default=1, help="clips made side by side")
    command.add_class_arguments(EventScene, "scene")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit eventset`."""
    folder = make_eventset(
        parsed.out, parsed.clips, seed=parsed.seed, footage=parsed.footage, encoding=parsed.encoding,
        kinds=parsed.kinds, real=parsed.real, scene=EventScene(**parsed.scene.as_dict()), processes=parsed.processes,
    )  # fmt: skip
    counts = {split: read_events(folder, split) for split in EVENT_SPLITS}
    parts = [f"{len(clips)} {split} ({sum(len(c.events) for c in clips)} events)" for split, clips in counts.items()]
    print(f"{folder}: {', '.join(parts)} as {parsed.encoding}")
    return 0
