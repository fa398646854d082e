"""From luma and chroma to red, green and blue as swscale does it for planes of them, in its own whole numbers.

Source: FFmpeg, libswscale, `yuv2gbrp_full_X_c` and the coefficients of `ff_yuv2rgb_c_init_tables`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: of red from V, blue from U, green from U and from V, in 65536ths, by FFmpeg's number of the matrix
_MATRICES = {
    1: (117489, 138438, 13975, 34925),  # BT.709
    4: (104448, 132798, 24759, 53109),  # FCC
    7: (117579, 136230, 16907, 35559),  # SMPTE 240M
    9: (110013, 140363, 12277, 42626),  # BT.2020
    **dict.fromkeys((2, 5, 6), (104597, 132201, 25675, 53279)),  # BT.601, which also stands in where none is given
}
FULL_RANGE = 2
_SHIFT = 22  # from the scale of sums to levels of 8 bits


@dataclass(frozen=True)
class ColorMatrix:
    """Coefficients in 8192nds; luma has 9 bits after the point when they are applied."""

    black: int
    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int

    @staticmethod
    @lru_cache
    def of(matrix: int, is_full_range: bool) -> "ColorMatrix | None":
        """The one of FFmpeg's number of a matrix; None for those that are not known here."""
        if matrix not in _MATRICES:
            return None
        luma, black, chroma = 1 << 16, 0, _MATRICES[matrix]
        if is_full_range:
            chroma = tuple(each * 224 // 255 for each in chroma)  # type: ignore[assignment] # still four
        else:
            luma, black = luma * 255 // 219, 16 << 16
        red_v, blue_u, green_u, green_v = chroma
        rounded = (black << 9, luma << 13, red_v << 13, -green_u << 13, -green_v << 13, blue_u << 13)
        return ColorMatrix(*((each + (1 << 15)) >> 16 for each in rounded))

    def rgb(self, y: np.ndarray, uv: np.ndarray, out: np.ndarray) -> None:
        """Sums of scaled pixels -> red, green and blue.

        Args:
            y: (n, h, w) int32 with 19 bits after the point; overwritten, as is `uv`.
            uv: (2, n, h, w) as `y`.
            out: (n, 3, h, w) uint8.
        """
        half = 1 << 9
        y += half - (self.black << 10)
        y >>= 10
        y *= self.luma
        y += 1 << (_SHIFT - 1)
        uv += half - (128 << 19)
        uv >>= 10
        part = np.multiply(uv[1], self.red_v)
        _levels(part, y, out[:, 0])
        np.multiply(uv[0], self.blue_u, out=part)
        _levels(part, y, out[:, 2])
        uv[0] *= self.green_u
        uv[1] *= self.green_v
        np.add(uv[0], uv[1], out=part)
        _levels(part, y, out[:, 1])


def _levels(part: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    part += y
    part >>= _SHIFT
    np.clip(part, 0, 255, out=part)
    np.copyto(out, part, casting="unsafe")
