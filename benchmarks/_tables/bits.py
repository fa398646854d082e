"""How well bits are found: from results/normalization.md and bitcost.md."""

from benchmarks._tables.markdown import by, once, read_tables, table

_PER = ("frame", "group", "clip")


def _scores() -> dict[str, dict[str, str]]:
    return by(read_tables("normalization.md")[0], "scores")


def _mean(row: dict[str, str]) -> str:
    return f"{row['mean'].strip('*')} ({row['worst']})"


def shares() -> str:
    """The scores of the README, from chance to estimated bits."""
    scores = {name: row["mean"].strip("*") for name, row in _scores().items()}
    nearest = "scoring size, nearest: "
    estimated = {row[0]: row[1] for row in once("scores-estimated")["rows"]}
    release = estimated["preset release: estimated bits, log, per frame"]
    true = estimated["true bits, log, per frame"]
    rows = {
        "chance": scores["chance"],
        "motion + residual, equal weights, scaled per frame (the paper's literal form)": scores[
            f"{nearest}equal weights, per frame"
        ],
        "the same, scaled over the group": scores[f"{nearest}equal weights"],
        '`preset="paper"` as it runs': scores[f"{nearest}motion x 0.5 + residual, prior 4"],
        '`preset="release", scores="saliency"`: packet bytes shared out by residual': scores[
            f"{nearest}bytes shared out"
        ],
        "bits per macroblock, estimated (first 96 frames, footage not fitted on)": estimated["estimated bits"],
        f'`preset="release"` as it runs: the same on the release\'s scale per frame (true bits on it: {true})': release,
    }
    return table(["scores", "share"], rows.items())


def by_scale() -> str:
    """Scores at canvas resolution, by what percentiles are taken over."""
    rows, scores = [], _scores()
    for text, name in {"chance": "chance", "the packet's bytes alone": "packet bytes alone"}.items():
        rows.append([text, _mean(scores[name]), "", ""])
    names = {
        "motion, median removed": "motion median, {}",
        "residual": "residual, {}",
        "both, equal weights (the paper's literal form is per frame)": "both median, {}",
        "0.1 x motion + residual": "motion median x 0.1 + residual, {}",
        "both, prior 4": "both median, {}, prior 4",
        "residual, prior 4": "residual, {}, prior 4",
        "residual, bytes shared out": "residual, {}, bytes shared out",
    }
    rows += [[text, *(_mean(scores[name.format(per)]) for per in _PER)] for text, name in names.items()]
    return table(["scores", "per frame", "per group of 32", "per clip"], rows)


def as_run() -> str:
    """Scores on ten pixels per block edge, by how the reference is sampled."""
    scores = _scores()
    names = {
        "equal weights, per frame": "equal weights, per frame",
        "equal weights, per group": "equal weights",
        "0.1 x motion + residual, prior 4": "motion x 0.1 + residual, prior 4",
        "0.25 x motion + residual, prior 4": "motion x 0.25 + residual, prior 4",
        '**0.5 x motion + residual, prior 4: `preset="paper"`**': "motion x 0.5 + residual, prior 4",
        'log(1 + residual / 2), bytes shared out: `preset="release", scores="saliency"`': "bytes shared out",
    }
    ways = [f"scoring size, {way}: {{}}" for way in ("nearest", "bilinear")]
    rows = [[text, *(_mean(scores[way.format(name)]) for way in ways)] for text, name in names.items()]
    difference = scores["scoring size, luma difference: bytes shared out"]
    rows.append(["the same from the luma difference, without vectors", _mean(difference), ""])
    return table(["scores", "nearest pixel", "four pixels"], rows)


def clip_by_clip() -> str:
    """Three scores of every clip."""
    names = ("equal weights, per frame", "motion x 0.5 + residual, prior 4", "bytes shared out")
    found = [_scores()[f"scoring size, nearest: {name}"] for name in names]
    clips = [name for name in found[0] if name not in ("scores", "mean", "median", "worst")]
    rows = [[clip, *(row[clip] for row in found)] for clip in clips]
    return table(["clip", "paper's literal form", '`"paper"`', "bytes shared out"], rows)


def estimates() -> str:
    """Correlation and overlap of estimated bits, by codec and by what is known of its frames."""
    rows = {(row["signal"], row["codec"]): row for row in read_tables("bitcost.md")[0]}
    out = ": packet shared out by log(1 + residual / 2)"
    names = {
        "**H.264: vectors and quantizers**": ("vectors", "h264"),
        "the same, packet shared out by log(1 + residual / 2)": (f"vectors{out}", "h264"),
        "H.264 without either, plain difference": ("difference", "h264"),
    }
    shown = [*names.items()]
    for name, codec in (("HEVC", "hevc"), ("VP9", "vp9")):
        shown.append((f"{name}, estimated motion", ("estimated", codec)))
        shown.append((f"{name}, plain difference", ("difference", codec)))
        shown.append(("the same, packet shared out by log(1 + difference / 2)", (f"difference{out}", codec)))
    cells = []
    for text, key in shown:
        row = rows[key]
        pairs = [f"{row[name]} ({row[f'{name}, worst']})" for name in ("correlation", "overlap")]
        cells.append([text, row["clips"], *pairs, row["without I: correlation"], row["without I: overlap"]])
    head = ["bits from", "clips", "correlation (worst)", "overlap (worst)", "without I-frames: correlation", "overlap"]
    return table(head, cells)


def chosen_blocks() -> str:
    """Share of the released tool's blocks."""
    rows = read_tables("bitcost.md")[2]
    mean, clips = rows[0], rows[1:]

    def cells(text: str, column: str) -> list[str]:
        return [text, mean[column].strip("*"), f"{min(float(row[column]) for row in clips):.2f}"]

    ours = cells("**estimated bits**", "estimated bits")
    shown = [
        ["chance", mean["chance"].strip("*"), ""],
        cells("packet bytes shared out by residual", "bytes shared out by residual"),
        [ours[0], f"**{ours[1]}**", ours[2]],
    ]
    return table(["scores", "mean", "worst"], shown)


def estimates_clip_by_clip() -> str:
    """H.264 clips with vectors and quantizers; what is below the aims is named."""
    _, every, blocks = read_tables("bitcost.md")
    rows = by((row for row in every if row["signal"] == "vectors"), "clip")
    shown = []
    for name, of in by(blocks[1:], "clip").items():
        row = rows[name]
        missed = [text for text in (row["missed"], of["missed"]) if text]
        share = f"{float(of['estimated bits']):.2f}"
        shown.append([name, row["correlation"], row["overlap"], share, ", ".join(missed)])
    return table(["clip", "correlation", "overlap", "blocks", "missed"], sorted(shown, key=lambda row: row[0]))
