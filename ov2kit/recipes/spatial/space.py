"""What the numbers of a written coordinate refer to."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Space:
    """A written x runs from 0 to `width`, a written y from 0 to `height`.

    For coordinates in pixels that is the size of the picture *as the model saw it*, rarely the size of the file.

    Args:
        width: in the units written.
        height: in the units written.
        whole: numbers are written without decimals.

    Raises:
        ValueError: a side that is not positive.
    """

    width: float
    height: float
    whole: bool = True

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0 and math.isfinite(self.width + self.height)):
            raise ValueError(f"a coordinate space needs positive finite sides, got {self.width} x {self.height}")

    def share(self, x: float, y: float) -> tuple[float, float] | None:
        """(x, y) as shares of the picture's sides; None outside the picture."""
        inside = 0 <= x <= self.width and 0 <= y <= self.height
        return (x / self.width, y / self.height) if inside else None

    def write(self, x: float, y: float) -> tuple[str, str]:
        """Shares as they are written, rounded to whole numbers or to one decimal.

        Raises:
            ValueError: a share outside [0, 1].
        """
        for name, value in (("x", x), ("y", y)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a share of the picture from 0 to 1, got {value}")
        if self.whole:
            return str(round(x * self.width)), str(round(y * self.height))
        return f"{x * self.width:.1f}", f"{y * self.height:.1f}"


#: whole numbers from 0 to 1000, whatever the picture's size: tracks, Qwen2-VL, Qwen3-VL
THOUSANDTHS = Space(1000, 1000)
#: from 0 to 100 with one decimal: the older tracks, and points in Molmo's tags
PERCENT = Space(100, 100, whole=False)
