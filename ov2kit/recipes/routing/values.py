"""What of an answer each source shows, by what is asked for and by what the stream says.

Measured on a set of events, with codec canvases of two presets: `python -m benchmarks.routing --fit` makes the numbers
again from the clips to tune by. A value is the mean of a kind of question, corrected a little by the stream: a ridge
regression on its facts, one for kinds that need time and one for kinds that need detail.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ov2kit.codec.tokenizers.presets import Preset
from ov2kit.recipes.routing.question_kind import KINDS, QuestionKind
from ov2kit.recipes.routing.stream_facts import StreamFacts

ROUTES = Path(__file__).parent / "assets" / "routes.json"
#: kinds that need time; the others need detail
TIME_KINDS: tuple[QuestionKind, ...] = ("when", "count", "order", "happens")
#: presets of the codec canvases that were measured; "release" follows the bits too, as "paper" does
MEASURED: tuple[Preset, ...] = ("event", "paper")
#: in the order of the slopes
FACTS = ("bits per pixel", "dynamics", "noise", "cuts", "motion share", "camera motion")


@dataclass(frozen=True)
class Route:
    """A source that may be taken.

    Args:
        source: "codec", "frames" or "hybrid".
        frame_share: of a hybrid's canvases that are whole frames, else None.
    """

    source: Literal["codec", "frames", "hybrid"]
    frame_share: float | None = None

    @property
    def name(self) -> str:
        """Such as "hybrid 0.5"."""
        return self.source if self.frame_share is None else f"{self.source} {self.frame_share:g}"


class RouteValues:
    """The measured values of all routes.

    Args:
        plain: as `routes.json` holds them.
        preset: of `MEASURED`, which codec canvases they are of.
    """

    def __init__(self, plain: Mapping[str, Any], preset: Preset) -> None:
        self.preset = preset
        self.routes = tuple(Route(each["source"], each["frame_share"]) for each in plain["routes"])
        self._means, self._slopes = plain["presets"][preset]["means"], plain["presets"][preset]["slopes"]
        self._center, self._scale = plain["center"], plain["scale"]

    def of_kind(self, kind: QuestionKind, stream: StreamFacts) -> list[float]:
        """Of each route, 0 to 1."""
        family = "time" if kind in TIME_KINDS else "detail"
        found = []
        for route in self.routes:
            slopes = self._slopes[family][route.name]
            change = sum(a * b for a, b in zip(slopes, self.standard(stream), strict=True))
            found.append(min(1.0, max(0.0, self._means[kind][route.name] + change)))
        return found

    def expected(self, shares: Mapping[QuestionKind, float], stream: StreamFacts) -> list[float]:
        """Of each route, where it is not sure what is asked for."""
        by_kind = {kind: self.of_kind(kind, stream) for kind in KINDS}
        return [sum(shares[kind] * by_kind[kind][n] for kind in KINDS) for n in range(len(self.routes))]

    def standard(self, stream: StreamFacts) -> list[float]:
        """`FACTS` of a stream, in deviations from the mean of the set; one that is not known is 0."""
        rows = zip(described(stream), self._center, self._scale, strict=True)
        return [0.0 if value is None else min(3.0, max(-3.0, (value - c) / s)) for value, c, s in rows]


def described(stream: StreamFacts) -> list[float | None]:
    """`FACTS` as numbers that are spread about evenly; None is not known."""
    return [
        math.log(max(stream.bits_per_pixel, 1e-4)),
        math.log(max(stream.dynamics, 1e-4)),
        stream.noise,
        math.log1p(stream.cuts),
        stream.motion_share,
        None if stream.camera is None else math.log1p(stream.camera),
    ]


@cache
def route_values(preset: Preset = "event") -> RouteValues:
    """Those of the package, of the preset or of the one that is nearest to it."""
    return RouteValues(json.loads(ROUTES.read_text(encoding="utf-8")), preset if preset in MEASURED else "paper")
