"""What the small models learn: from results/evidence, evidence-tuning, minutes, live-delay and tracking."""

import json
from typing import Any

from benchmarks._tables.markdown import RESULTS, read_tables, table

#: mAP that the paper prints for frames and codec canvases
PUBLISHED = {4: (32.5, 39.4), 8: (35.2, 40.2), 16: (36.7, 46.9), 32: (37.6, 58.3), 64: (39.9, 71.3), 128: (45.4, 74.9)}


def _experiment(folder: str, name: str) -> list[dict[str, Any]]:
    found = json.loads((RESULTS / folder / "results.json").read_text(encoding="utf-8"))["experiments"]
    return next(experiment["rows"] for experiment in found if experiment["name"] == name)


def difference(row: dict[str, Any]) -> str:
    """Of a row of a sweep from its rival in points, with the interval; nothing where it has none."""
    if "difference" not in row:
        return ""
    low, high = (f"{100 * value:+.1f}" for value in row["difference"]["interval"])
    return f"{100 * row['difference']['mean']:+.1f} [{low}, {high}]"


def _map(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['map']:.1f} ± {50 * (high - low):.1f}"


def _budget_rows() -> list[tuple[int, dict[str, Any], dict[str, Any], str]]:
    rows = {(row["label"]["source"], row["label"]["budget"]): row for row in _experiment("evidence", "budget")}
    found = []
    for budget in PUBLISHED:
        frames, codec = rows["frames", budget], rows["codec", budget]
        found.append((budget, frames, codec, difference(codec)))
    return found


def budget() -> str:
    """JumpScore of frames and codec canvases at equal budgets."""
    rows = [[str(n), _map(frames), _map(codec), gain] for n, frames, codec, gain in _budget_rows()]
    return table(["canvases' worth of tokens", "sampled frames", "codec canvases", "paired difference"], rows)


def budget_beside_published() -> str:
    """The same with the number of seeds and the paper's numbers."""
    rows = []
    for n, frames, codec, gain in _budget_rows():
        published = ", ".join(f"{value:.1f}" for value in PUBLISHED[n])
        rows.append([str(n), _map(frames), _map(codec), gain, str(codec["runs"]), published])
    return table(["canvases", "frames", "codec", "codec - frames", "seeds", "published: frames, codec"], rows)


def _by_input(name: str, folder: str = "minutes") -> dict[tuple[int, str], dict[str, Any]]:
    rows = _experiment(folder, name)
    return {(row["label"]["budget"], row["label"]["input"]): row for row in rows if row["runs"]}


def _seed_scores(row: dict[str, Any]) -> str:
    """The mean, and each seed where there are few."""
    seeds = ", ".join(f"{100 * value:.1f}" for value in row["map_per_seed"])
    return f"{100 * row['map']:.1f}" + (f" ({seeds})" if row["runs"] > 1 else "")


def minutes() -> str:
    """JumpScore on clips of one to two minutes: each choice of tokens, and what frames could score at best."""
    rows = _by_input("budget")
    best = json.loads((RESULTS / "minutes" / "frames_at_best.json").read_text(encoding="utf-8"))["map"]
    found = []
    for budget_ in sorted({budget_ for budget_, name in rows if name == "frames"}):
        scores = [_seed_scores(rows[budget_, name]) for name in ("frames", "paper", "event", "hybrid")]
        found.append([str(budget_), *scores, f"{100 * best[str(budget_)]:.1f}"])
    return table(["canvases", "frames", "`paper`", "`event`", "hybrid", "frames, read perfectly"], found)


def minutes_in_short() -> str:
    """Frames, the paper's choice of blocks and ours."""
    rows = _by_input("budget")
    best = json.loads((RESULTS / "minutes" / "frames_at_best.json").read_text(encoding="utf-8"))["map"]
    found = []
    for budget_ in (8, 16, 32, 64):
        scores = [f"{100 * rows[budget_, name]['map']:.1f}" for name in ("frames", "paper", "event")]
        found.append([str(budget_), scores[0], f"{100 * best[str(budget_)]:.1f}", *scores[1:]])
    return table(
        ["canvases' worth of tokens", "frames", "frames, read perfectly", '`preset="paper"`', '`preset="event"`'], found
    )


def pruning(folder: str = "minutes") -> str:
    """The same number of tokens chosen before the encoder and after it: scores, and what the encoder computes."""
    rows = _by_input("pruning", folder)
    texts = {"frames": "frames", "evs": "EVS", "uniqueness": "uniqueness", "paper": "`paper`", "event": "`event`"}

    def order(key: tuple[int, str]) -> tuple[int, int, int]:
        name, _, fewer = key[1].partition("-")
        return key[0], list(texts).index(name), -int(fewer or 999)

    found = []
    for key in sorted(rows, key=order):
        row, text = rows[key], texts[key[1].partition("-")[0]]
        if encoded := row["variant"].get("encoded"):
            text = f"{encoded} frames, then {text}"
        elif key[1] != "frames":
            text = f"blocks, {text}"
        flops = row.get("encoder_gflops")  # older runs did not count them
        costs = [
            "" if flops is None else f"{flops:.0f}" if flops >= 10 else f"{flops:.3f}",
            f"{row['tokenize_seconds']:.2f}",
            f"{row['train_seconds']:.0f}",
        ]
        found.append([f"{row['tokens']:.0f}", text, _seed_scores(row), *costs])
    return table(["tokens", "input", "mAP (seeds)", "encoder GFLOPs/clip", "tokenize s/clip", "train s"], found)


def without_times(name: str) -> str:
    """Positions or visibility in the encoder, read by probes that know of time what positions say, and with times."""
    timed = {row["label"][name]: row for row in _experiment("evidence", name)}
    found = []
    for row in _experiment("positions", name):
        label = row["label"][name]
        score = _seed_scores(row) if row["runs"] else "not run"
        known = f"{100 * timed[label]['map']:.1f}" if label in timed else ""
        found.append([label, score, difference(row), known])
    return table([name, "read by positions (seeds)", "difference", "read with times"], found)


def delays() -> str:
    """JumpScore of clips that come as a stream, by delay, beside whole clips at as many tokens."""
    found = []
    for row in _experiment("live-delay", "delay"):
        name = {"unbounded": "without bound"}.get(row["label"]["delay"], row["label"]["delay"])
        if row["runs"]:
            parts = " / ".join(f"{100 * row[f'ap@{within}']:.1f}" for within in ("0.1", "0.2", "0.3"))
            found.append([name, _seed_scores(row), parts, difference(row), f"{row['tokens']:.1f}"])
        else:
            found.append([name, "not run", "", "", ""])
    return table(["delay", "mAP (seeds)", "within 0.1 / 0.2 / 0.3 s", "against whole clips", "tokens a clip"], found)


def tuning() -> str:
    """Validation mAP of every seed while the recipe was chosen; the choice for frames in bold."""
    columns = [("rate-frames", 16), ("rate-frames", 32), ("rate-codec", 8), ("rate-codec", 16)]
    rows = []
    for rate in (0.002, 0.004, 0.008):
        cells = []
        for name, canvases in columns:
            label = {"budget": canvases, "lr": rate}
            cells.append(_seeds(next(r for r in _experiment("evidence-tuning", name) if r["label"] == label)))
        if rate == 0.002:
            cells[1] = f"**{cells[1]}**"
        rows.append([f"learning rate {rate}", *cells])
    others = [
        ("300 steps (0.004)", "steps", 300), ("600 steps", "steps", 600), ("1200 steps", "steps", 1200),
        ("width 64", "width", 64), ("whole clip visible", "visibility", "full"),
        ("each frame by itself", "visibility", "canvas"),
    ]  # fmt: skip
    for text, name, value in others:
        row = next(r for r in _experiment("evidence-tuning", name) if r["label"] == {name: value})
        rows.append([text, "", _seeds(row), "", ""])
    return table(["", *(f"{name.removeprefix('rate-')}, {canvases} canvases" for name, canvases in columns)], rows)


def _seeds(row: dict[str, Any]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in row["val_map_per_seed"])


def tracking() -> str:
    """Scores of the small model that points, beside true points and black frames."""
    rows = []
    scores = {"J&F": "j&f", "point F1": "point_f1", "HOTA": "hota"}
    for steps, canvases, shown in ((800, 8, scores), (300, 8, {"J&F": "j&f"}), (300, 4, {"J&F": "j&f"})):
        runs = read_tables(f"tracking/steps-{steps}.md")[0]

        def cell(source: str, column: str, budget: int, runs: list[dict[str, str]] = runs) -> str:
            own = [row for row in runs if row["tokens from"] == source and row["canvases"] in (str(budget), "-")]
            return own[0][column].replace("100.0", "100")

        for text, column in shown.items():
            ways = [cell(source, column, canvases) for source in ("codec", "frames", "true points")]
            rows.append([str(steps), str(canvases), text, *ways, cell("blank", column, 8)])
    return table(["steps", "canvases", "score", "codec", "frames", "true points", "black frames"], rows)
