"""`ov2kit dataset`: any number of videos -> shards of canvases and a manifest.

A command beside `tokenize`, which writes a directory per video under its name and is done: here results are known by
content, workers may die, and the whole goes on where it ended.
"""

import json
import sys
from collections.abc import Callable

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from ov2kit.codec.commands.options import add_tokenizer_options, tokenizer_of
from ov2kit.errors import check_number, needs_extra
from ov2kit.recipes.datasets.build import ENGINES, UNREADABLE, build_shards, find_changes, plan_run
from ov2kit.recipes.datasets.directories import write_directories
from ov2kit.recipes.datasets.estimate import estimate
from ov2kit.recipes.datasets.inputs import Item, find_items
from ov2kit.recipes.datasets.limits import Limits
from ov2kit.recipes.datasets.piece import IMAGES
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.summary import write_summary
from ov2kit.recipes.datasets.work import Recipe


def parser() -> ArgumentParser:
    """Options of `ov2kit dataset`."""
    command = ArgumentParser(
        description="Turn any number of videos into shards of canvases and a manifest.", exit_on_error=False
    )
    command.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="videos, folders, globs, .tar files, or lists: .txt, .json, .jsonl, .parquet",
    )
    command.add_argument(
        "--out", required=True, metavar="DIR", help="folder or URL of the dataset; a run that ended goes on"
    )
    command.add_argument("--column", default="video", help="of .json, .jsonl and .parquet lists: holds the paths")
    command.add_argument("--media_root", metavar="DIR", help="what relative paths in lists are relative to")
    command.add_argument("--images", default="png", choices=IMAGES, help="format of the canvases in the shards")
    command.add_argument("--engine", default="local", choices=ENGINES, help="processes of this machine, or Ray Data")
    command.add_argument("--assets", action="store_true", help="also write each sample as an asset directory")
    command.add_argument("--workers", type=int, default=1, help="processes; no result depends on their number")
    command.add_argument("--videos_per_shard", type=int, default=256, help="videos per shard")
    command.add_argument("--overwrite", action="store_true", help="replace a dataset made with other options")
    command.add_argument("--retry_failed", action="store_true", help="try videos again that failed in an earlier run")
    command.add_argument("--explain", action="store_true", help="print what would be done for each video, and why")
    command.add_argument("--dry_run", type=int, default=0, metavar="N", help="try N videos, and estimate the whole")
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.add_class_arguments(Limits, "limits")
    add_tokenizer_options(command)
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit dataset`: 0 also where videos failed, which the manifest records."""
    check_number("dry_run", parsed.dry_run, low=0, integer=True)
    check_number("workers", parsed.workers, low=1, integer=True)
    with needs_extra("'ov2kit dataset'"):
        from ov2kit.recipes.datasets.manifest import write_manifest

        if parsed.engine == "ray":
            import ray.data  # noqa: F401
    recipe = Recipe(tokenizer_of(parsed), parsed.images, Limits(**parsed.limits.as_dict()))
    items = find_items(parsed.inputs, parsed.column, parsed.media_root)
    if parsed.dry_run:
        found = estimate(items, recipe, parsed.dry_run, parsed.workers)
        print(json.dumps(found.to_dict()) if parsed.json else found)
        return 0
    shards = ShardFolder(parsed.out)
    if parsed.explain:
        return _explain(items, shards, recipe, parsed)
    manifest = summary = ""

    def finish(shards: ShardFolder) -> None:
        nonlocal manifest, summary
        if parsed.assets:
            write_directories(shards)
        manifest, summary = write_manifest(shards), write_summary(shards)

    with tqdm(total=len(items), unit=" videos", disable=parsed.quiet or None, file=sys.stderr) as bar:
        counts = build_shards(
            items, parsed.out, recipe, engine=parsed.engine, workers=parsed.workers,
            videos_per_shard=parsed.videos_per_shard, overwrite=parsed.overwrite, retry_failed=parsed.retry_failed,
            progress=_drawing(bar), finish=finish,
        )  # fmt: skip
    facts = {"out": parsed.out, "manifest": manifest, "summary": summary, "videos": len(items), **counts}
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(json.dumps(facts) if parsed.json else f"{parsed.out}: {len(items)} videos ({said}) -> {manifest}")
    return 0


def _drawing(bar: "tqdm[None]") -> Callable[[dict[str, int], int, int], None]:
    def draw(counts: dict[str, int], done: int, total: int) -> None:
        bar.total = total
        bar.set_postfix({kind: count for kind, count in counts.items() if kind != "done"}, refresh=False)
        bar.update(done - bar.n)

    return draw


def _explain(items: list[Item], shards: ShardFolder, recipe: Recipe, parsed: Namespace) -> int:
    """What a run would do, video by video; nothing is written."""
    changed = find_changes(shards.storage, recipe)
    plan = plan_run(items, shards, parsed.videos_per_shard, retry_failed=parsed.retry_failed)
    for number, group in enumerate(plan.groups):
        for item, mark in group:
            if not mark:
                reason = UNREADABLE
            elif changed is None:
                reason = "no dataset is there"
            elif changed:
                reason = f"the dataset was made with other options ({'; '.join(changed)})"
            elif number < plan.first:
                reason = "finished"
            else:
                reason = plan.reasons[item.name]
            print(json.dumps({"name": item.name, "why": reason}) if parsed.json else f"{item.name}: {reason}")
    return 0
