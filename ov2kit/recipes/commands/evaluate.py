"""`ov2kit evaluate`: a model and a JumpScore-format folder -> predictions and scores."""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace

import ov2kit
from ov2kit.errors import CheckpointError
from ov2kit.files import check_folder
from ov2kit.recipes.evaluation.evaluate import Reply, evaluate_jumpscore
from ov2kit.recipes.evaluation.jumpscore_folder import read_jumpscore_folder
from ov2kit.recipes.evaluation.processes import processes
from ov2kit.recipes.model.device import usable_device
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.prompts import SourceKind
from ov2kit.recipes.prompt.sample import Sample

#: files of a model directory that decide what it answers: weights, configs, vocabulary, chat template
_DECIDES = (".json", ".jinja", ".safetensors", ".txt")


def parser() -> ArgumentParser:
    """Its options."""
    command = ArgumentParser(
        description="Ask a model about every video of a folder, and score it.", exit_on_error=False
    )
    command.add_argument("--model", required=True, metavar="DIR", help="model directory in the released format")
    command.add_argument("--data", required=True, metavar="FOLDER", help="annotations.json[l] and videos")
    command.add_argument("--out", required=True, metavar="DIR", help="predictions.jsonl and scores.json; resumes there")
    command.add_argument("--split", type=str | None, metavar="NAME", help="read NAME.json[l] instead of annotations")
    command.add_argument(
        "--source",
        default="codec",
        choices=get_args(SourceKind),
        help="how videos become pictures; route: by the question",
    )
    command.add_argument("--frame_share", type=float | None, metavar="SHARE", help="of a hybrid: whole frames")
    command.add_argument("--budget_canvases", type=int, default=32, help="canvases or frames per video")
    command.add_argument("--max_new_tokens", type=int, default=256, help="longest answer")
    command.add_argument("--decimals", type=int, default=2, help="digits of the time stamps")
    command.add_argument("--visibility", default="group", choices=get_args(Visibility), help="as it was trained")
    command.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help="of the weights"
    )
    command.add_argument("--device", type=str | None, help="cpu, cuda, cuda:1; a GPU when omitted, if there is one")
    command.add_argument("--limit", type=int | None, help="only the first questions")
    command.add_argument("--errors", default="zero", choices=("zero", "skip"), help="how a failed question counts")
    command.add_argument("--overwrite", action="store_true", help="start again instead of going on")
    command.add_argument("--rank", type=int | None, help="which process this is; RANK of the environment when omitted")
    command.add_argument("--world_size", type=int | None, help="how many processes share; WORLD_SIZE when omitted")
    command.add_argument("--json", action="store_true", help="print all of scores.json")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit evaluate`."""
    from tqdm import tqdm

    importlib.import_module("ov2kit.recipes.metrics")  # a missing extra is reported before anything is read
    choices = _choices(parsed)
    device = usable_device(parsed.device)
    if choices["dtype"] == "auto" and device.type == "cpu":
        choices["dtype"] = "float32"  # what the model is then read as
    check_folder(parsed.model, "a model directory ('ov2kit convert' makes one of a checkpoint)", CheckpointError)
    rank, world_size = processes(parsed.rank, parsed.world_size)
    data = read_jumpscore_folder(parsed.data, parsed.split)  # before the model is loaded: it may take minutes
    for problem in data.bad_rows:
        print(f"warning: {problem}", file=sys.stderr)
    loaded: list[Callable[[str | Path, str], str]] = []
    shown: list[Sample] = []

    def load() -> None:
        generate = importlib.import_module("ov2kit.recipes.generate")
        loaded.append(generate.answerer(parsed.model, device=str(device), seen=shown.append, **choices))

    def answer(video: Path, question: str) -> Reply:
        shown.clear()
        text = loaded[0](video, question)
        plans = [plan for sample in shown for plan in sample.plans]
        return (text, None, {"plans": plans}) if plans else text

    with tqdm(
        desc=data.annotations.parent.name, unit=" questions", disable=parsed.quiet or None, file=sys.stderr
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        scores = evaluate_jumpscore(
            answer,
            parsed.data,
            parsed.out,
            split=parsed.split,
            settings={
                "model": str(Path(parsed.model).resolve()),
                "model_sample": _sample(Path(parsed.model)),
                "ov2kit": ov2kit.__version__,
                **choices,
            },
            limit=parsed.limit,
            errors=parsed.errors,
            overwrite=parsed.overwrite,
            rank=rank,
            world_size=world_size,
            progress=progress,
            before_first=load,
        )
    if scores is None:
        print(f"{parsed.out}: this process is done; others still have questions")
    elif parsed.json:
        print(json.dumps(scores))
    else:
        means = ", ".join(f"{name} {scores[name]:.4f}" for name in scores if name == "map" or name.startswith("ap@"))
        print(
            f"{parsed.data}: {means} over {scores['scored']} questions, "
            f"{scores['errors']} errors, {len(scores['bad_rows'])} bad rows -> {parsed.out}"
        )
    return 0


def _choices(parsed: Namespace) -> dict[str, Any]:
    """The options that decide the answers, checked: nothing is read or loaded for those that cannot work."""
    for name in ("budget_canvases", "max_new_tokens", "limit"):
        if parsed[name] is not None and parsed[name] < 1:
            raise ValueError(f"--{name} must be at least 1, got {parsed[name]}")
    if parsed.decimals not in range(10):
        raise ValueError(f"--decimals must be from 0 to 9, got {parsed.decimals}")
    names = ("source", "budget_canvases", "max_new_tokens", "decimals", "visibility", "dtype")
    share = {} if parsed.frame_share is None else {"frame_share": parsed.frame_share}
    return {name: parsed[name] for name in names} | share


def _sample(model: Path, pieces: int = 16, size: int = 65536) -> str:
    """A digest of pieces of every file of a model directory: other weights at the same place show."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.iterdir() if path.suffix in _DECIDES):
        length = path.stat().st_size
        digest.update(f"{path.name} {length}\n".encode())
        with path.open("rb") as file:
            for k in range(pieces):
                file.seek(max(0, length - size) * k // (pieces - 1))
                digest.update(file.read(size))
    return digest.hexdigest()
