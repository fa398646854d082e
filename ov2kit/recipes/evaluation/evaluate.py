"""Ask a model every question of a JumpScore-format folder, and score what it says.

What is wrong with a video is a line of the results; what is wrong with anything else ends the run.
Every answer is on the disk before the next question; a run that ends early resumes where it
stopped. Several processes may share the questions: each has its own file, and the one that
finishes last merges them.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ov2kit.errors import DataError, VideoError, check_choice, check_flag, check_number, check_type
from ov2kit.files import refuse_overwriting_inputs, write_text
from ov2kit.recipes.evaluation.failures import OF_THE_VIDEO, is_about, one_line
from ov2kit.recipes.evaluation.jumpscore_folder import JumpScoreFolder, Question, read_jumpscore_folder
from ov2kit.recipes.evaluation.predictions import (
    PREDICTIONS,
    SETTINGS,
    Line,
    PredictionLog,
    claim_settings,
    read_folder,
    read_lines,
    write_lines,
)
from ov2kit.recipes.evaluation.processes import log_name

if TYPE_CHECKING:
    from ov2kit.recipes.metrics import JumpScoreRow

SCORES = "scores.json"
Reply = str | tuple[str, int | None] | tuple[str, int | None, Mapping[str, Any]]
Answerer = Callable[[Path, str], Reply]
Errors = Literal["zero", "skip"]


def evaluate_jumpscore(
    model_answer: Answerer,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
    limit: int | None = None,
    errors: Errors = "zero",
    overwrite: bool = False,
    rank: int = 0,
    world_size: int = 1,
    max_failures: int = 20,
    progress: Callable[[int, int], None] | None = None,
    before_first: Callable[[], None] | None = None,
) -> dict[str, Any] | None:
    """Write ``predictions.jsonl`` and ``scores.json``; go on from what is there.

    A question whose video is missing gets a line with its error, and is asked again by the next run;
    so does one whose answerer raises an error of its input: VideoError, AssetError, CanvasError,
    BudgetError, DataError, or an OSError that names the video's file. Any other error (out of memory,
    a model that cannot be read, a bug) comes through and ends the run, as does Ctrl-C; all answers so far
    stay.

    Args:
        model_answer: (video, question) -> the model's text, or (text, visual tokens), or the same and a mapping of
            what else its line is to say.
        folder: annotations and videos, see docs/evaluating.md.
        out: folder for the results, made if missing.
        split: annotation file `<split>.json[l]` instead of `annotations.json[l]`.
        settings: JSON-able facts that decide the answers; a later run must bring the same.
        limit: only the first questions.
        errors: score a question with an error as 0, or leave it out.
        overwrite: remove results that are there.
        rank: which process this is; it asks questions rank, rank + world_size, ...
        world_size: how many processes share the questions.
        max_failures: stop when so many questions in a row end in an error.
        progress: called with (questions done, questions of this process).
        before_first: called once, before anything is written, if a question is left to ask: the place to
            load a model, whose errors come through.

    Returns:
        The scores, as in ``scores.json``; None while other processes still have questions.

    Raises:
        DataError: unusable annotations, results of other settings, too many failures in a row, or no
            question that could be answered at all.
    """
    check_type("model_answer", model_answer, Callable, "a function (video, question) -> text")
    for name, place in (("folder", folder), ("out", out)):
        check_type(name, place, (str, os.PathLike), "a path")
    check_type("split", split, str, "a name", optional=True)
    check_type("settings", settings, Mapping, "a mapping", optional=True)
    check_number("world_size", world_size, low=1, integer=True)
    check_number("rank", rank, low=0, below=world_size, integer=True)
    check_choice("errors", errors, get_args(Errors))
    check_number("limit", limit, low=1, integer=True, optional=True)
    check_number("max_failures", max_failures, low=1, integer=True)
    check_flag("overwrite", overwrite)
    check_type("progress", progress, Callable, "a function", optional=True)
    check_type("before_first", before_first, Callable, "a function", optional=True)
    data = read_jumpscore_folder(folder, split)
    for written in (PREDICTIONS, SCORES, SETTINGS):
        refuse_overwriting_inputs(Path(out) / written, [data.annotations])
    facts = {"task": "jumpscore", "annotations_sha256": data.digest, **(settings or {})}
    asked = data.items[:limit]
    mine = asked[rank::world_size]
    target = Path(out)
    _check_place(target, overwrite, world_size)
    if not overwrite and (target / SETTINGS).exists():
        claim_settings(target, facts)
    known = {} if overwrite else read_folder(target)
    if before_first is not None and any(_is_open(item, known) for item in mine):
        before_first()
    _prepare(target, overwrite)
    claim_settings(target, facts)
    with PredictionLog(target / log_name(rank, world_size)) as log:
        _ask(model_answer, mine, log, read_folder(target), max_failures, progress)
    return _finish(target, data, asked, facts, errors)


def _check_place(out: Path, overwrite: bool, world_size: int) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: expected a directory for the results, got a file")
    if overwrite and world_size > 1:
        raise ValueError("overwrite cannot be shared by several processes; remove the folder first")


def _prepare(out: Path, overwrite: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if overwrite:
        for path in [*out.glob("predictions*.jsonl"), out / SCORES, out / SETTINGS]:
            path.unlink(missing_ok=True)


def _is_open(item: Question, known: Mapping[str, Line]) -> bool:
    return item.id not in known or known[item.id].get("error") is not None


def _ask(
    model_answer: Answerer,
    items: Sequence[Question],
    log: PredictionLog,
    known: Mapping[str, Line],
    max_failures: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    failures = 0
    for done, item in enumerate(items, start=1):
        if _is_open(item, known):
            line = _answer(model_answer, item)
            log.add(line)
            failures = failures + 1 if line["error"] is not None else 0
            if failures >= max_failures:
                raise DataError(f"stopped after {failures} questions in a row failed; the last: {line['error']}")
        if progress is not None:
            progress(done, len(items))


def _answer(model_answer: Answerer, item: Question) -> Line:
    begin = time.perf_counter()
    text: str | None = None
    tokens: int | None = None
    problem: str | None = None
    more: Mapping[str, Any] = {}
    try:
        if item.path is None:
            raise VideoError(f"video {item.video!r} is neither in the folder nor in its videos/")
        reply: Any = model_answer(item.path, item.question)
        told = reply if isinstance(reply, tuple) else (reply,)
        text, tokens, more = told + (None, {})[len(told) - 1 :]
        if not isinstance(text, str):
            raise TypeError(f"model_answer must return text, or text and tokens, got {type(text).__name__}")
        tokens = None if tokens is None else int(tokens)  # a tensor or NumPy number has no place in JSON
    except OF_THE_VIDEO as error:
        problem = one_line(error)
    except OSError as error:
        if not is_about(error, item.path):
            raise
        problem = one_line(error)
    line: Line = {
        "id": item.id,
        "video": item.video,
        "question": item.question,
        "answer": item.answer,
        "prediction": text,
        "seconds": round(time.perf_counter() - begin, 4),
        "tokens": tokens,
        "error": problem,
        **more,
    }
    return line if item.confidence is None else {**line, "confidence": item.confidence}


def score_line(line: Line, errors: Errors = "zero") -> "JumpScoreRow | None":
    """Score one line of a predictions file.

    Args:
        line: with "answer", "prediction", "error" and perhaps "confidence".
        errors: a line with an error counts 0 ("zero"), even where silence would be right, or is
            left out ("skip": None).
    """
    from ov2kit.recipes.metrics import TOLERANCES, JumpScoreRow, jumpscore_row

    if line.get("error") is None:
        return jumpscore_row(line["prediction"], line["answer"], line.get("confidence"))
    if errors == "skip":
        return None
    nothing = jumpscore_row("", line["answer"])
    return JumpScoreRow((), nothing.gt_starts, dict.fromkeys(TOLERANCES, 0.0), 0.0, nothing.explicit_empty)


def _finish(
    out: Path, data: JumpScoreFolder, asked: Sequence[Question], facts: Mapping[str, Any], errors: Errors
) -> dict[str, Any] | None:
    """Merge and score, if all questions have an answer or an error."""
    from ov2kit.recipes.metrics import aggregate_jumpscore

    known = read_folder(out)
    if any(item.id not in known for item in asked):
        return None
    ordered = [known[item.id] for item in data.items if item.id in known]
    path = out / PREDICTIONS
    if not path.exists() or read_lines(path) != ordered:
        write_lines(path, ordered)
    lines = [known[item.id] for item in asked]
    if all(line["error"] is not None for line in lines):
        raise DataError(
            f"{out}: none of {len(lines)} questions could be answered, so there are no scores; "
            f"the first: {lines[0]['error']}"
        )
    rows = [row for line in lines if (row := score_line(line, errors)) is not None]
    tokens = [line["tokens"] for line in lines if line["tokens"] is not None]
    scores = {
        **aggregate_jumpscore(rows),
        "questions": len(lines),
        "scored": len(rows),
        "errors": sum(line["error"] is not None for line in lines),
        "bad_rows": list(data.bad_rows),
        "tokens_per_question": sum(tokens) / len(tokens) if tokens else None,
        "seconds_per_question": sum(line["seconds"] for line in lines) / len(lines),
        "errors_count": "zero" if errors == "zero" else "not",
        "settings": dict(facts),
    }
    write_text(out / SCORES, json.dumps(scores, indent=2) + "\n", sync=True)
    return scores
