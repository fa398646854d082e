"""The end of `ov2kit demo`: fit the tiny recipe on the bundled clip, and ask it.

The same three commands that a user would type, one after the other, with the loss between them.
"""

import csv
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ov2kit.codec.tokenizers.threads import one_torch_thread
from ov2kit.errors import DataError
from ov2kit.recipes.commands.train_help import CONFIGS

_DATA = CONFIGS / "sample.jsonl"


@one_torch_thread()  # a model this small only waits for threads
def fit_and_ask(folder: Path, run: Callable[[Sequence[str]], int]) -> int:
    """Fit, convert, generate.

    Args:
        folder: where everything goes.
        run: runs one command of ov2kit and returns its exit status.

    Returns:
        Exit status of the first command that failed, else 0.
    """
    question, expected, video = first_turn(_DATA)
    model = folder / "model"
    before = _runs(folder / "runs")
    fit = ["fit", "--config", "tiny.yaml", "--out", str(folder / "runs"), "--data.cache", str(folder / "cache")]
    if status := _step(run, fit):
        return status
    training = max(_runs(folder / "runs") - before, key=lambda path: path.stat().st_mtime)
    if sys.stderr.isatty():  # a bar leaves nothing behind; without one every tenth step was printed
        for step, loss in falling_loss(training / "metrics.csv"):
            print(f"  step {step:>4}   loss {loss:7.4f}")
    if status := _step(run, ["convert", str(training / "checkpoints" / "last.ckpt"), str(model), "--overwrite"]):
        return status
    ask = ["generate", "--model", str(model), "--video", str(video), "--prompt", question]
    print(f"  asked: {question!r}, taught: {expected!r}; it answers:")
    return _step(run, ask)


def first_turn(table: Path) -> tuple[str, str, Path]:
    """Question, answer and video of the first conversation of a JSONL file.

    Raises:
        DataError: the file is not as it was shipped.
    """
    try:
        record = json.loads(table.read_text(encoding="utf-8").partition("\n")[0])
        asked, answered = record["messages"][:2]
        question = asked["content"].replace("<video>", "").strip()
        return question, answered["content"], (table.parent / record["videos"][0]).resolve()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{table}: the conversations of the demo cannot be read ({error}); install again") from error


def falling_loss(metrics: Path, rows: int = 8) -> list[tuple[int, float]]:
    """(step, loss) of some rows of a run's metrics.csv, the first and the last among them."""
    with metrics.open(encoding="utf-8", newline="") as file:
        found = [(int(row["step"]) + 1, float(row["loss"])) for row in csv.DictReader(file) if row.get("loss")]
    last = len(found) - 1
    chosen = sorted({round(i * last / max(1, rows - 1)) for i in range(rows)})
    return [found[i] for i in chosen if i <= last]


def _runs(folder: Path) -> set[Path]:
    return set(folder.glob("version_*"))


def _step(run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    print(f"$ ov2kit {shlex.join(arguments)}", flush=True)
    return run(arguments)
