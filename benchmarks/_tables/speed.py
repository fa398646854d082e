"""How fast, beside other tools: from results/peers.md, gpu_h200.md and once.json."""

import json
import re

from benchmarks._peers.tables import geometric_mean
from benchmarks._tables.markdown import RESULTS, by, once, read_tables, table

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
            rows.append(
                ["geometric mean", "", "", "", ratio, row["ov2kit without numba / bare decode"], peer, f"**{far}**"]
            )
            continue
        stream = re.sub("^(h264|hevc)", lambda m: {"h264": "H.264", "hevc": "HEVC"}[m[0]], row["stream"])
        times = [_seconds(row[f"{way}, s (MB)"]) for way in ("ov2kit", "ov2kit without numba", "bare decode")]
        rows.append([stream, *times, ratio, row["ov2kit without numba / bare decode"], peer, far])
    head = ["clip", "ov2kit", "without numba", "bare decoding", "ov2kit / bare", "without numba / bare"]
    return table([*head, "codec-video-prep / ov2kit", "lmms-video-utils / ov2kit"], rows)


def aims() -> str:
    """What was aimed at, what was measured, and whether that reaches it."""
    ours, _, lmms, hour = read_tables("peers.md")
    peer, bare, floor = "codec-video-prep / ov2kit", "ov2kit / bare decode", "ov2kit / floor"
    own = by(ours, "clip")
    mean = own.pop("geometric mean")
    of = by(hour, "one hour")
    mine, tool, decode = (float(of[name]["seconds"]) for name in ("ov2kit", "codec-video-prep", "bare decode"))
    bits = geometric_mean(float(row[3]) for row in once("bits-cost")["rows"])
    grouping = once("grouping-hour")["seconds"]
    of_bare, of_peer = ([_plain(row[ratio]) for row in own.values()] for ratio in (bare, peer))
    slow = _plain(by(lmms, "clip")["geometric mean"]["lmms-video-utils / ov2kit"])
    grown = float(of["ov2kit"]["hour / minute"])
    rows = [
        ("at most 1.05 times bare decoding", f"{_plain(mean[bare]):.2f} times", _plain(mean[bare]) <= 1.05),
        ("no clip over 1.6 times bare decoding", f"{max(of_bare):.2f} times", max(of_bare) <= 1.6),
        ("4.3 times as fast as codec-video-prep 0.2.5, never under 2.5",
         f"{_plain(mean[peer]):.1f} times, at least {min(of_peer):.1f}",
         _plain(mean[peer]) >= 4.3 and min(of_peer) >= 2.5),
        ("28 times as fast as lmms-video-utils 0.1.0", f"{slow:.1f} times", slow >= 28),
        ("an hour, 128 canvases: 1.5 times as fast as codec-video-prep",
         f"{tool / mine:.1f} times ({mine:.1f} s against {tool:.1f} s)", tool >= 1.5 * mine),
        ("an hour: at most 0.4 of bare decoding",
         f"{mine / decode:.2f} ({mine:.1f} s against {decode:.1f} s)", mine <= 0.4 * decode),
        ('estimated bits (`preset="release"`): at most 1.15 times the time without',
         f"[{bits:.2f} times](docs/bitcost.md#cost)", bits <= 1.15),
        ("memory of an hour at most 1.3 times that of a minute", f"{grown:.2f} times", grown <= 1.3),
        ("grouping an hour by bit cost in under 0.5 s",
         f"{grouping['all']:.2f} s, of which demuxing {grouping['demuxing']:.2f} s", grouping["all"] < 0.5),
    ]  # fmt: skip
    if floor in mean:  # results of earlier days have no floor
        worst = max(_plain(row[floor]) for row in own.values())
        rows.insert(2, ("no clip over 1.3 times its own floor", f"{worst:.2f} times", worst <= 1.3))
    rows += _of_growth()
    return table(["aim", "measured", ""], [(aim, found, "reached" if yes else "missed") for aim, found, yes in rows])


def _of_growth() -> list[tuple[str, str, bool]]:
    """Aims that `benchmarks.scaling` measures, once it has run."""
    if not (RESULTS / "scaling.json").is_file():
        return []
    points = json.loads((RESULTS / "scaling.json").read_text(encoding="utf-8"))["points"]
    at = {(point["axis"], point["value"]): point for point in points}
    found = []
    if large := at.get(("resolution", "1080p")):
        found.append(("1080p, 32 canvases: at most 600 MB over the import", f"{large['peak_mb']:.0f} MB",
                      large["peak_mb"] <= 600))  # fmt: skip
    if long := at.get(("duration", "10 min")):
        # of the same loop, `stream`; results of earlier days know the time of a plain call alone
        share = long["first_group_seconds"] / long.get("stream_seconds", long["ours"]["seconds"])
        found.append(("ten minutes: the first group before a quarter of the time", f"{share:.2f}", share <= 0.25))
    return found


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
