"""The sections of a report page: each turns counted facts into HTML, or into nothing where there is nothing to show."""

from html import escape

import numpy as np
import torch

from ov2kit.codec.report.charts import Plot, bars, clock_text, legend
from ov2kit.codec.report.facts import Facts, text_rows
from ov2kit.codec.report.overlays import heat_layer, spotlight
from ov2kit.codec.report.pictures import data_address, gallery
from ov2kit.codec.stream import VideoStream

_TOKEN_BINS = 48
_SOURCE_FRAMES = 8
_HEAT_MAPS = 12  # of single groups; more would say less


def number(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def losses(facts: Facts) -> str:
    """What a damaged file did not give."""
    lost = facts.made.lost
    return f'<p class="warning">Damaged video: {escape(str(lost))}.</p>' if lost else ""


def _group_texts(facts: Facts) -> list[str]:
    texts = []
    for number, (group, (start, end)) in enumerate(zip(facts.group_ids, facts.group_spans, strict=True), 1):
        count = int((facts.groups == group).sum())
        texts.append(f"Group {number}: {clock_text(start)} to {clock_text(end)}, {count} canvases")
    return texts


def bit_cost(facts: Facts) -> str:
    """The curve of bit cost, the groups it was cut into, and where cuts were asked for."""
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
        keys.insert(1, ("trigger", "quota spent or longest span: cut requested"))
    if len(facts.key_seconds) <= 400:
        keys.append(("key-frame", "keyframe of the file"))
    return plot.html("Bytes per bin of time, with the groups they were cut into", "tall") + legend(keys)


def timeline(facts: Facts) -> str:
    """Frames that gave blocks, beside uniform frames at the same budget."""
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
        f"<h3>Codec canvases: {number(len(facts.frames))} frames</h3>"
        + codec.html("Frames that gave blocks, by time", "low", axis=False)
        + f"<h3>Uniform, same tokens: {number(len(facts.uniform.frames))} frames</h3>"
        + even.html("Uniform frames, by time", "strip")
        + legend(
            [
                ("anchor", "frame shown whole"),
                ("seen", "frame that gave blocks; height is how many"),
                ("even", "uniform frame"),
            ]
        )
    )


def comparison(facts: Facts) -> str:
    """Tokens over time and in numbers, against uniform frames at the same budget."""
    edges, moving, whole = facts.tokens_over_time(_TOKEN_BINS)
    even = len(facts.uniform.frames) * facts.uniform.tokens_per_frame / _TOKEN_BINS
    top = int(max((moving + whole).max(), even))
    plot = Plot(facts.duration, 1.12 * top)
    plot.level(top, f"{number(top)} tokens in {clock_text(facts.duration / _TOKEN_BINS)}")
    plot.steps(edges.tolist(), whole.tolist(), "whole")
    plot.steps(edges.tolist(), (whole + moving).tolist(), "moving", whole.tolist())
    plot.line([0.0, facts.duration], [even], "uniform")
    per_frame = facts.uniform.tokens_per_frame
    mine, theirs = facts.seconds(facts.frames), facts.uniform.seconds
    rows = [
        ("Tokens", number(facts.canvases.num_tokens), number(len(theirs) * per_frame)),
        ("Source frames seen", number(len(mine)), number(len(theirs))),
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
        ("Tokens to show these frames whole", number(len(mine) * per_frame), number(len(theirs) * per_frame)),
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


def gallery_of(facts: Facts) -> str:
    """Every canvas, group by group."""
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


def heat(facts: Facts) -> str:
    """Where in the picture the chosen blocks lie, over all groups and for some of them."""
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


def source_frames(facts: Facts, stream: VideoStream) -> str:
    """The source frames that gave most blocks, with what was not chosen dimmed."""
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


def stages(facts: Facts) -> str:
    """Seconds per stage."""
    seconds = facts.made.seconds
    if not seconds:
        return ""
    total = sum(seconds.values())
    rows = [(name, value, f"{value:.3f} s") for name, value in seconds.items()]
    return bars(rows) + f'<p class="muted">{total:.3f} s in all, for {clock_text(facts.duration, 1)} of video.</p>'


def provenance_table(facts: Facts) -> str:
    """How the canvases were made: in short, and all of it."""
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
