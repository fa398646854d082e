"""How fast, beside other tools: from results/peers.md, gpu_h200.md and once.json."""

import re

from benchmarks._peers.tables import geometric_mean
from benchmarks._tables.markdown import by, once, read_tables, table

_GPU_WAYS = {
    **{name: f"ov2kit {name}" for name in ("sdpa", "varlen", "xformers", "flex")},
    "SDPA, dense mask": "SDPA, dense mask",
    "xformers, dense mask": "xformers, dense mask",
}


def kept(name: str) -> str:
    """A table that was measured once and is kept as it came."""
    found = once(name)
    return table(found["head"], found["rows"])


def _seconds(cell: str) -> str:
    return cell.split(" ", 1)[0] + " s"


def _plain(cell: str) -> float:
    return float(cell.strip("*"))


def clips() -> str:
    """Seconds for 32 canvases, and ratios."""
    ours, _, lmms, _ = read_tables("peers.md")
    slowest = by(lmms, "clip")
    rows = []
    for row in ours:
        far = f"{_plain(slowest[row['clip']]['lmms-video-utils / ov2kit']):.1f}"
        ratio, peer = row["ov2kit / bare decode"], row["codec-video-prep / ov2kit"]
        if row["clip"] == "geometric mean":
            rows.append(["geometric mean", "", "", ratio, peer, f"**{far}**"])
            continue
        stream = re.sub("^(h264|hevc)", lambda m: {"h264": "H.264", "hevc": "HEVC"}[m[0]], row["stream"])
        times = [_seconds(row["ov2kit, s (MB)"]), _seconds(row["bare decode, s (MB)"])]
        rows.append([stream, *times, ratio, peer, far])
    head = ["clip", "ov2kit", "bare decoding", "ov2kit / bare"]
    return table([*head, "codec-video-prep / ov2kit", "lmms-video-utils / ov2kit"], rows)


def aims() -> str:
    """What was aimed at, what was measured, and whether that reaches it."""
    ours, _, lmms, hour = read_tables("peers.md")
    own = by(ours, "stream")
    peer, bare = "codec-video-prep / ov2kit", "ov2kit / bare decode"
    worst = min(_plain(row[peer]) for row in ours)
    at = {size: max(_plain(row[bare]) for stream, row in own.items() if size in stream) for size in ("x720", "x1080")}
    mean = by(ours, "clip")["geometric mean"]
    of = by(hour, "one hour")
    mine, tool, decode = (float(of[name]["seconds"]) for name in ("ov2kit", "codec-video-prep", "bare decode"))
    bits = geometric_mean(float(row[3]) for row in once("bits-cost")["rows"])
    grouping = once("grouping-hour")["seconds"]
    slow = f"{_plain(by(lmms, 'clip')['geometric mean']['lmms-video-utils / ov2kit']):.1f} times"
    decoding = f"{_plain(mean[bare]):.1f} times; {at['x720']:.1f} at 720p and {at['x1080']:.1f} at 1080p"
    rows = [
        ("3 times as fast as codec-video-prep 0.2.5, never under 2",
         f"{_plain(mean[peer]):.1f} times, at least {worst:.1f}", "reached"),
        ("20 times as fast as lmms-video-utils 0.1.0", slow, "missed"),
        ("at most 1.5 times bare decoding, 1.2 at 720p and above", decoding, "missed except at 1080p"),
        ("an hour, 128 canvases: 1.5 times as fast as codec-video-prep",
         f"{tool / mine:.1f} times ({mine:.1f} s against {tool:.1f} s)", "reached"),
        ("an hour: at most 0.7 of bare decoding",
         f"{mine / decode:.2f} ({mine:.1f} s against {decode:.1f} s)", "reached"),
        ('estimated bits (`preset="release"`): at most 1.25 times the time without',
         f"[{bits:.2f} times](docs/bitcost.md#cost)", "missed"),
        ("memory of an hour at most 1.3 times that of a minute", f"{of['ov2kit']['hour / minute']} times", "reached"),
        ("grouping an hour by bit cost in under 0.5 s",
         f"{grouping['all']:.2f} s, of which demuxing {grouping['demuxing']:.2f} s", "reached"),
    ]  # fmt: skip
    return table(["aim", "measured", ""], rows)


def gpu() -> str:
    """Milliseconds of the forward pass on one GPU, by backend; what `auto` takes in bold."""
    inputs: dict[str, dict[str, str]] = {}
    for row in read_tables("gpu_h200.md")[1]:
        way = row["way"].removesuffix(" *")
        mark = "**" if way != row["way"] else ""
        inputs.setdefault(row["input"], {})[way] = f"{mark}{_ms(float(row['forward ms']))}{mark}"
    names = ("4 groups", "16 groups", "32 groups", "16 mixed", "4 causal")
    shown = [[name, *(inputs[name].get(way, "") for way in _GPU_WAYS.values())] for name in names]
    return table(["input", *_GPU_WAYS], shown)


def gpu_encoder() -> str:
    """The encoder on one GPU beside the release's arithmetic in plain torch."""
    rows = read_tables("gpu_h200.md")[2]
    cells = ("input", "tokens", "ov2kit ms", "plain ms", "ratio", "ov2kit MiB", "plain MiB")
    return table(cells, [[row[cell] for cell in cells] for row in rows])


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
