"""One web page on a run: scores, tables by attribute, and the worst cases as filmstrips. No network, one file."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ov2kit.errors import Ov2kitError
from ov2kit.files import safe_name, write_text
from ov2kit.recipes.spatial.attributes import ATTRIBUTES
from ov2kit.recipes.spatial.layouts import ReferringItem
from ov2kit.recipes.spatial.overlay import filmstrip, painted_frame
from ov2kit.recipes.spatial.segmenter import MaskTracks, frame_prompts
from ov2kit.recipes.spatial.tracks import parse_tracks

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; }
td { text-align: right; } td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; display: block; } .case { margin: 2em 0; } .note { color: #666; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } td, th { border-color: #444; } }
"""
_MEANINGS = {
    "j&f": "mean of J (region) and F (outline) over all frames",
    "hota": "objects kept apart, association included",
    "public_hota": "the public evaluation's: the union of objects, association left out",
    "point_f1": "points in the right masks, per frame",
    "point_hota": "the same with identities",
    "ceiling_j&f": "J&F of the segmenter given true points",
    "segmenter_share": "J&F over the ceiling",
}


def write_page(
    path: Path, scores: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], items: Sequence[ReferringItem],
    masks: Path, *, worst: int = 8,
) -> Path:  # fmt: skip
    """Write the page of a run.

    Args:
        path: HTML file.
        scores: of `evaluate_referring`.
        lines: of predictions.jsonl.
        items: of `read_referring`.
        masks: folder of predicted masks.
        worst: how many of the worst expressions are shown.
    """
    by_id = {item.id: item for item in items}
    scored = sorted((line for line in lines if line["error"] is None), key=lambda line: float(line["j&f"]))
    parts = [
        "<h1>Referring segmentation by points</h1>",
        f"<p>{scores['expressions']} expressions, {scores['errors']} errors, {scores['id_switches']} id switches.</p>",
        _scores(scores), _attributes(scores["attributes"]), "<h2>Worst cases</h2>",
        "<p class=note>Above what was found, with the points of the answer; below what is true.</p>",
        *(_case(line, by_id[line["id"]], masks) for line in scored[:worst] if line["id"] in by_id),
    ]  # fmt: skip
    failed = [f"<li>{html.escape(str(line['id']))}: {html.escape(line['error'])}" for line in lines if line["error"]]
    if failed:
        parts.append("<h2>Errors</h2><ul>" + "".join(failed) + "</ul>")
    page = f"<!doctype html><meta charset=utf-8><title>Tracking</title><style>{_STYLE}</style>" + "\n".join(parts)
    write_text(path, page + "\n")
    return path


def _scores(scores: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td>{100 * scores[name]:.1f}<td>{html.escape(meaning)}"
        for name, meaning in _MEANINGS.items()
        if name in scores
    )
    return f"<h2>Scores</h2><table><tr><th>score<th>%<th>what it is{rows}</table>"


def _attributes(table: Mapping[str, Mapping[str, float | None]]) -> str:
    rows = "".join(
        f"<tr><td title='{html.escape(ATTRIBUTES.get(name, ''))}'>{name}<td>{row['videos']:.0f}"
        f"<td>{_percent(row['with'])}<td>{_percent(row['without'])}"
        for name, row in table.items()
    )
    return f"<h2>J&amp;F by attribute</h2><table><tr><th>attribute<th>expressions<th>with<th>without{rows}</table>"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _case(line: Mapping[str, Any], item: ReferringItem, masks: Path) -> str:
    title = (
        f"<h3>{html.escape(item.expression)}</h3><p>{html.escape(item.id)}: J&amp;F {100 * line['j&f']:.1f}, point F1 "
        f"{100 * line['point_f1']:.1f}; {html.escape(', '.join(line['attributes']) or 'no attribute')}</p>"
    )
    try:
        picture = _strips(line, item, masks / f"{safe_name(item.id)}.json")
    except (Ov2kitError, OSError) as error:
        return f"<div class=case>{title}<p class=note>{html.escape(str(error))}</p></div>"
    return f"<div class=case>{title}{_inline(picture)}</div>"


def _strips(line: Mapping[str, Any], item: ReferringItem, path: Path) -> Image.Image:
    """Six frames: found above true; the worst frame is always among them."""
    frames = item.frames()
    truth = item.read_masks().resized(frames.size)
    count = min(len(frames), truth.frames)
    stored = json.loads(path.read_text(encoding="utf-8"))
    found = MaskTracks(count, truth.size, {int(i): track for i, track in stored.items()})
    spread = {round(k) for k in np.linspace(0, count - 1, min(5, count))}
    chosen = sorted(spread | {int(np.argmin(line["j_frames"][:count]))})
    prompts = frame_prompts(parse_tracks(line["prediction"]), count, truth.size, fps=item.fps)
    captions = [f"{frames.seconds[k]:.2f} s, J {line['j_frames'][k]:.2f}" for k in chosen]
    rows = [
        filmstrip([painted_frame(frames, found, prompts, k) for k in chosen], captions),
        filmstrip([painted_frame(frames, truth, {}, k) for k in chosen], ["true"] * len(chosen)),
    ]
    sheet = Image.new("RGB", (rows[0].width, rows[0].height + rows[1].height), (255, 255, 255))
    sheet.paste(rows[0], (0, 0))
    sheet.paste(rows[1], (0, rows[0].height))
    return sheet


def _inline(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}'>"
