"""Lines of JSON that every reader splits and decodes alike."""

import json
import re
from typing import Any

#: what some readers take for the end of a line, and halves of characters, which are no UTF-8
_RISKY = re.compile("[\u0085\u2028\u2029\ud800-\udfff]")


def json_line(value: Any) -> str:
    """The value on one line with its newline: readable text, in which nothing else ends a line."""
    return _RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)) + "\n"
