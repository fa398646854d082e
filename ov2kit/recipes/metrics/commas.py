"""Which commas between digits are decimal commas, which part two numbers, and which group thousands."""

import re

_BRACKETED = re.compile(r"[\[(][^\[\]()]*[\])]")
_CLOCK = re.compile(r"(:\d\d),(\d{1,3})(?![\d:])")
_CHAIN = re.compile(r"(?<![\d.,:])\d++(?:,\d++)++(?:\.\d++)?+(?![\d:])")
_NUMBER = re.compile(r"\d[\d.,:]*+")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_UNIT = re.compile(r"\s*(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)(?![a-z])")
_DASH = r"(?:[-‐‑‒–—―−~〜→]+>?|to|until|till|through)"
_AFTER_DASH = re.compile(rf"\d\W?(?:\s*(?:s|secs?|seconds?))?\s*{_DASH}\s*$")
_BEFORE_DASH = re.compile(rf"\s*(?:s|secs?|seconds?)?\s*{_DASH}\s*[\d.]")


def settle_commas(text: str) -> str:
    """Write decimal commas as points, take thousands' commas out, and put a space after those of lists.

    A comma between digits, without a space, is a decimal comma: "12,5 to 20,3", "00:01:23,500". It is not

    - if it is all that parts the numbers of a bracket, or of the text: "[12,5]", "3,5", "[3,5,7,9]",
      unless a unit follows: "3,5 s";
    - if it parts two spans: "3-5,7-9";
    - if there are several in a row: "3,5,7,9";
    - if three digits follow, outside of such a bracket: "1,200 to 1,260" are thousands, but "0,500" is not.
    """
    text = _CLOCK.sub(r"\1.\2", text)
    settled, position = [], 0
    outside = _BRACKETED.sub(" ", text)
    is_single = len(_NUMBER.findall(outside)) == 1
    for bracket in _BRACKETED.finditer(text):
        settled.append(_settle(text[position : bracket.start()], is_single, False))
        settled.append(_settle(bracket[0], len(_NUMBER.findall(bracket[0])) == 1, True))
        position = bracket.end()
    settled.append(_settle(text[position:], is_single, False))
    return "".join(settled)


def _settle(text: str, is_single: bool, is_bracket: bool) -> str:
    def settle(chain: re.Match[str]) -> str:
        has_unit = _UNIT.match(text, chain.end()) is not None
        is_list = is_single and not has_unit
        if not (is_list and is_bracket) and _THOUSANDS.fullmatch(chain[0]):
            return chain[0].replace(",", "")
        before = text[max(0, chain.start() - 20) : chain.start()]
        parts_spans = _AFTER_DASH.search(before) and _BEFORE_DASH.match(text, chain.end())
        if is_list or parts_spans or chain[0].count(",") > 1 or "." in chain[0]:
            return chain[0].replace(",", ", ")
        return chain[0].replace(",", ".")

    return _CHAIN.sub(settle, text)
