"""EventSaliency: scores for blocks in which something happens, whatever the camera, the weather and the codec do.

Blocks are compared with the pictures before and after, as a viewer would, and not by what they cost the encoder:
frame kinds, keyframes and rates do not matter. Letters: T frames, h x w luma pixels, hb x wb blocks.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov2kit.codec.scoring.camera_registration import camera_motion, moved
from ov2kit.codec.scoring.habit import beyond_habit
from ov2kit.codec.scoring.light import difference_but_light
from ov2kit.errors import check_choice, check_number

Camera = Literal["affine", "none"]
Light = Literal["rows", "frame", "none"]


class EventSaliency(nn.Module):
    """Score blocks by how much more than usual they differ from the frames before and after.

    |luma - neighbor| with the motion of the camera and the light taken out, less what a small error of that motion
    would explain; its mean over the block; less the habit of the place; and on a scale that frames share.

    It replaces `MotionResidualSaliency` in `CodecTokenizer(saliency=...)` and is the one of ``preset="event"``.

    Args:
        camera: ``"affine"`` takes the neighbor as a fitted camera would have seen it, see `camera_motion`; ``"none"``
            where it was.
        light: gain and offset are fitted and taken out per row of blocks (``"rows"``: the hum of lamps too), per frame
            (fades, exposure), or not at all.
        tolerance: pixels of displacement whose differences are forgiven: that many times the gradient.
        habit: median absolute deviations that count as usual, see `beyond_habit`; None leaves the habit in.
        frame_level: scores are divided by this plus the mean of their frame, so that a frame in which everything
            moves is worth little more than one in which something does; None leaves them alone.
        lasting: weight of the difference from the median picture, which finds what changes slowly and stays changed.
        echo: share of a block's score that its neighbors in time get, so that an event is shown more than once.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
    """

    def __init__(
        self,
        *,
        camera: Camera = "affine",
        light: Light = "rows",
        tolerance: float = 0.5,
        habit: float | None = 2.0,
        frame_level: float | None = 0.1,
        lasting: float = 0.0,
        echo: float = 0.25,
    ) -> None:
        super().__init__()
        self.camera: Camera = check_choice("camera", camera, get_args(Camera))
        self.light: Light = check_choice("light", light, get_args(Light))
        self.tolerance = check_number("tolerance", tolerance, low=0)
        self.habit = check_number("habit", habit, low=0, optional=True)
        self.frame_level = check_number("frame_level", frame_level, above=0, optional=True)
        self.lasting = check_number("lasting", lasting, low=0)
        self.echo = check_number("echo", echo, low=0)

    def extra_repr(self) -> str:
        return (
            f"camera={self.camera!r}, light={self.light!r}, tolerance={self.tolerance}, habit={self.habit}, "
            f"frame_level={self.frame_level}, lasting={self.lasting}, echo={self.echo}"
        )

    def forward(self, luma: Tensor, grid: tuple[int, int], before: Tensor | None = None) -> Tensor:
        """Score the blocks of T frames, in display order.

        Args:
            luma: (T, h, w) uint8, h and w at least 4 and multiples of the grid.
            grid: (hb, wb) blocks.
            before: (h, w) uint8, the frame before the first; without it the first is compared with the next alone.

        Returns:
            (T, hb, wb) float32, at least 0.

        Raises:
            ValueError: shapes do not fit.
        """
        if luma.ndim != 3 or luma.dtype != torch.uint8 or min(luma.shape[1:]) < 4:
            raise ValueError(f"luma must be (T, h, w) uint8 from 4 x 4 pixels on, got {tuple(luma.shape)} {luma.dtype}")
        if luma.shape[1] % grid[0] or luma.shape[2] % grid[1]:
            raise ValueError(f"luma of {luma.shape[1]} x {luma.shape[2]} does not divide into a grid of {grid}")
        if before is not None and before.shape != luma.shape[1:]:
            raise ValueError(f"before must be as a frame of luma {tuple(luma.shape[1:])}, got {tuple(before.shape)}")
        pictures = (luma if before is None else torch.cat([before[None], luma])).float()
        if len(pictures) < 2:
            return torch.zeros(len(luma), *grid, device=luma.device)
        scores = self._changes(pictures, grid)[-len(luma) :]
        if self.lasting:
            own = pictures[-len(luma) :]
            usual = own.median(0).values.expand(own.shape)
            scores = scores + self.lasting * self._unusual(self._blocks(own, usual, self._forgiven(own), grid))
        scores = (scores - scores.flatten(1).median(1).values[:, None, None]).clamp(min=0)
        if self.frame_level is not None:
            scores = scores / (self.frame_level + scores.mean((1, 2), keepdim=True))
        if self.echo:
            padded = F.pad(scores, (0, 0, 0, 0, 1, 1))
            scores = scores + self.echo * torch.maximum(padded[:-2], padded[2:])
        return scores

    def _changes(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        """(T, h, w) -> (T, hb, wb): beyond habit, from the picture before plus to the one after."""
        later, earlier = pictures[1:], pictures[:-1]
        forgiven = self._forgiven(pictures)
        seen_before, seen_after = earlier, later
        if self.camera == "affine":
            motion = camera_motion(later, earlier)
            # what has only just come into view is no event
            seen_before, seen_after = moved(earlier, motion, later), moved(later, -motion, earlier)
        backward = self._unusual(self._blocks(later, seen_before, forgiven[1:], grid))
        forward = self._unusual(self._blocks(earlier, seen_after, forgiven[:-1], grid))
        return F.pad(backward, (0, 0, 0, 0, 1, 0)) + F.pad(forward, (0, 0, 0, 0, 0, 1))

    def _forgiven(self, pictures: Tensor) -> Tensor:
        """(T, h, w) gray levels that a displacement within the tolerance explains."""
        slope = torch.zeros_like(pictures)
        slope[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]).abs()
        down = (pictures[:, 2:] - pictures[:, :-2]).abs()
        slope[:, 1:-1] = torch.maximum(slope[:, 1:-1], down)
        return slope * (self.tolerance / 2)

    def _blocks(self, luma: Tensor, reference: Tensor, forgiven: Tensor, grid: tuple[int, int]) -> Tensor:
        """(T, hb, wb) mean gray levels of difference."""
        if self.light == "none":
            away = luma - reference
        else:
            away = difference_but_light(luma, reference, grid[0] if self.light == "rows" else 1)
        left = (away.abs() - forgiven).clamp(min=0)
        side = (luma.shape[1] // grid[0], luma.shape[2] // grid[1])
        return F.avg_pool2d(left[:, None], side)[:, 0]

    def _unusual(self, blocks: Tensor) -> Tensor:
        return blocks if self.habit is None else beyond_habit(blocks, self.habit)
