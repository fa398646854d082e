"""Run the Python of a page, and hold the values written in its comments against what came out.

A comment that ends a statement and begins with a value is a claim:

    tokens, counts = merger(x, rows)  # (288, 2048), (144, 144)     shapes, or tuples as they are
    cos, sin = rope(positions)  # each (256, 64) float32            one for all; `(256, 64) each` too
    tokens = merger(x)  # (24, 64) -> (6, 48)                       the last one is the result
    canvases.num_tokens  # 2880 tokens                              a number or tuple, of a bare expression
    canvases.signal  # 'motion+residual'                            text; `'...` up to the dots
"""

import ast
import re
from pathlib import Path
from typing import Any

_TUPLE = r"\(\d[\d, ]*\)"
_SHAPES = re.compile(rf"(?P<each>each )?(?:{_TUPLE} -> )?(?P<shapes>{_TUPLE}(?:, {_TUPLE})*)(?P<each_after> each)?")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?![\d.]*\w)")
_TEXT = re.compile(r"'(.*)'")


def python_blocks(page: Path) -> list[str]:
    """Python code blocks of a Markdown page, in order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def run_page(page: Path, names: dict[str, Any] | None = None) -> int:
    """Run all blocks in one namespace, as a reader does who types them in.

    Args:
        page: Markdown file.
        names: what the reader has already; the page's own names are added to it.

    Returns:
        How many claims were checked.

    Raises:
        AssertionError: a claim is wrong.
    """
    names = {} if names is None else names
    checked = 0
    for block in python_blocks(page):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), page.name, "eval"), names)
                checked += _check_value(value, *_comment(node, lines))
                continue
            exec(compile(ast.Module([node], []), page.name, "exec"), names)
            for inner in ast.walk(node):  # the node itself, or what stands in a `with`
                if isinstance(inner, ast.Assign):
                    values = [names.get(name) for name in _targets(inner)]
                    checked += _check_shapes(values, *_comment(inner, lines))
    return checked


def _comment(node: ast.stmt, lines: list[str]) -> tuple[str, str]:
    """What is written behind a statement, and its whole line for messages."""
    line = lines[node.end_lineno - 1]
    code, _, comment = line.encode()[node.end_col_offset :].decode().partition("# ")
    assert not code.strip(), f"one statement a line, please: {line}"
    return comment, line


def _targets(node: ast.Assign) -> list[str]:
    target = node.targets[0]
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    return [part.id if isinstance(part, ast.Name) else "" for part in parts]


def _check_shapes(values: list[Any], comment: str, line: str) -> int:
    found = _SHAPES.match(comment)
    if found is None:
        return 0
    claims = [ast.literal_eval(text) for text in re.findall(_TUPLE, found["shapes"])]
    if found["each"] or found["each_after"]:
        claims = claims * len(values)
    assert len(claims) <= len(values), f"more claims than names: {line}"
    for value, claim in zip(values, claims, strict=False):
        real = tuple(getattr(value, "shape", value))
        assert real == claim, f"{real} is not as written: {line}"
    return len(claims)


def _check_value(value: Any, comment: str, line: str) -> int:
    if _SHAPES.match(comment):
        return _check_shapes([value], comment, line)
    if found := _TEXT.match(comment):
        start, dots, _ = found[1].partition("...")
        assert isinstance(value, str), line
        assert value.startswith(start) if dots else value == start, f"{value!r} is not as written: {line}"
        return 1
    if found := _NUMBER.match(comment):
        assert value == ast.literal_eval(found[0]), f"{value!r} is not as written: {line}"
        return 1
    if comment in ("True", "False", "None"):
        assert value is ast.literal_eval(comment), f"{value!r} is not as written: {line}"
        return 1
    return 0
