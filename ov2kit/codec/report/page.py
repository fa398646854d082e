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

import numpy as np
import torch

import ov2kit
from ov2kit.canvases import Canvases
from ov2kit.codec.report.charts import Plot, bars, clock_text, legend
from ov2kit.codec.report.facts import Facts, text_rows
from ov2kit.codec.report.pictures import data_address, gallery, heat_layer, spotlight
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.source import VideoSource
from ov2kit.files import refuse_overwriting_inputs, write_text

_TOKEN_BINS = 48
_SOURCE_FRAMES = 8
_HEAT_MAPS = 12  # of single groups; more would say less


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
        _losses(facts),
        _section("Bit cost and groups", _bit_cost(facts)),
        _section("Frames looked at", _timeline(facts)),
        _section("Tokens against uniform frames", _comparison(facts)),
        _section("Canvases", _gallery(facts)),
        _section("Where the chosen blocks lie", _heat(facts)),
        _section("Source frames", _source_frames(facts, stream)),
        _section("Seconds per stage", _stages(facts)),
        _section("Provenance", _provenance(facts)),
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


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _head(facts: Facts, stream: VideoStream, title: str) -> str:
    info, canvases, made = stream.info, facts.canvases, facts.made
    height, width = info.display_size
    about = [
        clock_text(facts.duration, 1),
        f"{width} × {height}",
        info.codec,
        f"{facts.table.fps:.4g} frames/s",
        f"{_number(facts.table.num_frames)} frames",
    ]
    how = [f"preset {made.preset}"] if made.preset is not None else []
    how.append(f"chosen by {canvases.signal}" if canvases.signal != "none" else "whole frames, nothing chosen")
    whole = int(facts.anchor.sum())
    tiles = [
        (str(len(canvases)), "canvases", f"{whole} whole, {len(canvases) - whole} of blocks"),
        (_number(canvases.num_tokens), "tokens", f"{facts.grid[0] * facts.grid[1]} a canvas"),
        (str(len(facts.group_ids)), "groups", f"{facts.duration / len(facts.group_ids):.1f} s on average"),
        (_number(len(facts.frames)), "frames seen", f"uniform: {len(facts.uniform.frames)} for as many tokens"),
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


def _losses(facts: Facts) -> str:
    lost = facts.made.lost
    return f'<p class="warning">Damaged video: {escape(str(lost))}.</p>' if lost else ""


def _group_texts(facts: Facts) -> list[str]:
    texts = []
    for number, (group, (start, end)) in enumerate(zip(facts.group_ids, facts.group_spans, strict=True), 1):
        count = int((facts.groups == group).sum())
        texts.append(f"Group {number}: {clock_text(start)} to {clock_text(end)}, {count} canvases")
    return texts


def _bit_cost(facts: Facts) -> str:
    cost = facts.bit_cost
    energy = cost.energy
    if len(energy) > 1200:  # more than the page has pixels: keep the highest of each run
        run = -(-len(energy) // 1200)
        energy = np.pad(energy, (0, -len(energy) % run)).reshape(-1, run).max(axis=1)
        width = cost.bin_seconds * run
    else:
        width = cost.bin_seconds
    edges = (cost.start_seconds + width * np.arange(len(energy) + 1)).tolist()
    edges[-1] = min(edges[-1], max(facts.duration, edges[-2] + 1e-6))
    top = float(energy.max(initial=0.0)) or 1.0
    plot = Plot(facts.duration, 1.12 * top)
    plot.bands(facts.group_bands, _group_texts(facts))
    unit = f"{top / 1000:.3g} kB" if cost.unit == "bytes" else f"{top:.3g} {cost.unit}"
    plot.level(top, f"{unit} in {cost.bin_seconds:.3g} s")
    plot.steps(edges, energy.tolist(), "energy")
    plot.sticks(cost.cuts, "cut")
    places = np.clip(np.searchsorted(edges, cost.triggers, side="left") - 1, 0, len(energy) - 1)
    values = [float(energy[place]) for place in places]
    plot.dots(zip((second - cost.bin_seconds / 2 for second in cost.triggers), values, strict=True), "trigger")
    if len(facts.key_seconds) <= 400:
        plot.sticks(facts.key_seconds.tolist(), "key-frame", -0.04, 0.0)
    cut = "cut, made where it is cheapest" if cost.triggers else "start of a group"
    keys = [("energy", "bytes of frames between keyframes"), ("cut", cut)]
    if cost.triggers:
        keys.insert(1, ("trigger", "quota spent or longest span: cut asked for"))
    if len(facts.key_seconds) <= 400:
        keys.append(("key-frame", "keyframe of the file"))
    return plot.html("Bytes per bin of time, with the groups they were cut into", "tall") + legend(keys)


def _timeline(facts: Facts) -> str:
    moving, whole = facts.tokens_of_frame
    seconds = facts.seconds(facts.frames)
    most = max(int(moving.max(initial=0)), 1)
    codec = Plot(facts.duration)
    codec.bands(facts.group_bands, _group_texts(facts))
    part = moving > 0
    codec.sticks(seconds[part].tolist(), "seen", 0.0, (0.08 + 0.8 * moving[part] / most).tolist())
    codec.dots([(second, 0.9) for second in seconds[whole > 0].tolist()], "anchor")
    even = Plot(facts.duration)
    even.sticks(facts.uniform.seconds.tolist(), "even", 0.0, 0.88)
    return (
        f"<h3>Codec canvases: {_number(len(facts.frames))} frames</h3>"
        + codec.html("Frames that gave blocks, by time", "low", axis=False)
        + f"<h3>Uniform, same tokens: {_number(len(facts.uniform.frames))} frames</h3>"
        + even.html("Uniform frames, by time", "strip")
        + legend(
            [
                ("anchor", "frame shown whole"),
                ("seen", "frame that gave blocks; height is how many"),
                ("even", "uniform frame"),
            ]
        )
    )


def _comparison(facts: Facts) -> str:
    edges, moving, whole = facts.tokens_over_time(_TOKEN_BINS)
    even = len(facts.uniform.frames) * facts.uniform.tokens_per_frame / _TOKEN_BINS
    top = int(max((moving + whole).max(), even))
    plot = Plot(facts.duration, 1.12 * top)
    plot.level(top, f"{_number(top)} tokens in {clock_text(facts.duration / _TOKEN_BINS)}")
    plot.steps(edges.tolist(), whole.tolist(), "whole")
    plot.steps(edges.tolist(), (whole + moving).tolist(), "moving", whole.tolist())
    plot.line([0.0, facts.duration], [even], "uniform")
    per_frame = facts.uniform.tokens_per_frame
    mine, theirs = facts.seconds(facts.frames), facts.uniform.seconds
    rows = [
        ("Tokens", _number(facts.canvases.num_tokens), _number(len(theirs) * per_frame)),
        ("Source frames seen", _number(len(mine)), _number(len(theirs))),
        (
            "Longest time without a frame",
            clock_text(facts.longest_gap(mine)),
            clock_text(facts.longest_gap(theirs)),
        ),
        (
            "Coded bytes in the frames seen",
            f"{facts.byte_share(facts.frames):.0%}",
            f"{facts.byte_share(facts.uniform.frames):.0%}",
        ),
        ("Tokens to show these frames whole", _number(len(mine) * per_frame), _number(len(theirs) * per_frame)),
    ]
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(ours)}</td><td>{escape(other)}</td></tr>" for name, ours, other in rows
    )
    return (
        plot.html("Tokens per bin of time: whole frames, chosen blocks, and uniform frames", "tall")
        + legend(
            [
                ("whole", "whole frames"),
                ("moving", "chosen blocks"),
                ("uniform", "uniform frames, same tokens, on average"),
            ]
        )
        + f"<table><thead><tr><th></th><td>canvases</td><td>uniform</td></tr></thead><tbody>{cells}</tbody></table>"
    )


def _img(address: str, width: int, height: int, alt: str) -> str:
    return f'<img src="{address}" width="{width}" height="{height}" alt="{escape(alt)}">'


def _pictures(canvases: torch.Tensor) -> list[np.ndarray]:
    return list(canvases.permute(0, 2, 3, 1).contiguous().numpy())


def _caption(facts: Facts, k: int) -> str:
    shown = facts.blocks[k][..., 0]
    frames = np.unique(shown[shown >= 0])
    seconds = facts.seconds(frames)
    if facts.anchor[k]:
        return f"<b>I</b> {clock_text(float(seconds[0]))}"
    text = f"<b>P</b> {clock_text(float(seconds[0]))} to {clock_text(float(seconds[-1]))}<br>{len(frames)} frames"
    empty = int((shown < 0).sum())
    return text + (f", {empty} places empty" if empty else "")


def _gallery(facts: Facts) -> str:
    pictures = _pictures(facts.canvases.images)
    height, width = pictures[0].shape[:2]
    addresses = gallery(pictures)
    parts = [
        '<p class="hint">Point at a block or touch it to see where it comes from; click a canvas, or tap it twice, to '
        "enlarge it. <b>I</b> is a whole frame, <b>P</b> holds chosen blocks in order of time.</p>"
        '<label class="switch"><input type="checkbox" id="tint"> '
        "color blocks by time within their group, blue first, red last</label>"
    ]
    for text, group in zip(_group_texts(facts), facts.group_ids, strict=True):
        figures = []
        for k in np.flatnonzero(facts.groups == group).tolist():
            figures.append(
                f'<figure class="canvas" data-canvas="{k}" tabindex="0"><div class="picture">'
                f"{_img(addresses[k], width, height, f'canvas {k}')}</div>"
                f"<figcaption>{_caption(facts, k)}</figcaption></figure>"
            )
        parts.append(f'<h3><i class="key g{facts.group_ids.index(group) % 6}"></i>{escape(text)}</h3>')
        parts.append(f'<div class="grid four">{"".join(figures)}</div>')
    return "".join(parts)


def _heat(facts: Facts) -> str:
    total = facts.heat()
    if not total.any():
        return ""
    anchors = np.flatnonzero(facts.anchor)
    height, width = facts.canvases.images.shape[2:]

    def figure(counts: np.ndarray, anchor: int | None, caption: str, kind: str = "") -> str:
        picture = np.full((height, width, 3), 128, np.uint8)
        if anchor is not None:
            picture = _pictures(facts.canvases.images[anchor : anchor + 1])[0]
        address = data_address(picture, min(1.0, (560 if kind else 320) / width), 60)
        return (
            f'<figure class="{kind}"><div class="picture muted-picture">{_img(address, width, height, "")}'
            f"{heat_layer(counts, int(counts.max()))}</div><figcaption>{escape(caption)}</figcaption></figure>"
        )

    places = int((total > 0).sum())
    parts = [
        figure(
            total,
            int(anchors[0]) if len(anchors) else None,
            f"All groups: up to {int(total.max())} times; {places} of {total.size} places at least once",
            "wide",
        )
    ]
    step = max(1, -(-len(facts.group_ids) // _HEAT_MAPS))
    for number, group in enumerate(facts.group_ids[::step]):
        counts = facts.heat(group)
        mine = [int(k) for k in anchors if facts.groups[k] == group]
        if counts.any():
            caption = f"Group {number * step + 1}: up to {int(counts.max())} times"
            parts.append(figure(counts, mine[0] if mine else None, caption))
    hint = "How often each place of the picture was chosen, over the first whole frame of the group."
    more = f" One group in {step} is shown." if step > 1 else ""
    scale = '<p class="legend scale"><span>once</span><i></i><span>most often</span></p>'
    return f'<p class="hint">{hint}{more}</p>{scale}<div class="grid four">{"".join(parts)}</div>'


def _source_frames(facts: Facts, stream: VideoStream) -> str:
    wanted = facts.telling_frames(_SOURCE_FRAMES)
    if not wanted:
        return ""
    height, width = facts.canvases.images.shape[2:]
    figures = []
    chosen = facts.blocks[~facts.anchor].reshape(-1, 3)
    for frame in stream.frames(wanted, size=(height, width)):
        if frame.rgb is None:
            continue
        cells = np.unique(chosen[chosen[:, 0] == frame.index][:, 1:], axis=0)
        address = data_address(_pictures(frame.rgb[None])[0], min(1.0, 480 / width))
        caption = f"{clock_text(facts.times[frame.index])}, frame {frame.index}, {len(cells)} blocks"
        figures.append(
            f'<figure><div class="picture">{_img(address, width, height, f"frame {frame.index}")}'
            f"{spotlight(cells, facts.grid)}</div><figcaption>{caption}</figcaption></figure>"
        )
    hint = "The frames that gave most blocks; what was not chosen is dimmed."
    return f'<p class="hint">{hint}</p><div class="grid four">{"".join(figures)}</div>'


def _stages(facts: Facts) -> str:
    seconds = facts.made.seconds
    if not seconds:
        return ""
    total = sum(seconds.values())
    rows = [(name, value, f"{value:.3f} s") for name, value in seconds.items()]
    return bars(rows) + f'<p class="muted">{total:.3f} s in all, for {clock_text(facts.duration, 1)} of video.</p>'


def _provenance(facts: Facts) -> str:
    rows = [(name, text) for name, text in text_rows(facts.canvases.provenance) if text]
    if not rows:
        return ""
    cells = [f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows]
    first = ("preset", "signal", "codec", "versions", "assets")
    short = "".join(cell for cell, (name, _) in zip(cells, rows, strict=True) if name.split(".")[0] in first)
    return (
        f'<table class="record">{short}</table><details><summary>All {len(rows)} entries</summary>'
        f'<table class="record">{"".join(cells)}</table></details>'
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
