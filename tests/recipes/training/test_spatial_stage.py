"""Stage 4 as it is shipped, on captions and on tracks and points of a set with masks."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from ov2kit.cli import run
from ov2kit.recipes.commands.train import RecipeCLI
from ov2kit.recipes.evidence.films.tracking_scene import TrackingScene
from ov2kit.recipes.evidence.films.tracking_set import make_tracking_set
from ov2kit.recipes.spatial.layouts import read_referring
from ov2kit.recipes.spatial.set_records import write_picture_records, write_track_records
from tests.paths import SAMPLE
from tests.recipes.training.test_configs import SMALL, flags, rows

pytestmark = pytest.mark.usefixtures("one_thread")


def make_sources(folder: Path) -> list[str]:
    """One clip with captions, and tracks and points of rendered ones."""
    scene = TrackingScene(seconds=2.0, pillars=0.0)
    items = read_referring(make_tracking_set(folder / "set", (1, 1, 2), seed=3, scene=scene))
    paths = [folder / f"{name}.jsonl" for name in ("captions", "tracks", "points")]
    turns = [{"role": "user", "content": "<video>\nDescribe it."}, {"role": "assistant", "content": "A rabbit wakes."}]
    captions = [{"id": f"caption{k}", "messages": turns, "videos": [str(SAMPLE)]} for k in range(3)]
    paths[0].write_text("".join(json.dumps(line) + "\n" for line in captions))
    assert write_track_records(items, paths[1]) == len(items)
    assert write_picture_records(items, paths[2]) >= len(items)
    return [str(path) for path in paths]


def test_stage_4_takes_steps_on_captions_tracks_and_points_in_their_shares(tmp_path):
    paths = make_sources(tmp_path)
    small = SMALL | {
        "data.sources.path": json.dumps(paths), "out": str(tmp_path / "run"),
        "data.loading.cache": str(tmp_path / "cache"),
        "data.order.pack_length": 2048, "data.order.rows_per_epoch": 4, "data.tokens.budget_canvases": 2,
        "trainer.max_steps": 2, "trainer.log_every_n_steps": 1, "trainer.accumulate_grad_batches": 1,
    }  # fmt: skip
    arguments = ["--config", "stage4_codec.yaml", *flags(small)]
    assert run(["fit", *arguments]) == 0
    losses = [float(row["loss"]) for row in rows(tmp_path / "run" / "version_0") if row["loss"]]
    assert len(losses) == 2
    assert all(4 < loss < 8 for loss in losses)  # about ln(vocabulary) before anything is learned
    written = yaml.safe_load((tmp_path / "run" / "version_0" / "config.yaml").read_text())
    assert written["data"]["sources"]["shares"] == [0.75, 0.125, 0.125]

    data = RecipeCLI("fit", [*arguments, "--data.order.rows_per_epoch", "null", "--trainer.max_epochs", "1"], run=False)
    loader = data.datamodule.train_dataloader()
    names = [name for batch in loader for name in batch.names]
    files = {json.loads(line)["id"]: path for path in paths for line in Path(path).read_text().split("\n") if line}
    counts = Counter(Path(files[name]).stem for name in names)
    exact = {"captions": 0.75, "tracks": 0.125, "points": 0.125}
    assert sum(counts.values()) == len(files)
    assert all(abs(counts[stem] - share * len(files)) < 1 for stem, share in exact.items())
