"""The calibration's report, as Markdown."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._bitcost.encodes import Encode
from benchmarks._peers.tables import markdown

REACH = (0.85, 0.65)
_BLOCKS = 0.6


class Row(NamedTuple):
    """One clip, measured by coefficients that did not see its footage.

    Attributes:
        clip: file name.
        codec: FFmpeg's name.
        signal: what bits were estimated from.
        frames: that were measured.
        grid: rows and columns of macroblocks.
        told: part of the packets' bits that the truth accounts for.
        correlation: of log(1 + bits) over all macroblocks.
        overlap: of the best 10 % of 2 x 2 areas per 32 frames.
        moving_correlation: without I-frames.
        moving_overlap: without I-frames.
        bytes_ceiling: correlation of the estimate with itself counted in whole bytes, as the truth is.
        blocks: share of the released tool's blocks that `preset="release"` chooses too, on its groups.
        blocks_chance: what chance gives.
        blocks_before: the same with packet bytes shared out by residual instead of estimated bits.
    """

    clip: str
    codec: str
    signal: str
    frames: int
    grid: tuple[int, int]
    told: float
    correlation: float
    overlap: float
    moving_correlation: float
    moving_overlap: float
    bytes_ceiling: float
    blocks: float = float("nan")
    blocks_chance: float = float("nan")
    blocks_before: float = float("nan")


def _means(rows: Sequence[Row]) -> list[str]:
    cells = []
    for name in ("correlation", "overlap", "moving_correlation", "moving_overlap"):
        values = [getattr(r, name) for r in rows if getattr(r, name) == getattr(r, name)]
        cells += [f"{statistics.fmean(values):.3f}", f"{min(values):.2f}"] if values else ["", ""]
    return cells


def write_report(
    path: Path, rows: Sequence[Row], skipped: dict[str, str], plan: Sequence[Encode], about: dict[str, Any]
) -> None:
    """Summary by signal and codec, then every clip."""
    head = ["signal", "codec", "clips"]
    for name in ("correlation", "overlap", "without I: correlation", "without I: overlap"):
        head += [name, "worst"]
    summary = []
    for signal in dict.fromkeys(r.signal for r in rows):
        for codec in dict.fromkeys(r.codec for r in rows if r.signal == signal):
            own = [r for r in rows if (r.signal, r.codec) == (signal, codec)]
            summary.append([signal, codec, str(len(own)), *_means(own)])
    clips = []
    for r in rows:
        if ":" in r.signal:
            continue
        missed = [what for what, value, reach in (("correlation", r.correlation, REACH[0]),
                  ("overlap", r.overlap, REACH[1])) if value < reach]  # fmt: skip
        clips.append([
            r.clip, r.signal, r.codec, str(r.frames), f"{r.grid[0]} x {r.grid[1]}", f"{r.told:.3f}",
            f"{r.correlation:.3f}", f"{r.overlap:.3f}", f"{r.moving_correlation:.3f}", f"{r.moving_overlap:.3f}",
            f"{r.bytes_ceiling:.3f}", ", ".join(missed),
        ])  # fmt: skip
    chosen = [
        [r.clip, f"{r.blocks:.3f}", f"{r.blocks_before:.3f}", f"{r.blocks_chance:.3f}", "blocks" * (r.blocks < _BLOCKS)]
        for r in rows if r.blocks == r.blocks
    ]  # fmt: skip
    if chosen:
        columns = [[float(line[i]) for line in chosen] for i in (1, 2, 3)]
        chosen.insert(0, ["**mean**", *(f"**{statistics.fmean(column):.3f}**" for column in columns), ""])
    counts = {name: sum(e.encoder == name for e in plan) for name in dict.fromkeys(e.encoder for e in plan)}
    text = f"""# Calibration of the bit-cost map

Written by {about["script"]["name"]}, version {about["script"]["version"]}, seed {about["seed"]}, {
        about["steps"]["vectors"]
    } steps
per fit (a quarter without vectors), hidden layers of {about["hidden"][0]} and {about["hidden"][1]}. Truth: {
        about["truth"]
    }.
Encodes made:
{", ".join(f"{n} {name}" for name, n in counts.items())}. Every clip below was measured by coefficients
fitted without any clip of its footage.

Correlation: of log(1 + bits), all macroblocks of all frames. Overlap: best 10 % of areas of 2 x 2 macroblocks of
every 32 frames, chance 0.10. HEVC and VP9: the truth is per coding unit; what is larger than a macroblock
is spread evenly.

{markdown(head, summary)}

`bytes`: the correlation of each estimate with itself counted in whole bytes, as the patched decoder counts
CABAC: no estimate can be measured to be better than that. `missed`: below {REACH[0]} and {REACH[1]}.

{
        markdown(
            [
                "clip",
                "signal",
                "codec",
                "frames",
                "macroblocks",
                "bits counted",
                "correlation",
                "overlap",
                "without I: correlation",
                "without I: overlap",
                "bytes",
                "missed",
            ],
            clips,
        )
    }

Blocks on P-canvases, `preset="release"` against the released tool on the groups that the tool made (128 sampled
frames): share of
its blocks that ours chooses too.

{markdown(["clip", "estimated bits", "bytes shared out by residual", "chance", "missed"], chosen)}

Not used:

{chr(10).join(f"- {name}: {why}" for name, why in sorted(skipped.items()))}
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
