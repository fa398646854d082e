"""Two processes on the CPU learn what one does: DDP and FSDP2, each started as a user starts them.

Every process takes half of the batch of the one. The loss is the mean over the supervised tokens of
both, so the curves agree up to the order of sums.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from ov2kit.cli import run
from ov2kit.recipes import LitLlavaOneVision2
from tests.recordings import make_media

FSDP2 = [
    "--trainer.strategy", "lightning.pytorch.strategies.ModelParallelStrategy",
    "--trainer.strategy.data_parallel_size", "2", "--trainer.strategy.tensor_parallel_size", "1",
]  # fmt: skip
WAYS = {
    "ddp": ["--trainer.strategy", "ddp"],
    "fsdp2": [*FSDP2, "--trainer.strategy.save_distributed_checkpoint", "false"],
    "fsdp2-shards": FSDP2,
}
STEPS = 6


def start(cache, out, *arguments, batch):
    command = [
        sys.executable, "-m", "ov2kit", "fit", "--config", "debug.yaml",
        "--data.sources.path", str(cache / "records.jsonl"), "--data.sources.val_path", "null",
        "--data.loading.cache", str(cache / "canvases"), "--data.tokens.max_pixels", "4000",
        "--data.order.batch_size", str(batch), "--out", str(out), "--trainer.max_steps", str(STEPS), *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, status=0):
    _, err = process.communicate(timeout=240)
    assert process.returncode == status, err[-2000:]
    return err


def curve(folder):
    with (folder / "version_0" / "metrics.csv").open() as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file) if row["loss"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Answers of very different length, some about one of three clips, some about nothing: halves of a batch differ."""
    folder = tmp_path_factory.mktemp("cache")
    make_media(folder, 3, 0)
    with (folder / "records.jsonl").open("w") as file:
        for i in range(12):
            answer = " ".join(["yes"] * (1 + 5 * (i % 4)))
            shown = {"videos": [f"clip_{i // 3 % 3}.mp4"]} if i % 3 == 0 else {}
            turns = [
                {"role": "user", "content": ("<video>\n" if shown else "") + f"Question {i}?"},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"id": f"r{i}", "messages": turns, **shown}) + "\n")
    return folder


@pytest.fixture(scope="module")
def alone(cache, tmp_path_factory):
    """The run of one process: its losses and its weights."""
    out = tmp_path_factory.mktemp("alone")
    finish(start(cache, out, batch=4))
    return curve(out), weights(out)


def weights(out):
    return LitLlavaOneVision2(start=str(out / "version_0" / "checkpoints" / "last.ckpt")).model.state_dict()


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_does(way, cache, alone, tmp_path):
    err = finish(start(cache, tmp_path, *WAYS[way], "--trainer.devices", "2", batch=2))
    losses, learned = alone
    found = curve(tmp_path)
    assert found.keys() == losses.keys() == set(range(STEPS))
    assert list(found.values()) == pytest.approx(list(losses.values()), rel=2e-4)
    assert losses[STEPS - 1] < losses[0] - 0.5
    together = weights(tmp_path)
    assert together.keys() == learned.keys()
    # AdamW divides by the size of gradients, so what is left of rounding shows most where they are smallest
    assert max((together[name] - learned[name]).abs().max().item() for name in learned) < 5e-4
    assert err.count(f"step {STEPS}/{STEPS}") == 1  # one of them speaks


def test_two_processes_learn_the_same_from_shards(cache, alone, tmp_path):
    """Each reads its half of the rows, whose videos are in the shards alone."""
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(cache / "records.jsonl", bare)
    tokens = ["--budget_canvases", "4", "--max_pixels", "4000"]
    made = ["--column", "videos", "--out", str(tmp_path / "shards"), "--videos_per_shard", "1", "--quiet"]
    assert run(["dataset", str(cache / "records.jsonl"), *made, *tokens]) == 0
    shards = ["--data.sources.shards", str(tmp_path / "shards")]
    finish(start(bare, tmp_path, *WAYS["ddp"], *shards, "--trainer.devices", "2", batch=2))
    assert list(curve(tmp_path).values()) == pytest.approx(list(alone[0].values()), rel=2e-4)


@pytest.mark.parametrize("way", ["fsdp2"])
def test_two_processes_stop_and_go_on(way, cache, alone, tmp_path):
    """The signal reaches one of them; both stop after the same step."""
    many = [*WAYS[way], "--trainer.devices", "2"]
    slow = ["--trainer.callbacks", "tests.slow_steps.SlowSteps"]
    first = start(cache, tmp_path / "a", *many, *slow, batch=2)
    while not (steps := first.stderr.readline()).startswith("step 2/"):
        assert steps or first.poll() is None
    os.kill(first.pid, signal.SIGTERM)
    err = finish(first, 128 + signal.SIGTERM)
    assert "go on with --ckpt_path" in err
    stopped = curve(tmp_path / "a")
    assert 2 <= len(stopped) < STEPS
    last = str(tmp_path / "a" / "version_0" / "checkpoints" / "last.ckpt")
    finish(start(cache, tmp_path / "b", *many, "--ckpt_path", last, batch=2))
    found = {**stopped, **curve(tmp_path / "b")}
    assert list(found.values()) == pytest.approx(list(alone[0].values()), rel=2e-4)
