"""README's "Swap a part": every command changes what is computed, on the config it names."""

import re
import shlex

import pytest

from tests.paths import ROOT
from tests.runs import Runs, curve

pytestmark = pytest.mark.usefixtures("one_thread")


README = ROOT / "README.md"
#: what else a comment offers, with what it needs beside it
OFFERED = {
    "--data.tokens.grouping": ["readiness"],
    "--data.tokens.saliency": ["motion", "luma", "random"],
    "--model.positions": ["exact", "none"],
    "--model.visibility": ["canvas"],
}


def commands() -> list[list[str]]:
    text = README.read_text(encoding="utf-8")
    section = text[text.index("**Swap a part**") :]
    block = re.search(r"```\n(.*?)```", section, re.DOTALL)[1]
    return [shlex.split(line, comments=True) for line in block.split("\n") if line.strip()]


COMMANDS = commands()
VALUES = [[*command[:-1], value] for command in COMMANDS for value in OFFERED.get(command[-2], [])]


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """The losses of four steps of a command."""
    folder = tmp_path_factory.mktemp("swap")
    runs = Runs(folder, folder / "cache")
    small = ["--trainer.max_steps", "4", "--trainer.log_every_n_steps", "1", "--model.warmup_share", "0"]

    def of(name, arguments):
        return curve(runs.fit(name, *arguments, *small, "--trainer.limit_val_batches", "0", config=[]))

    return of


@pytest.fixture(scope="module")
def plain(losses):
    assert COMMANDS
    config = {tuple(command[:4]) for command in COMMANDS}
    assert config == {("ov2kit", "fit", "--config", "tiny.yaml")}
    first = losses("plain", ["--config", "tiny.yaml"])
    assert len(first) == 4
    assert losses("again", ["--config", "tiny.yaml"]) == first  # or a difference would say nothing
    return first


@pytest.mark.parametrize("command", [*COMMANDS, *VALUES], ids=lambda command: " ".join(command[-2:]))
def test_every_command_shown_changes_the_result(command, losses, plain):
    changed = losses("-".join(command[-2:]).strip("-"), command[2:])
    assert changed.keys() == plain.keys()
    # a unit in the last place is 4.8e-7; a model of random weights looks nearly everywhere alike
    assert max(abs(changed[step] - plain[step]) for step in plain) > 2e-6
