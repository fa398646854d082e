"""The end of a run is always in last.ckpt, and a run resumed from it goes on as if it had not ended."""

import pytest
from lightning.pytorch.callbacks import Callback, Timer

from ov2kit.cli import run
from ov2kit.recipes import LitLlavaOneVision2
from ov2kit.recipes.model.starting import read_checkpoint
from ov2kit.recipes.training.run_checkpoint import is_ending
from tests.runs import FLAT, Runs, curve, last

pytestmark = pytest.mark.usefixtures("one_thread")


STEPS = 8  # three batches an epoch
VALIDATED = ["--trainer.limit_val_batches", "1", "--trainer.val_check_interval", "1.0"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def runs(tmp_path, cache):
    return Runs(tmp_path, cache)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """The losses of a run that nothing interrupts, of training and of validation."""
    folder = Runs(tmp_path_factory.mktemp("whole"), cache).fit("a", "--trainer.max_steps", str(STEPS), *FLAT)
    return curve(folder)


@pytest.fixture(scope="module")
def validated(tmp_path_factory, cache):
    arguments = ["--trainer.max_steps", str(STEPS), *FLAT, *VALIDATED, "--trainer.check_val_every_n_epoch", "1"]
    folder = Runs(tmp_path_factory.mktemp("validated"), cache).fit("a", *arguments)
    return curve(folder), curve(folder, "val/loss")


def goes_on(runs, folder, done, whole, *more):
    """Resumed from the end at `done` steps, what is left of the whole run comes."""
    assert read_checkpoint(last(folder))["global_step"] == done
    steps = ["--trainer.max_steps", str(STEPS), *FLAT]
    rest = runs.fit("rest", *steps, *more, "--ckpt_path", str(last(folder)))
    assert {**curve(folder), **curve(rest)} == whole
    assert sorted(curve(rest)) == list(range(done, STEPS))
    assert read_checkpoint(last(rest))["global_step"] == STEPS
    return rest


class Stops(Callback):
    """As early stopping does it: a wish, somewhere in the run."""

    def __init__(self, step: int, at: str) -> None:
        super().__init__()
        self.step, self.at = step, at

    def _wish(self, trainer, at):
        if at == self.at and not trainer.sanity_checking and trainer.global_step >= self.step:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer, *_):
        self._wish(trainer, "batch")

    def on_validation_end(self, trainer, _):
        self._wish(trainer, "validation")

    def on_train_epoch_end(self, trainer, _):
        self._wish(trainer, "epoch")


ENDS = {
    "steps, none of them regular": (["--trainer.max_steps", "5", "--checkpoint.every_n_train_steps", "3"], 5),
    "steps, the last one regular": (["--trainer.max_steps", "4", "--checkpoint.every_n_train_steps", "2"], 4),
    "steps, with an epoch": (["--trainer.max_steps", "6", "--checkpoint.every_n_train_steps", "4"], 6),
    "epochs": (["--trainer.max_steps", "-1", "--trainer.max_epochs", "2"], 6),
    "without last.ckpt on the way": (["--trainer.max_steps", "5", "--checkpoint.save_last", "false"], 5),
    "a link": (["--trainer.max_steps", "5", "--checkpoint.save_last", "link", "--checkpoint.save_top_k", "-1",
                "--checkpoint.every_n_train_steps", "2"], 5),
    "asked to, in an epoch": (["--trainer.callbacks", f"{__name__}.Stops", "--trainer.callbacks.step", "4",
                               "--trainer.callbacks.at", "batch", "--trainer.max_steps", "8"], 4),
    "asked to, after an epoch": (["--trainer.callbacks", f"{__name__}.Stops", "--trainer.callbacks.step", "4",
                                  "--trainer.callbacks.at", "epoch", "--trainer.max_steps", "8"], 6),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_the_end_is_saved_and_goes_on(end, runs, whole):
    arguments, done = ENDS[end]
    folder = runs.fit("a", *FLAT, *arguments)
    assert sorted(curve(folder)) == list(range(done))
    goes_on(runs, folder, done, whole)


def test_a_regular_save_at_the_end_of_an_epoch_goes_on(runs, whole):
    """Lightning alone would give the epoch a batch more."""
    regular = [
        "--checkpoint.every_n_train_steps", "null", "--checkpoint.every_n_epochs", "1",
        "--checkpoint.save_top_k", "-1", "--checkpoint.save_on_train_epoch_end", "true",
    ]  # fmt: skip
    folder = runs.fit("a", *FLAT, *regular, "--trainer.max_steps", "8")
    kept = next(path for path in (folder / "checkpoints").iterdir() if "step=3" in path.name)
    rest = runs.fit("b", *FLAT, "--trainer.max_steps", "8", "--ckpt_path", str(kept))
    assert curve(rest) == {step: loss for step, loss in whole.items() if step >= 3}


@pytest.mark.parametrize(
    ("arguments", "done"),
    [
        (["--trainer.max_steps", "6"], 6),
        (["--trainer.max_steps", "-1", "--trainer.max_epochs", "1"], 3),
        (["--trainer.callbacks", f"{__name__}.Stops", "--trainer.callbacks.step", "2",
          "--trainer.callbacks.at", "validation", "--trainer.max_steps", "8"], 3),
    ],
    ids=["steps", "epochs", "asked to"],
)  # fmt: skip
def test_the_end_is_saved_where_validation_decides_what_is_kept(arguments, done, runs, validated):
    watched = [*VALIDATED, "--trainer.check_val_every_n_epoch", "1", "--checkpoint.monitor", "val/loss",
               "--checkpoint.save_top_k", "1"]  # fmt: skip
    folder = runs.fit("a", *FLAT, *watched, *arguments)
    state = next(v for k, v in read_checkpoint(last(folder))["callbacks"].items() if "Checkpoint" in k)
    rest = goes_on(runs, folder, done, validated[0], *VALIDATED, "--trainer.check_val_every_n_epoch", "1")
    assert {**curve(folder, "val/loss"), **curve(rest, "val/loss")} == validated[1]
    # the best of a run too short for a regular save is its end, and says so after it
    best = [path for path in (folder / "checkpoints").iterdir() if path.name != "last.ckpt"]
    assert len(best) == 1
    assert read_checkpoint(best[0])["global_step"] == done
    assert state["monitor"] == "val/loss"


def test_time_ends_a_run_between_two_steps(runs, whole, monkeypatch):
    """The clock of Lightning's timer jumps to the next day in the fifth step."""
    step, clock = LitLlavaOneVision2.training_step, {"seconds": 0.0}

    def training_step(module, batch, batch_idx):
        clock["seconds"] = 90_000.0 if module.global_step == 4 else 0.0
        return step(module, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(LitLlavaOneVision2, "training_step", training_step)
        patched.setattr(Timer, "time_elapsed", lambda *_: clock["seconds"])
        folder = runs.fit("a", *FLAT, "--trainer.max_steps", str(STEPS), "--trainer.max_time", "01:00:00:00")
    goes_on(runs, folder, 5, whole)


def test_a_run_that_has_to_go_on_is_not_ending():
    """`min_steps` holds a wish to stop back; only the last batch of the last epoch is the end of epochs."""

    class Trainer:
        max_steps, global_step, min_steps, min_epochs, max_epochs, current_epoch = -1, 4, 5, None, 2, 1
        should_stop = True

        class fit_loop:  # noqa: N801
            class epoch_loop:  # noqa: N801
                class batch_progress:  # noqa: N801
                    is_last_batch = False

    assert not is_ending(Trainer)
    Trainer.min_steps = 4
    assert is_ending(Trainer)
    Trainer.should_stop = False
    assert not is_ending(Trainer)
    Trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    assert is_ending(Trainer)
    Trainer.current_epoch = 0
    assert not is_ending(Trainer)


# -- monitors


EARLY = ["--trainer.callbacks", "lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor"]
KEEPS = ["--checkpoint.save_top_k", "1", "--checkpoint.monitor"]


@pytest.mark.parametrize(
    ("arguments", "message", "steps"),
    [
        ([*KEEPS, "val/los", *VALIDATED, "--trainer.check_val_every_n_epoch", "1"], "did you mean 'val/loss'?", 3),
        ([*KEEPS, "val/los", *VALIDATED, "--trainer.check_val_every_n_epoch", "2",
          "--trainer.num_sanity_val_steps", "1"], "did you mean 'val/loss'?", 0),
        ([*KEEPS, "los"], "checkpoint.monitor 'los' is not logged; did you mean 'loss'?", 2),
        ([*KEEPS, "los", "--trainer.log_every_n_steps", "50"], "checkpoint.monitor 'los' is not logged", 5),
        ([*KEEPS, "val/loss"], "this run has none: give data.sources.val_path", 0),
        ([*KEEPS, "val/exact"], "'val/exact' is better where it is higher: set checkpoint.mode to max", 0),
        (["--checkpoint.monitor", "loss"], "set checkpoint.save_top_k to 1 or more", 0),
        ([*EARLY, "val/los", *VALIDATED, "--trainer.check_val_every_n_epoch", "1"],
         "EarlyStopping.monitor 'val/los'", 3),
        ([*EARLY, "los"], "EarlyStopping.monitor 'los' is not logged; did you mean 'loss'?", 2),
        ([*EARLY, "loss", "--trainer.callbacks.mode", "max"], "set EarlyStopping.mode to min", 0),
    ],
)  # fmt: skip
def test_a_monitor_that_cannot_work_is_one_line(arguments, message, steps, runs, capsys):
    folder = runs.fit("a", "--trainer.max_steps", "5", *arguments, status=2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    if " is not logged" in message and "val/" not in message:
        assert "gradient_norm" in error  # what is logged is named
    done = curve(folder) if (folder / "metrics.csv").exists() else {}
    assert len(done) <= steps


def test_monitors_that_work_are_left_alone(runs):
    folder = runs.fit("a", "--trainer.max_steps", "4", *VALIDATED, "--trainer.check_val_every_n_epoch", "1", *EARLY,
                      "val/loss", *KEEPS, "loss", "--checkpoint.every_n_train_steps", "1")  # fmt: skip
    kept = {path.name for path in (folder / "checkpoints").iterdir()}
    losses = curve(folder)
    best = min(losses, key=losses.__getitem__)
    assert kept == {"last.ckpt", f"epoch={best // 3}-step={best + 1}.ckpt"}
    assert run(["validate", "--ckpt_path", str(last(folder)), "--config", "debug.yaml", "--out", str(runs.folder / "v"),
                "--data.loading.cache", str(runs.cache), "--data.tokens.max_pixels", "4000"]) == 0  # fmt: skip
