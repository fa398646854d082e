"""What the numbers of a written coordinate refer to."""

from dataclasses import dataclass

from ov2kit.errors import check_flag, check_number
from ov2kit.geometry import smart_resize


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
        check_number("width", self.width, above=0)
        check_number("height", self.height, above=0)
        check_flag("whole", self.whole)

    def share(self, x: float, y: float) -> tuple[float, float] | None:
        """(x, y) as shares of the picture's sides; None outside the picture."""
        inside = 0 <= x <= self.width and 0 <= y <= self.height
        return (x / self.width, y / self.height) if inside else None

    def is_in_shares(self, *values: float) -> bool:
        """Whether numbers are of another unit: all from 0 to 1 and some with decimals, where whole ones belong."""
        whole = self.whole and min(self.width, self.height) > 1
        return whole and all(0 <= value <= 1 for value in values) and any(value % 1 for value in values)

    def write(self, x: float, y: float) -> tuple[str, str]:
        """Shares as they are written, rounded to whole numbers or to one decimal.

        Raises:
            ValueError: a share outside [0, 1].
        """
        for name, value in (("x", x), ("y", y)):
            check_number(name, value, low=0, high=1)
        if self.whole:
            return str(round(x * self.width)), str(round(y * self.height))
        return f"{x * self.width:.1f}", f"{y * self.height:.1f}"


def seen_space(
    height: int, width: int, *, factor: int = 28, min_pixels: int = 3136, max_pixels: int = 12_845_056
) -> Space:
    """Pixels of a picture after the resizing of a model of the Qwen2.5-VL kind, which writes such coordinates.

    Args:
        height: of the file, in pixels.
        width: of the file, in pixels.
        factor: patch * merge of the model.
        min_pixels: of its processor.
        max_pixels: of its processor.
    """
    seen = smart_resize(height, width, factor, min_pixels, max_pixels, rule="image")
    return Space(seen[1], seen[0])


#: whole numbers from 0 to 1000, whatever the picture's size: tracks, Qwen2-VL, Qwen3-VL
THOUSANDTHS = Space(1000, 1000)
#: from 0 to 100 with one decimal: the older tracks, and points in Molmo's tags
PERCENT = Space(100, 100, whole=False)
