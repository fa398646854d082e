"""Two processes on the CPU learn what one does: DDP and FSDP2.

Every process takes half of the batch of the one. The loss is the mean over the supervised tokens of
both, so the curves agree up to the order of sums. One of the runs is started as a user starts it; the others
are runs of two processes that stay, because the libraries take longer to import than the runs last.
"""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from lightning.pytorch.callbacks import Callback

from ov2kit.cli import run
from ov2kit.recipes import LitLlavaOneVision2
from tests.codec.live.senders import free_port
from tests.recipes.datasets.machine import Machine
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


def words(cache, out, *arguments, batch):
    return [
        "fit", "--config", "debug.yaml",
        "--data.sources.path", str(cache / "records.jsonl"), "--data.sources.val_path", "null",
        "--data.loading.cache", str(cache / "canvases"), "--data.tokens.max_pixels", "4000",
        "--data.order.batch_size", str(batch), "--out", str(out), "--trainer.max_steps", str(STEPS), *arguments,
    ]  # fmt: skip


class Ranks:
    """Two processes, each of which Lightning takes for one of those that it would start."""

    def __init__(self, machines):
        self.machines = machines

    def fit(self, *arguments, batch=2, status=0):
        """What both wrote to their standard errors."""
        command = words(*arguments, "--trainer.devices", "2", batch=batch)
        for machine in self.machines:
            machine.send("ov2kit.cli:run", command)
        said = [machine.receive() for machine in self.machines]
        assert [each.value for each in said] == [status] * 2, [(each.err[-2000:], each.error) for each in said]
        return "".join(each.err for each in said)


@pytest.fixture(scope="module")
def ranks():
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    with contextlib.ExitStack() as stack:
        alike = {**os.environ, **place, "CUDA_VISIBLE_DEVICES": ""}
        yield Ranks([stack.enter_context(Machine({**alike, "LOCAL_RANK": str(rank)})) for rank in range(2)])


class Terminated(Callback):
    """The first process gets a signal in its third step."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2 and trainer.global_rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)


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
    assert run(words(cache, out, batch=4)) == 0
    return curve(out), weights(out)


def weights(out):
    return LitLlavaOneVision2(start=str(out / "version_0" / "checkpoints" / "last.ckpt")).model.state_dict()


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_does(way, cache, alone, ranks, tmp_path):
    if way == "ddp":
        command = [sys.executable, "-m", "ov2kit"]
        command += words(cache, tmp_path, *WAYS[way], "--trainer.devices", "2", batch=2)
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        err = done.stderr
        assert done.returncode == 0, err[-2000:]
    else:
        err = ranks.fit(cache, tmp_path, *WAYS[way])
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


def test_two_processes_learn_the_same_from_shards(cache, alone, ranks, tmp_path):
    """Each reads its half of the rows, whose videos are in the shards alone."""
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(cache / "records.jsonl", bare)
    tokens = ["--budget_canvases", "4", "--max_pixels", "4000"]
    made = ["--column", "videos", "--out", str(tmp_path / "shards"), "--videos_per_shard", "1", "--quiet"]
    assert run(["dataset", str(cache / "records.jsonl"), *made, *tokens]) == 0
    shards = ["--data.sources.shards", str(tmp_path / "shards")]
    ranks.fit(bare, tmp_path, *WAYS["ddp"], *shards)
    assert list(curve(tmp_path).values()) == pytest.approx(list(alone[0].values()), rel=2e-4)


@pytest.mark.parametrize("way", ["fsdp2"])
def test_two_processes_stop_and_go_on(way, cache, alone, ranks, tmp_path):
    """The signal reaches one of them; both stop after the same step."""
    stops = ["--trainer.callbacks", f"{__name__}.Terminated"]
    err = ranks.fit(cache, tmp_path / "a", *WAYS[way], *stops, status=128 + signal.SIGTERM)
    assert "go on with --ckpt_path" in err
    stopped = curve(tmp_path / "a")
    assert set(stopped) == {0, 1, 2}
    last = str(tmp_path / "a" / "version_0" / "checkpoints" / "last.ckpt")
    ranks.fit(cache, tmp_path / "b", *WAYS[way], "--ckpt_path", last)
    found = {**stopped, **curve(tmp_path / "b")}
    assert list(found.values()) == pytest.approx(list(alone[0].values()), rel=2e-4)
