"""A small model that points and tracks: codec tokens against frames at equal tokens, through text and masks to J&F.

    python -m benchmarks.tracking --work DIR                     # run what is missing, then write the table
    python -m benchmarks.tracking --work DIR --report-only       # the table alone, from the runs that are stored
    python -m benchmarks.tracking --work DIR --steps 300 --scored 24     # the short form

One run per variant and seed, each a JSON file under benchmarks/results/tracking/steps-N with the scores of every test
expression. One learning rate for all, chosen for none of them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "tracking"
CLIPS = (256, 32, 64)
WIDTH, EDGE = 32, 96
BUDGETS = (4, 8)
SOURCES = ("codec", "frames")
RATE = 0.003
SEEDS = range(5)
_T95 = {4: 2.776}  # Student's t for n - 1 = 4
COLUMNS = ("j&f", "j", "f", "hota", "public_hota", "point_f1", "point_hota")


def variant(source: str, budget: int, steps: int = 1) -> Any:
    """What one row of the table runs."""
    from ov2kit.recipes.evidence.runs.variant import Variant

    return Variant(
        train=CLIPS[0], val=CLIPS[1], test=CLIPS[2], source=source, budget=budget, canvas=EDGE, size=EDGE, width=WIDTH,
        steps=steps, lr=RATE,
    )  # fmt: skip


def prepare(work: Path) -> Path:
    """The set, and canvases of every source and budget."""
    from ov2kit.recipes.evidence.films.rendered_set import SPLITS
    from ov2kit.recipes.evidence.films.tracking_set import make_tracking_set
    from ov2kit.recipes.evidence.pointing.truth import read_truth
    from ov2kit.recipes.evidence.runs.canvas_store import build_canvases

    data, lists = work / "set", work / "lists"
    if not data.exists():
        make_tracking_set(data, CLIPS)
    lists.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        videos = [str(next((data / "videos").glob(f"{name}.*")).resolve()) for name in read_truth(data, split)[0]]
        (lists / f"{split}.json").write_text(json.dumps([{"video": video, "answer": "[]"} for video in videos]))
    for source, budget in [(s, b) for s in SOURCES for b in BUDGETS] + [("blank", BUDGETS[-1])]:
        build_canvases(variant(source, budget), lists, work / f"canvases-{source}-{budget}")
    return data


def run_all(work: Path, steps: int, scored: int) -> None:
    """Every run that is not stored yet."""
    from ov2kit.recipes.evidence.pointing.one_run import means, run_pointing, score_answers, true_answers

    folder = runs_of(steps)
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare(work)
    ceiling = folder / "true-points.json"
    if not ceiling.exists():
        rows = score_answers(data, "test", true_answers(data, "test")[:scored])
        _write(ceiling, {"scores": means(rows), "rows": rows})
    runs = [(source, budget, seed) for budget in reversed(BUDGETS) for seed in SEEDS for source in SOURCES]
    runs.insert(2, ("blank", BUDGETS[-1], 0))  # what guessing is worth
    for source, budget, seed in runs:
        path = folder / f"{source}-{budget}-seed{seed}.json"
        if not path.exists():
            began = time.monotonic()
            canvases = work / f"canvases-{source}-{budget}"
            found = run_pointing(variant(source, budget, steps), seed, data, canvases, limit=scored)
            facts = {"source": source, "budget": budget, "seed": seed, "lr": RATE, "steps": steps}
            _write(path, {**facts, **found})
            print(f"{path.stem}: J&F {found['scores']['j&f']:.3f}, {time.monotonic() - began:.0f} s", flush=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    from ov2kit.files import write_text

    rows = [{name: row[name] for name in COLUMNS} for row in content["rows"]]
    write_text(path, json.dumps({**content, "rows": rows}) + "\n", sync=True)


def report(folder: Path) -> str:
    """The table, from stored runs."""
    lines = [
        "| tokens from | canvases | runs | " + " | ".join(COLUMNS) + " |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    ceiling = json.loads((folder / "true-points.json").read_text())["scores"]
    lines.append("| true points | - | - | " + " | ".join(f"{100 * ceiling[c]:.1f}" for c in COLUMNS) + " |")
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*-seed*.json"))]
    for source, budget in [(s, b) for b in BUDGETS for s in SOURCES] + [("blank", BUDGETS[-1])]:
        own = [run["scores"] for run in runs if (run["source"], run["budget"]) == (source, budget)]
        if own:
            cells = [_mean([100 * scores[column] for scores in own]) for column in COLUMNS]
            lines.append(f"| {source} | {budget} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def by_attribute(folder: Path, work: Path, scored: int) -> str:
    """J&F of every way to point, by what makes a clip hard; means over seeds."""
    from ov2kit.recipes.evidence.pointing.truth import read_truth
    from ov2kit.recipes.spatial.attributes import attribute_table, attributes_of

    attributes = [attributes_of(masks) for own in read_truth(work / "set", "test")[1][:scored] for masks in own.masks]
    names = {"true points": "true-points", **{f"{s} {b}": f"{s}-{b}-seed*" for b in BUDGETS for s in SOURCES}}
    tables = {}
    for name, pattern in names.items():
        rows = [json.loads(path.read_text())["rows"] for path in sorted(folder.glob(f"{pattern}.json"))]
        if not rows:
            continue
        scores = [statistics.fmean(row["j&f"] for row in of_one) for of_one in zip(*rows, strict=True)]
        pairs = zip(scores, attributes, strict=True)
        tables[name] = attribute_table([{"j&f": score, "attributes": own} for score, own in pairs])
    lines = ["| attribute | expressions | " + " | ".join(tables) + " |", "|---|---|" + "---|" * len(tables)]
    for attribute, row in tables["true points"].items():
        if row["videos"]:
            cells = " | ".join(f"{100 * (table[attribute]['with'] or 0):.1f}" for table in tables.values())
            lines.append(f"| {attribute} | {row['videos']:.0f} | {cells} |")
    return "\n".join(lines) + "\n"


def _mean(values: list[float]) -> str:
    """Mean with the half width of its 95 % interval."""
    mean = statistics.fmean(values)
    t = _T95.get(len(values) - 1)
    return f"{mean:.1f} ± {t * statistics.stdev(values) / len(values) ** 0.5:.1f}" if t else f"{mean:.1f}"


def runs_of(steps: int) -> Path:
    """Where the runs of a training length are kept."""
    return RESULTS / f"steps-{steps}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where videos and canvases are kept")
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--scored", type=int, default=32, help="test clips")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report_only:
        options.work.mkdir(parents=True, exist_ok=True)
        run_all(options.work, options.steps, options.scored)
    folder = runs_of(options.steps)
    text = report(folder) + "\nJ&F by what makes a clip hard, mean of seeds:\n\n"
    text += by_attribute(folder, options.work, options.scored)
    (RESULTS / f"steps-{options.steps}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
