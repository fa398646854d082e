"""From a budget to a canvas size, a number of canvases, and canvases per group.

A budget is a promise: never exceeded, and used to at least 90 % where the video has enough frames.
"""

import math
from dataclasses import dataclass

from ov2kit.errors import BudgetError, check_number, check_numbers, check_order
from ov2kit.geometry import ResizeRule, smart_resize

_FULL_ENOUGH = 0.9


@dataclass(frozen=True)
class CanvasBudget:
    """How many canvases of which size.

    Args:
        canvases: most canvases the result may have.
        height: canvas rows in pixels.
        width: canvas columns in pixels.
        tokens_per_canvas: merged tokens of one canvas.
    """

    canvases: int
    height: int
    width: int
    tokens_per_canvas: int


def check_canvas_options(
    *,
    budget_canvases: int | None = None,
    budget_tokens: int | None = None,
    patch: int,
    merge: int,
    block: int = 1,
    min_pixels: int,
    max_pixels: int,
    canvas_size: tuple[int, int] | None,
    threads: int | None = None,
) -> None:
    """Check what every tokenizer is given, when it is given.

    Raises:
        OptionError: a size is of a wrong type or out of range.
        BudgetError: both budgets, one below 1, a canvas that does not divide into blocks, or a block
            or canvas of more tokens than the budget.
    """
    for name, size in (("patch", patch), ("merge", merge), ("block", block)):
        check_number(name, size, low=1, integer=True)
    check_number("min_pixels", min_pixels, low=0, integer=True)
    check_number("max_pixels", max_pixels, low=1, integer=True)
    check_order("min_pixels", min_pixels, "max_pixels", max_pixels)
    check_number("threads", threads, low=1, integer=True, optional=True)
    budgets = {"budget_canvases": budget_canvases, "budget_tokens": budget_tokens}
    for name, budget in budgets.items():
        check_number(name, budget, low=1, integer=True, optional=True, error=BudgetError)
    if None not in budgets.values():
        raise BudgetError(
            f"give one of budget_canvases and budget_tokens, not both; got {budget_canvases} and {budget_tokens}"
        )
    if budget_tokens is not None and budget_tokens < block**2:
        raise BudgetError(
            f"a block of {block} x {block} tokens does not fit in budget_tokens={budget_tokens}; "
            "raise the budget or make the block smaller"
        )
    if canvas_size is not None:
        rows, columns = check_numbers("canvas_size", canvas_size, length=2, low=1, integer=True, error=BudgetError)
        _check_divides(rows, columns, patch * merge, block)
        _check_fits(rows, columns, rows * columns // (patch * merge) ** 2, budget_tokens)


def _check_divides(rows: int, columns: int, side: int, block: int) -> None:
    edge = side * block
    if rows < edge or columns < edge or rows % edge or columns % edge:
        unit = "patch * merge" if block == 1 else "patch * merge * block"
        raise BudgetError(f"canvas_size must be multiples of {unit} = {edge} pixels, got {rows} x {columns}")


def _check_fits(rows: int, columns: int, tokens: int, budget_tokens: int | None) -> None:
    if budget_tokens is not None and tokens > budget_tokens:
        raise BudgetError(
            f"one canvas of {rows} x {columns} pixels is {tokens} tokens, more than budget_tokens={budget_tokens}; "
            "raise the budget or make the canvas smaller"
        )


def plan_budget(
    display_size: tuple[int, int],
    *,
    budget_canvases: int | None,
    budget_tokens: int | None,
    side: int,
    min_pixels: int,
    max_pixels: int,
    rule: ResizeRule = "image",
    canvas_size: tuple[int, int] | None = None,
    block: int = 1,
) -> CanvasBudget:
    """Choose the canvas size of a video and the number of canvases its budget holds.

    With a token budget the canvas shrinks (aspect kept) until whole canvases use at least 90 % of
    it; with a canvas budget, or a size that is given, the size is left alone.

    Args:
        display_size: (height, width) of the video as shown, in pixels.
        budget_canvases: most canvases; exactly one of the two budgets is given.
        budget_tokens: most merged tokens.
        side: edge of a merged token in pixels, patch * merge.
        min_pixels: smallest canvas area in pixels.
        max_pixels: largest canvas area in pixels.
        rule: see `smart_resize`.
        canvas_size: (height, width) in pixels to use instead of resizing by the rule.
        block: merged tokens per edge of the blocks that a canvas is made of.

    Raises:
        BudgetError: the budget is not positive, both or none are given, a size does not divide
            into blocks, or one smallest canvas is more than the tokens.
    """
    if (budget_canvases is None) == (budget_tokens is None):
        raise BudgetError(f"give one of budget_canvases and budget_tokens, got {budget_canvases} and {budget_tokens}")
    given = budget_tokens if budget_tokens is not None else budget_canvases
    assert given is not None
    if given < 1:
        raise BudgetError(f"a budget must be at least 1, got {given}")
    height, width = _shown(display_size)
    if canvas_size is not None:
        rows, columns = canvas_size
        _check_divides(rows, columns, side, block)
    else:
        rows, columns = smart_resize(height, width, side * block, min_pixels, max_pixels, rule=rule)
    tokens = rows * columns // side**2
    if budget_tokens is None:
        assert budget_canvases is not None
        return CanvasBudget(budget_canvases, rows, columns, tokens)
    if canvas_size is None:
        grid = _divide_blocks(budget_tokens // block**2, rows / columns, tokens // block**2)
        rows, columns, tokens = grid[0] * side * block, grid[1] * side * block, grid[0] * grid[1] * block**2
    _check_fits(rows, columns, tokens, budget_tokens)
    return CanvasBudget(budget_tokens // tokens, rows, columns, tokens)


def fit_grid(aspect: float, most: int) -> tuple[int, int]:
    """The grid of at most `most` blocks that is large and close to an aspect ratio.

    Args:
        aspect: rows over columns.
        most: blocks, at least 1.

    Returns:
        (rows, columns); a grid that is off by a factor e^x in aspect counts e^-2x of its blocks.
    """
    best, worth = (1, 1), 0.0
    for rows in range(1, most + 1):
        exact = rows / aspect
        for columns in {max(1, math.floor(exact)), math.ceil(exact)}:
            if rows * columns > most:
                continue
            value = rows * columns * math.exp(-2 * abs(math.log(rows / columns / aspect)))
            if value > worth:
                best, worth = (rows, columns), value
    return best


def _divide_blocks(budget: int, aspect: float, most: int) -> tuple[int, int]:
    """The largest grid of at most `most` blocks of which whole canvases use 90 % of the budget."""
    for canvases in range(-(-budget // most), budget + 1):
        rows, columns = fit_grid(aspect, min(most, budget // canvases))
        if budget // (rows * columns) * rows * columns >= _FULL_ENOUGH * budget:
            return rows, columns
    return 1, 1


def _shown(display_size: tuple[int, int]) -> tuple[int, int]:
    """Clamp very long or narrow pictures to the 200:1 that `smart_resize` accepts, by stretching the short side."""
    height, width = display_size
    return max(height, -(-width // 200)), max(width, -(-height // 200))
