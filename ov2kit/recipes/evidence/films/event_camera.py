"""How the camera of an event clip moves, and what it sees."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Where it looks, (T,) each.

    Args:
        x: columns from the middle of the world, pixels.
        y: rows from it.
        turn: radians.
        zoom: 1 shows a pixel of the world as a pixel.
    """

    x: Curve
    y: Curve
    turn: Curve
    zoom: Curve


def _walk(rng: np.random.Generator, times: Curve, slow: float = 0.25) -> Curve:
    """A random walk pulled back to 0 and smoothed over `slow` seconds, standard deviation about 1."""
    step = 0.01
    count = int(times[-1] / step) + 2
    fine = np.zeros(count)
    kicks = rng.standard_normal(count)
    for n in range(1, count):
        fine[n] = 0.985 * fine[n - 1] + kicks[n]
    width = max(1, round(slow / step))
    window = np.hanning(width + 2)[1:-1]
    smooth = np.convolve(fine, window / window.sum(), mode="same")
    smooth /= max(float(smooth.std()), 1e-9)
    return np.interp(times, np.arange(count) * step, smooth)


def _still(rng: np.random.Generator, times: Curve, size: tuple[int, int]) -> Camera:
    zero = np.zeros(len(times))
    return Camera(zero, zero, zero, np.ones(len(times)))


def _pan(rng: np.random.Generator, times: Curve, size: tuple[int, int]) -> Camera:
    """To and fro, a few seconds each way."""
    phase = 2 * np.pi * (times / rng.uniform(5, 8) + rng.random())
    x, y = 0.2 * size[1] * np.sin(phase), 0.06 * size[0] * np.sin(0.7 * phase)
    return Camera(x, y, np.zeros(len(times)), np.ones(len(times)))


def _shake(rng: np.random.Generator, times: Curve, size: tuple[int, int]) -> Camera:
    """Held in the hand: random walks in place, turn and zoom."""
    x, y = (0.02 * size[0] * _walk(rng, times) for _ in range(2))
    return Camera(x, y, 0.012 * _walk(rng, times), 1 + 0.01 * _walk(rng, times))


def _zoom(rng: np.random.Generator, times: Curve, size: tuple[int, int]) -> Camera:
    """In and out, and a slow roll."""
    one, two = (2 * np.pi * (times / rng.uniform(4, 7) + rng.random()) for _ in range(2))
    zero = np.zeros(len(times))
    return Camera(zero, zero, 0.06 * np.sin(two), 1.12 + 0.12 * np.sin(one))


CAMERAS: dict[str, Callable[[np.random.Generator, Curve, tuple[int, int]], Camera]] = {
    "still": _still,
    "pan": _pan,
    "shake": _shake,
    "zoom": _zoom,
}


def look(world: NDArray[np.float32], camera: Camera, t: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """(rows, columns, C) of the world -> (H, W, C) of the picture at frame t, bilinear."""
    height, width = size
    rows, columns = world.shape[:2]
    if (camera.x[t], camera.y[t], camera.turn[t], camera.zoom[t]) == (0, 0, 0, 1):  # half the time
        top, left = (rows - height) // 2, (columns - width) // 2
        return world[top : top + height, left : left + width].copy()
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64)[None] - (width - 1) / 2
    cos, sin, zoom = np.cos(camera.turn[t]), np.sin(camera.turn[t]), camera.zoom[t]
    at_x = (cos * x - sin * y) / zoom + camera.x[t]
    at_y = (sin * x + cos * y) / zoom + camera.y[t]
    grid = torch.stack([at_x / ((columns - 1) / 2), at_y / ((rows - 1) / 2)], dim=-1).float()
    planes = torch.from_numpy(np.ascontiguousarray(world.transpose(2, 0, 1)))
    seen = F.grid_sample(planes[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)
    picture: NDArray[np.float32] = seen[0].permute(1, 2, 0).numpy()
    return picture
