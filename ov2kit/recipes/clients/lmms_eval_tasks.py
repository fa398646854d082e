"""A folder of questions as a task of lmms-eval, from local files only.

    python -m ov2kit.recipes.clients.lmms_eval_tasks --task jumpscore --data FOLDER --out DIR
    lmms-eval --model ov2kit --model_args pretrained=my-model --include_path DIR --tasks ov2kit_jumpscore

The folder is one of `ov2kit evaluate`. The task "grounding" wants answers that name a span of time.
"""

import argparse
import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from ov2kit.errors import DataError, Ov2kitError, check_choice, print_error
from ov2kit.files import fill_folder, refuse_overwriting_inputs, write_text
from ov2kit.recipes.evaluation.jumpscore_folder import Question, read_jumpscore_folder

Task = Literal["jumpscore", "grounding"]
_ROWS = "rows.jsonl"


def write_task(task: Task, data: str | os.PathLike[str], out: str | os.PathLike[str], split: str | None = None) -> Path:
    """The task's YAML file and its rows, whose videos are named by full paths.

    Args:
        task: what is asked, and how it is scored.
        data: folder of questions, see docs/evaluating.md.
        out: folder for `--include_path`, made if missing.
        split: annotation file `<split>.json[l]` instead of `annotations.json[l]`.

    Returns:
        The YAML file.

    Raises:
        DataError: unusable annotations, or a video that is not there.
        OutputError: the folder cannot be written.
    """
    check_choice("task", task, get_args(Task))
    found = read_jumpscore_folder(data, split)
    refuse_overwriting_inputs(Path(out) / _ROWS, [found.annotations])
    name = f"ov2kit_{task}.yaml"
    yaml = (files("ov2kit.recipes.clients") / "tasks" / name).read_text(encoding="utf-8")
    rows = "".join(json.dumps(_row(item, task)) + "\n" for item in found.items)
    with fill_folder(out) as scratch:
        write_text(scratch / name, f"{yaml}dataset_kwargs: {{data_files: {{test: {_ROWS}}}}}\n")
        write_text(scratch / _ROWS, rows)
    return Path(out) / name


def _row(item: Question, task: Task) -> dict[str, object]:
    if item.path is None:
        raise DataError(f"video {item.video!r} is neither in the folder nor in its videos/")
    answer = item.answer if isinstance(item.answer, str) else json.dumps(item.answer)
    if task == "grounding":
        from ov2kit.recipes.metrics.temporal_iou import target_spans

        try:
            target_spans(answer)
        except ValueError as error:
            raise DataError(f"question {item.id!r}: {error}") from error
    row: dict[str, object] = {"id": item.id, "video": str(item.path.absolute())}
    row |= {"question": item.question, "answer": answer}
    return row if item.confidence is None else {**row, "confidence": [float(one) for one in item.confidence]}


def main(arguments: list[str]) -> int:
    """Write a task; its status."""
    parser = argparse.ArgumentParser(description="Write a folder of questions as a task of lmms-eval.")
    parser.add_argument("--task", required=True, choices=get_args(Task))
    parser.add_argument("--data", required=True, metavar="FOLDER", help="annotations.json[l] and videos")
    parser.add_argument("--out", required=True, metavar="DIR", help="what --include_path of lmms-eval is given")
    parser.add_argument("--split", metavar="NAME", help="read NAME.json[l] instead of annotations")
    given = parser.parse_args(arguments)
    try:
        print(write_task(given.task, given.data, given.out, given.split))
    except Ov2kitError as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
