"""Datasets made on a Ray cluster of two nodes, in a process of its own: one node dies in mid-run."""

import json
import random
import sys
import time
from pathlib import Path

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.limits import Limits
from ov2kit.recipes.datasets.work import Recipe
from tests.patience import PATIENCE
from tests.recipes.datasets.processes import children, title
from tests.recipes.datasets.tokenizers import Held, Segfaults, Traced


def has_actor(node):
    """Whether an actor of a dataset lives there: right below its raylet."""
    raylet = node.all_processes["raylet"][0].process.pid
    return any(title(process).startswith(b"ray::MapWorker") for process in children(raylet))


def main(videos, folder):
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
    items, killed = find_items([videos]), []
    shuffled = random.Random(0).sample(items, len(items))
    held = Held(Path(folder, "free"))

    def kill_the_node(counts, done, total):
        if not killed:
            while not has_actor(node):
                time.sleep(0.1)
            cluster.remove_node(node, allow_graceful=False)
            killed.append(done)
            held.free.touch()

    said = {}
    cases = {
        "one": (Traced(), 1, items[::-1], {}),
        "crash": (Segfaults(Path(folder, "log")), 2, shuffled, {}),
        "killed": (held, 4, shuffled, {"progress": kill_the_node}),
    }
    for name, (tokenizer, workers, given, options) in cases.items():
        said[name] = build_shards(
            given, Path(folder, name), Recipe(tokenizer, limits=Limits(seconds=PATIENCE)), engine="ray",
            workers=workers, videos_per_shard=3, **options,
        )  # fmt: skip
    again = Traced(Path(folder, "again"))
    build_shards(items, Path(folder, "one"), Recipe(again), engine="ray", videos_per_shard=3)
    Path(folder, "said.json").write_text(json.dumps({"said": said, "killed": killed, "again": again.calls()}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
