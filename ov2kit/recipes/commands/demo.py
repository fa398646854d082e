"""`ov2kit demo`: all of it on the bundled clip.

Tokenize it, draw its report, and, where the extra of the recipes is installed, fit the tiny recipe on it
with the commands that a user would type, showing how the loss falls, and ask what it has learned.
"""

import csv
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

from jsonargparse import ArgumentParser, Namespace

import ov2kit.codec
from ov2kit.codec.commands.progress import tokenized
from ov2kit.codec.commands.tokenize import save, summary
from ov2kit.codec.report.page import write_report
from ov2kit.codec.tokenizers.codec import CodecTokenizer
from ov2kit.codec.tokenizers.threads import one_torch_thread
from ov2kit.errors import DataError, MissingExtraError, needs_extra
from ov2kit.recipes.commands import fit
from ov2kit.recipes.commands.train_help import CONFIGS

#: the bundled clip
SAMPLE = Path(ov2kit.codec.__file__).parent / "sample" / "bbb_360p.mp4"
_DATA = CONFIGS / "sample.jsonl"


def parser() -> ArgumentParser:
    """Options of `ov2kit demo`."""
    command = ArgumentParser(
        description="Tokenize the bundled clip, draw its report, fit a tiny model on it and ask it.",
        exit_on_error=False,
    )
    command.add_argument("--out", default="demo_out", metavar="DIR", help="where the results go")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit demo`."""
    folder = Path(parsed.out)
    print(f"tokenizing {SAMPLE.name} (Big Buck Bunny, 640x360 H.264, 5.3 s) from its codec stream")
    canvases = tokenized(CodecTokenizer(budget_canvases=16), str(SAMPLE), quiet=False)
    save(canvases, folder / "canvases", "png", overwrite=True)
    print(summary(SAMPLE.name, folder / "canvases", canvases, as_json=False))
    print(f"  pixel_values {tuple(canvases.pixel_values().shape)}, positions {tuple(canvases.flat_positions().shape)}")
    page = write_report(folder / "report.html", SAMPLE, canvases)
    print(f"  open {page} in a browser to see what was chosen and why")
    try:
        with needs_extra("training a model"):
            from ov2kit.recipes.commands import convert, generate, train  # noqa: F401 # all that the extra brings
    except MissingExtraError as error:
        print(f"no model is trained: {error}")
        return 0
    return fit_and_ask(folder, convert, generate)


@one_torch_thread()  # a model this small only waits for threads
def fit_and_ask(folder: Path, convert: ModuleType, generate: ModuleType) -> int:
    """Fit, convert, generate.

    Args:
        folder: where everything goes.
        convert: the command.
        generate: the command.

    Returns:
        Exit status of the first command that failed, else 0.
    """
    question, expected, video = first_turn(_DATA)
    model = folder / "model"
    before = _runs(folder / "runs")
    options = ["--config", "tiny.yaml", "--out", str(folder / "runs"), "--data.loading.cache", str(folder / "cache")]
    if status := _step("fit", fit, options):
        return status
    training = max(_runs(folder / "runs") - before, key=lambda path: path.stat().st_mtime)
    if sys.stderr.isatty():  # a bar leaves nothing behind; without one every tenth step was printed
        for step, loss in falling_loss(training / "metrics.csv"):
            print(f"  step {step:>4}   loss {loss:7.4f}")
    checkpoint = training / "checkpoints" / "last.ckpt"
    if status := _step("convert", convert, [str(checkpoint), str(model), "--overwrite"]):
        return status
    print(f"  asked: {question!r}, taught: {expected!r}; it answers:")
    return _step("generate", generate, ["--model", str(model), "--video", str(video), "--prompt", question])


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


def _step(name: str, command: ModuleType, arguments: list[str]) -> int:
    """Show a command as it is typed, and run it."""
    print(f"$ ov2kit {name} {shlex.join(arguments)}", flush=True)
    status: int = command.run(command.parser().parse_args(arguments))
    return status
