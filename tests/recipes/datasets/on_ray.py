"""Datasets made on a Ray cluster of two nodes beside its head, in a process of its own: one node dies in mid-run."""

import json
import sys
from pathlib import Path

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.limits import Limits
from ov2kit.recipes.datasets.work import Recipe
from tests.recipes.datasets.tokenizers import Segfaults, Slow, Traced


def has_actor(node):
    """Whether an actor of a dataset lives there: below its raylet, by the title that Ray gives it."""
    raylet = node.all_processes["raylet"][0].process.pid
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == raylet:
                title = path.with_name("cmdline").read_bytes()
                if title.startswith(b"ray::MapWorker"):
                    return True
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    return False


def main(videos, folder):
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
    items, killed = find_items([videos]), []

    def kill_a_node(counts, done, total):
        if not killed and done < total:
            cluster.remove_node(next(filter(has_actor, nodes)), allow_graceful=False)
            killed.append(done)

    said = {}
    cases = {
        "one": (Traced(), 1, items[::-1], {}),
        "crash": (Segfaults(Path(folder, "log")), 2, items, {}),
        "killed": (Slow(), 4, items, {"progress": kill_a_node}),
    }
    for name, (tokenizer, workers, given, options) in cases.items():
        said[name] = build_shards(
            given, Path(folder, name), Recipe(tokenizer, limits=Limits(seconds=120.0)), engine="ray", workers=workers,
            videos_per_shard=3, **options,
        )  # fmt: skip
    again = Traced(Path(folder, "again"))
    build_shards(items, Path(folder, "one"), Recipe(again), engine="ray", videos_per_shard=3)
    Path(folder, "said.json").write_text(json.dumps({"said": said, "killed": killed, "again": again.calls()}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
