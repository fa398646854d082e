"""What the model is asked: word for word as the public evaluation asks, for numbers that compare."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

#: task lmms-eval "rvos" 0.7.3, template and suffix
TRACK_INSTRUCTION = """
Return the answer in XML format:
<tracks coords="t0 id0 x0 y0 id1 x1 y1; t1 id0 x2 y2 id1 x3 y3; ...">target objects</tracks>
Each semicolon-separated segment is one timestamp.
Format of each segment: time object_id x y [object_id x y ...], where time is in seconds, object_id starts from 0, and x and y are integers in [0,1000].
If the request refers to multiple objects, track all matching objects.
Use one consistent object_id for each physical object across time.
"""  # noqa: E501 # its lines are as long as they are
#: the protocol of that task
MAX_NEW_TOKENS = 2048
PROMPT_FPS = 6.0

Wording = Literal["tracks", "points", "boxes", "count"]
#: questions of our own records for what has no public wording
QUESTIONS: Mapping[Wording, str] = MappingProxyType(
    {
        "tracks": "Track the {expression}",
        "points": "Point to the {expression}. Answer with points (x, y), whole numbers from 0 to 1000.",
        "boxes": "Locate the {expression}. Answer with JSON boxes bbox_2d, whole numbers from 0 to 1000.",
        "count": "How many {expression} are there? Answer with a whole number.",
    }
)


def track_prompt(expression: str) -> str:
    """The prompt of a referring expression, as the public evaluation builds it."""
    return QUESTIONS["tracks"].format(expression=expression) + TRACK_INSTRUCTION
