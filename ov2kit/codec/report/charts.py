"""Charts of the report as inline SVG that stretches to any width, with labels as HTML beside it.

A plot is 1000 x 100 units, stretched to its box; lines keep their width, and text does not stretch
because it is not part of the drawing. Seconds run along x.
"""

from collections.abc import Iterable, Sequence
from html import escape

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


def clock_text(seconds: float, decimals: int = 2) -> str:
    """4.12 s below a minute, 1:02.5 above it, 1:02:03 above an hour."""
    if abs(seconds) < 60:
        return f"{seconds:.{decimals}f} s"
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    tenths = f"{seconds % 60:04.1f}" if decimals else f"{int(seconds % 60):02d}"
    if seconds < 3600:
        return f"{sign}{int(seconds // 60)}:{tenths}"
    return f"{sign}{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"


def time_ticks(duration: float, most: int = 6) -> list[float]:
    """Round times from 0 on, at most `most` steps."""
    step = next((s for s in _STEPS if duration / s <= most), duration / most)
    return [i * step for i in range(int(duration / step + 1e-9) + 1)]


class Plot:
    """A drawing over time, built layer by layer.

    Args:
        duration: seconds at the right edge.
        top: value at the upper edge.
    """

    def __init__(self, duration: float, top: float = 1.0) -> None:
        self.duration, self.top = max(duration, 1e-9), max(top, 1e-9)
        self._layers: list[str] = []
        self._labels: list[str] = []

    def x(self, seconds: float) -> float:
        return round(1000 * min(max(seconds / self.duration, 0.0), 1.0), 2)

    def y(self, value: float) -> float:
        return round(100 - 100 * min(max(value / self.top, 0.0), 1.0), 2)

    def bands(self, spans: Iterable[tuple[float, float]], texts: Sequence[str] = ()) -> None:
        """Shaded spans of time in turning colors, each with a tooltip and a label above."""
        spans = list(spans)
        for i, (start, end) in enumerate(spans):
            left, width = self.x(start), max(self.x(end) - self.x(start), 1.0)
            title = f"<title>{escape(texts[i])}</title>" if texts else ""
            shape = f'<rect class="band g{i % 6}" x="{left}" y="0" width="{width:.2f}" height="100">{title}</rect>'
            self._layers.append(shape)
            if len(spans) <= 24:
                self._labels.append(f'<span class="over" style="left:{(left + width / 2) / 10:.2f}%">{i + 1}</span>')

    def steps(self, edges: Sequence[float], values: Sequence[float], name: str, base: Sequence[float] = ()) -> None:
        """A filled step curve: value i from edge i to edge i + 1, standing on `base`."""
        floor = list(base) or [0.0] * len(values)
        up = [f"L{self.x(a)} {self.y(v)}H{self.x(b)}" for a, b, v in zip(edges, edges[1:], values, strict=False)]
        down = [f"L{self.x(b)} {self.y(v)}H{self.x(a)}" for a, b, v in zip(edges, edges[1:], floor, strict=False)]
        start = f"M{self.x(edges[0])} {self.y(floor[0])}"
        self._layers.append(f'<path class="{name}" d="{start}{"".join(up)}{"".join(reversed(down))}Z"/>')

    def line(self, edges: Sequence[float], values: Sequence[float], name: str) -> None:
        """The outline of a step curve."""
        path = "".join(
            f"L{self.x(a)} {self.y(v)}H{self.x(b)}" for a, b, v in zip(edges, edges[1:], values, strict=False)
        )
        self._layers.append(f'<path class="{name}" d="M{path[1:]}"/>')

    def sticks(
        self, seconds: Iterable[float], name: str, low: float = 0.0, high: float | Sequence[float] = 1.0
    ) -> None:
        """Upright lines from `low` to `high` (parts of the height, one for all or one each)."""
        seconds = list(seconds)
        highs = [high] * len(seconds) if isinstance(high, float | int) else high
        ends = zip(seconds, highs, strict=True)
        path = "".join(f"M{self.x(s)} {100 - 100 * low:.1f}V{100 - 100 * h:.1f}" for s, h in ends)
        self._layers.append(f'<path class="{name}" d="{path}"/>')

    def dots(self, points: Iterable[tuple[float, float]], name: str) -> None:
        """Round marks at (seconds, value)."""
        path = "".join(f"M{self.x(s)} {self.y(v)}h0.01" for s, v in points)
        self._layers.append(f'<path class="dot {name}" d="{path}"/>')

    def level(self, value: float, text: str) -> None:
        """A grid line with its label."""
        self._layers.append(f'<path class="grid" d="M0 {self.y(value)}H1000"/>')
        self._labels.append(f'<span class="level" style="top:{self.y(value):.2f}%">{escape(text)}</span>')

    def html(self, label: str, size: str = "", axis: bool = True) -> str:
        """The finished plot.

        Args:
            label: what it shows, for readers who cannot see it.
            size: CSS class of its height.
            axis: whether to write the times below.
        """
        ticks = ""
        if axis:
            for i, tick in enumerate(time_ticks(self.duration)):
                edge = " last" if tick > 0.94 * self.duration else " first" if i == 0 else ""
                text = clock_text(tick, 0 if float(tick).is_integer() else 1)
                ticks += f'<span class="tick{edge}" style="left:{self.x(tick) / 10:.2f}%">{escape(text)}</span>'
        drawing = f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        names = (
            f"plot {size}"
            + (" axis" if axis else "")
            + (" numbered" if 'class="over"' in "".join(self._labels) else "")
        )
        return f'<div class="{names}">{drawing}{"".join(self._layers)}</svg>{"".join(self._labels)}{ticks}</div>'


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars: (name, value, text beside it)."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    parts = [
        f'<div class="bar"><span>{escape(name)}</span><i><b style="width:{100 * value / most:.1f}%"></b></i>'
        f"<span>{escape(text)}</span></div>"
        for name, value, text in rows
    ]
    return f'<div class="bars">{"".join(parts)}</div>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Colored keys: (CSS class, text)."""
    keys = "".join(f'<span><i class="key {name}"></i>{escape(text)}</span>' for name, text in entries)
    return f'<p class="legend">{keys}</p>'
