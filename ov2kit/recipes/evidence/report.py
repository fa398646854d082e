"""results.json, a Markdown table per experiment, and plots."""

import json
import textwrap
from pathlib import Path
from typing import Any

from ov2kit.files import write_file, write_text

#: what a row costs: head of its column, format
_COSTS = {
    "tokens": ("tokens", ".0f"),
    "parameters": ("parameters", ".0f"),
    "encoder_gflops": ("encoder GFLOPs/clip", ".2f"),
    "tokenize_seconds": ("tokenize s/clip", ".3f"),
    "score_seconds": ("score s/clip", ".3f"),
    "train_seconds": ("train s", ".1f"),
    "peak_mebibytes": ("MiB", ".0f"),
}


def write_report(out: Path, results: dict[str, Any]) -> list[Path]:
    """Write everything that can be remade from `results`; the plots need matplotlib.

    Returns:
        The files written.
    """
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(out / "results.md", markdown(results))
    return [out / "results.json", out / "results.md", *_plots(out, results["experiments"])]


def markdown(results: dict[str, Any]) -> str:
    """All experiments as tables."""
    machine = results["machine"]
    lines = [
        f"Made by `{results['command']}` on {machine['date']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, torch {machine['versions']['torch']}, "
        f"PyAV {machine['versions']['av']}.",
        "",
        "mAP and its parts in percent: mean over seeds ± half of the 95 % interval (Student's t). Difference: "
        "against the rival that the sweep names, same seeds and clips, 95 % interval by a bootstrap over both. "
        f"{_seconds(results['experiments'])}",
    ]
    for experiment in results["experiments"]:
        lines += ["", f"## {experiment['title']}", "", *_table(experiment)]
    if results["failed"]:
        lines += ["", "## Failed", "", *(f"- `{key}`: {reason}" for key, reason in results["failed"].items())]
    return "\n".join(lines) + "\n"


def _seconds(experiments: list[dict[str, Any]]) -> str:
    devices = sorted({name for e in experiments for row in e["rows"] for name in row.get("devices", ())} - {"cpu"})
    if not devices:
        return "Seconds: CPU time of one thread."
    return (
        f"Seconds: of tokenizing, CPU time of one thread; of training and scoring on {', '.join(devices)}, the clock "
        "while several runs shared it. MiB: of the device."
    )


def _table(experiment: dict[str, Any]) -> list[str]:
    names = list(experiment["rows"][0]["label"])
    compared = any("difference" in row for row in experiment["rows"])
    head = [*names, "mAP", "@0.1 / @0.2 / @0.3", *(["difference"] if compared else []), "validation mAP"]
    costs = [name for name in _COSTS if any(name in row for row in experiment["rows"])]
    head += ["seeds", *(_COSTS[name][0] for name in costs)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in experiment["rows"]:
        cells = [_shown(row["label"][name]) for name in names]
        if not row["runs"]:
            lines.append("| " + " | ".join([*cells, "not run", *[""] * (len(head) - len(names) - 1)]) + " |")
            continue
        cells += [f"{100 * row['map']:.1f}" + (f" ± {_halves([row])[0]:.1f}" if row["interval"] else "")]
        cells += [" / ".join(f"{100 * row[f'ap@{t}']:.1f}" for t in ("0.1", "0.2", "0.3"))]
        if compared:
            cells += [_difference(row.get("difference"))]
        cells += [f"{100 * row['val_map']:.1f}", str(row["runs"])]
        cells += [format(row[name], _COSTS[name][1]) if name in row else "" for name in costs]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{100 * found['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "default"
    return str(value)


def _plots(out: Path, experiments: list[dict[str, Any]]) -> list[Path]:
    """A curve for experiments with a grid over budgets, dots for the others."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    written = []
    for experiment in experiments:
        rows = [row for row in experiment["rows"] if row["runs"]]
        if not rows:
            continue
        if "budget" in rows[0]["label"]:
            figure, axes = pyplot.subplots(figsize=(6, 4))
            _curves(axes, rows)
        else:
            figure, axes = pyplot.subplots(figsize=(6, 0.8 + 0.32 * len(rows)))
            _dots(axes, rows)
        axes.set_title(textwrap.fill(experiment["title"], 60), fontsize=10)
        axes.grid(alpha=0.3)
        figure.tight_layout()
        written.append(out / f"{experiment['name']}.png")
        with write_file(written[-1]) as file:
            figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    return written


def _curves(axes: Any, rows: list[dict[str, Any]]) -> None:
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        name = ", ".join(_shown(value) for key, value in row["label"].items() if key != "budget")
        lines.setdefault(name, []).append(row)
    for name, points in lines.items():
        if len(points) == 1 and len(rows) > 1:  # a row beside the grid: a level to compare with
            axes.axhline(_percent(points)[0], color="gray", linestyle="--", label=name)
            continue
        points.sort(key=lambda row: row["label"]["budget"])
        budgets = [row["label"]["budget"] for row in points]
        axes.errorbar(budgets, _percent(points), yerr=_halves(points), marker="o", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    budgets = sorted({row["label"]["budget"] for row in rows})
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.set_xlabel("budget in canvases")
    axes.set_ylabel("JumpScore mAP, %")
    axes.legend()


def _dots(axes: Any, rows: list[dict[str, Any]]) -> None:
    names = [", ".join(_shown(value) for value in row["label"].values()) for row in rows]
    places = range(len(rows))
    axes.errorbar(_percent(rows), places, xerr=_halves(rows), fmt="o", capsize=3)
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xlabel("JumpScore mAP, %")


def _percent(rows: list[dict[str, Any]]) -> list[float]:
    return [100 * row["map"] for row in rows]


def _halves(rows: list[dict[str, Any]]) -> list[float]:
    """Half of each interval in percent, 0 for a single run."""
    return [50 * (row["interval"][1] - row["interval"][0]) if row["interval"] else 0.0 for row in rows]
