"""Tables as Markdown: written, read back, and put between the markers of a page."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
BEGIN, END = "<!-- table: ", "<!-- end of table -->"
MARKED = re.compile(rf"({BEGIN}([\w-]+) -->)(?:(?!{BEGIN}).)*?({END})", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a Markdown table; an empty cell is one space."""
    rows = [list(head), ["---"] * len(head), *map(list, rows)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"expected {len(head)} cells, got {row}")
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in rows)


def read_tables(name: str) -> list[list[dict[str, str]]]:
    """Every table of a file in results/: its rows by column. A column "worst" is that of the column before it."""
    found, block = [], []
    for line in [*(RESULTS / name).read_text(encoding="utf-8").split("\n"), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif block:
            names = [_of(block[0], place) for place in range(len(block[0]))]
            found.append([dict(zip(names, row, strict=True)) for row in block[2:]])
            block = []
    return found


def once(name: str) -> dict[str, Any]:
    """What was measured once and is kept as it came, with when, how and on which commit."""
    found: dict[str, Any] = json.loads((RESULTS / "once.json").read_text(encoding="utf-8"))[name]
    return found


def _of(head: Sequence[str], place: int) -> str:
    repeated = head.count(head[place]) > 1
    return f"{head[place - 1]}, {head[place]}" if repeated else head[place]


def by(rows: Iterable[dict[str, str]], column: str) -> dict[str, dict[str, str]]:
    """Rows by what one column holds."""
    return {row[column]: row for row in rows}


def fill(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with every table between its markers made again.

    Raises:
        KeyError: a marker names a table that is not known.
        ValueError: a table does not end before the next one begins.
    """
    filled, count = MARKED.subn(lambda found: f"{found[1]}\n\n{tables[found[2]]()}\n\n{found[3]}", page)
    if not count == page.count(BEGIN) == page.count(END):
        raise ValueError(
            f"{page.count(BEGIN)} tables begin and {page.count(END)} end, of which {count} belong together"
        )
    return filled
