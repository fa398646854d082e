"""From the color words of a question to what `QuerySaliency` looks for."""

import re

from torch import Tensor, zeros

from ov2kit.codec.scoring.color_names import COLOR_NAMES
from ov2kit.errors import check_type

_WORD = re.compile(r"[a-z]+")
#: other words for the colors of `COLOR_NAMES`
_ALSO = {
    "grey": "gray", "silver": "gray", "gold": "yellow", "golden": "yellow", "violet": "purple", "navy": "blue",
    "beige": "brown", "crimson": "red", "scarlet": "red", "magenta": "pink", "turquoise": "blue", "cyan": "blue",
}  # fmt: skip


def color_query(question: str) -> Tensor | None:
    """What the question is about, in terms of `ColorNames`.

    Args:
        question: English text.

    Returns:
        (11,) float32, 1 for each color that it names; None if it names none.

    Raises:
        OptionError: the question is no text.

    Example:
        >>> color_query("When does the red car pass the grey wall?").nonzero().flatten().tolist()
        [2, 3]
        >>> color_query("What happens?") is None
        True
    """
    words = _WORD.findall(check_type("question", question, str, "a text").casefold())
    named = {COLOR_NAMES.index(name) for word in words if (name := _ALSO.get(word, word)) in COLOR_NAMES}
    if not named:
        return None
    query = zeros(len(COLOR_NAMES))
    query[sorted(named)] = 1
    return query
