"""The report: one self-contained HTML page that shows what was chosen of a video, and why.

No network, no fonts, no scripts but its own; readable on a phone, light and dark. Everything that
comes from a file (names, metadata, provenance) is escaped.
"""

import json
import os
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import ov2kit
from ov2kit.canvases import Canvases
from ov2kit.codec.report.charts import clock_text
from ov2kit.codec.report.facts import Facts
from ov2kit.codec.report.sections import (
    bit_cost,
    comparison,
    gallery_of,
    heat,
    losses,
    number,
    provenance_table,
    source_frames,
    stages,
    timeline,
)  # fmt: skip
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.source import VideoSource
from ov2kit.files import refuse_overwriting_inputs, write_text


def write_report(
    path_out: str | os.PathLike[str], video: VideoSource | VideoStream, canvases: Canvases, *, title: str | None = None
) -> Path:
    """Write one HTML page about the canvases of one video. It appears whole or not at all.

    The page shows the bit-cost curve with triggers and cuts, the groups and the frames looked at,
    the tokens against uniform frames at the same budget, every canvas (touch a block to see where
    and when it comes from), heat maps of the chosen positions, source frames with the chosen blocks
    outlined, seconds per stage and provenance.

    Args:
        path_out: the file to write; its folder is made if need be.
        video: what the canvases were made from: path, bytes, binary file object, or an open stream.
        canvases: of one clip; from any tokenizer, or loaded.
        title: heading of the page; the name of the video by default.

    Returns:
        The path of the page.

    Raises:
        VideoError: the video cannot be read.
        CanvasError: several clips, no canvas, or canvases of another video.
        OutputError: `path_out` cannot be written, or is the video.
    """
    refuse_overwriting_inputs(path_out, [video.label if isinstance(video, VideoStream) else video])
    stream = video if isinstance(video, VideoStream) else VideoStream(video)
    facts = Facts(canvases.to("cpu"), stream.packets)
    page = _page(facts, stream, title if title is not None else Path(stream.label).name or stream.label)
    target = Path(path_out).expanduser()
    write_text(target, page)
    return target


def _page(facts: Facts, stream: VideoStream, title: str) -> str:
    sections = [
        _head(facts, stream, title),
        losses(facts),
        _section("Bit cost and groups", bit_cost(facts)),
        _section("Frames looked at", timeline(facts)),
        _section("Tokens against uniform frames", comparison(facts)),
        _section("Canvases", gallery_of(facts)),
        _section("Where the chosen blocks lie", heat(facts)),
        _section("Source frames", source_frames(facts, stream)),
        _section("Seconds per stage", stages(facts)),
        _section("Provenance", provenance_table(facts)),
    ]
    assets = resources.files("ov2kit.codec.report") / "assets"
    texts = {name: (assets / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    return Template(texts["page.html"]).substitute(
        title=escape(title),
        css=texts["page.css"],
        js=texts["page.js"],
        body="\n".join(part for part in sections if part),
        data=_script_json(_block_data(facts)),
        version=escape(ov2kit.__version__),
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _head(facts: Facts, stream: VideoStream, title: str) -> str:
    info, canvases, made = stream.info, facts.canvases, facts.made
    height, width = info.display_size
    about = [
        clock_text(facts.duration, 1),
        f"{width} × {height}",
        info.codec,
        f"{facts.table.fps:.4g} frames/s",
        f"{number(facts.table.num_frames)} frames",
    ]
    how = [f"preset {made.preset}"] if made.preset is not None else []
    how.append(f"chosen by {canvases.signal}" if canvases.signal != "none" else "whole frames, nothing chosen")
    whole = int(facts.anchor.sum())
    tiles = [
        (str(len(canvases)), "canvases", f"{whole} whole, {len(canvases) - whole} of blocks"),
        (number(canvases.num_tokens), "tokens", f"{facts.grid[0] * facts.grid[1]} a canvas"),
        (str(len(facts.group_ids)), "groups", f"{facts.duration / len(facts.group_ids):.1f} s on average"),
        (number(len(facts.frames)), "frames seen", f"uniform: {len(facts.uniform.frames)} for as many tokens"),
    ]
    if made.seconds:
        total = sum(made.seconds.values())
        tiles.append((f"{total:.2f} s", "to make", f"{facts.duration / max(total, 1e-9):.3g} s of video per second"))
    cells = "".join(
        f"<li><b>{escape(a)}</b><span>{escape(b)}</span><small>{escape(c)}</small></li>" for a, b, c in tiles
    )
    return (
        f"<header><h1>{escape(title)}</h1><p>{escape(' · '.join(about))}</p>"
        f'<p class="muted">{escape(" · ".join(how))}</p></header><ul class="tiles">{cells}</ul>'
    )


def _block_data(facts: Facts) -> dict[str, Any]:
    """What the page's script needs to name a block: runs of [frame, first place, source cells...] per canvas."""
    rows, columns = facts.grid
    canvases = []
    for k, blocks in enumerate(facts.blocks):
        runs: list[list[int]] = []
        before = (-1, -1)
        for place, (frame, row, column) in enumerate(blocks.reshape(-1, 3).tolist()):
            if frame < 0:
                continue
            if before != (frame, place - 1):
                runs.append([frame, place])
            runs[-1].append(row * columns + column)
            before = (frame, place)
        canvases.append({"group": facts.group_ids.index(int(facts.groups[k])), "runs": runs})
    times = {int(frame): round(facts.times[int(frame)], 4) for frame in facts.frames}
    return {"rows": rows, "columns": columns, "times": times, "canvases": canvases}
