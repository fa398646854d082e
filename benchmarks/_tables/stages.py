"""Where the time of a clip goes: from results/stages.json."""

import json

from benchmarks._tables.markdown import RESULTS, table


def stages() -> str:
    """Processor milliseconds of each stage, one clip a row."""
    rows = []
    for clip in json.loads((RESULTS / "stages.json").read_text(encoding="utf-8"))["clips"]:
        ms = clip["ms"]
        signals = ms["and what is scored"] - ms["and vectors"]
        rgb = ms["of which RGB of whole frames"]
        cells = (ms["open"] + ms["group"], ms["decode"], ms["and vectors"] - ms["decode"], signals, ms["score"],
                 ms["choose and pack"], rgb, ms["all"])  # fmt: skip
        rows.append([
            f"{clip['name']}, {clip['size'][1]}x{clip['size'][0]}", *(f"{max(0, cell):.0f}" for cell in cells),
            f"{clip['shown']} of {clip['scored']}", f"{clip['rows_of_shown']:.2f}",
        ])  # fmt: skip
    head = ["clip", "open, group", "decode", "vectors", "luma, pictures", "score", "choose, pack", "RGB", "all"]
    return table([*head, "frames shown", "rows of blocks touched in them"], rows)
