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
from ov2kit.codec.scoring.maps import lower_median
from ov2kit.codec.scoring.spread import damped_over_time, echoed
from ov2kit.errors import check_choice, check_number

Camera = Literal["affine", "none"]
Light = Literal["rows", "frame", "none"]


class EventSaliency(nn.Module):
    """Score blocks by how much more than usual they differ from the frames before and after.

    |luma - neighbor| with the motion of the camera and the light taken out, less what a small error of that motion
    would explain; its mean over the block; less the habit of the place; on a scale that frames share; and spread over
    time.

    It replaces `MotionResidualSaliency` in `CodecTokenizer(saliency=...)` and is the one of ``preset="event"``.

    Args:
        camera: ``"affine"`` takes the neighbor as a fitted camera would have seen it, see `camera_motion`; ``"none"``
            where it was.
        light: gain and offset are fitted and taken out per row of blocks (``"rows"``: the hum of lamps too), per frame
            (fades, exposure), or not at all.
        tolerance: pixels of displacement whose differences are forgiven: that many times the gradient.
        memory: a block that was, or will be, as it is that many frames away has changed no more than that; None
            forgets at once.
        habit: median absolute deviations that count as usual, see `beyond_habit`; None leaves the habit in.
        habit_quantile: of a place over time, that its scores are measured by, see there.
        frame_level: scores are divided by this plus the mean of their frame, so that a frame in which everything
            moves is worth little more than one in which something does; None leaves them alone.
        lasting: weight of the difference from the median picture, which finds what changes slowly and stays changed.
        echo: share of a block's score that its neighbors in time get, so that an event is shown more than once.
        spread: the r-th best moment of a place counts 1 / sqrt(1 + spread * r), so that no place takes all.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
    """

    def __init__(
        self,
        *,
        camera: Camera = "affine",
        light: Light = "rows",
        tolerance: float = 0.5,
        memory: int | None = 3,
        habit: float | None = 2.0,
        habit_quantile: float = 0.9,
        frame_level: float | None = 0.1,
        lasting: float = 0.0,
        echo: float = 0.25,
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        self.camera: Camera = check_choice("camera", camera, get_args(Camera))
        self.light: Light = check_choice("light", light, get_args(Light))
        self.tolerance = check_number("tolerance", tolerance, low=0)
        self.memory = check_number("memory", memory, low=2, integer=True, optional=True)
        self.habit = check_number("habit", habit, low=0, optional=True)
        self.habit_quantile = check_number("habit_quantile", habit_quantile, low=0, high=1)
        self.frame_level = check_number("frame_level", frame_level, above=0, optional=True)
        self.lasting = check_number("lasting", lasting, low=0)
        self.echo = check_number("echo", echo, low=0)
        self.spread = check_number("spread", spread, low=0)

    def extra_repr(self) -> str:
        return (
            f"camera={self.camera!r}, light={self.light!r}, tolerance={self.tolerance}, memory={self.memory}, "
            f"habit={self.habit}, habit_quantile={self.habit_quantile}, frame_level={self.frame_level}, "
            f"lasting={self.lasting}, echo={self.echo}, spread={self.spread}"
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
            usual = lower_median(own, 0).expand(own.shape)
            away = self._away(own, usual, grid)
            scores = scores + self.lasting * self._unusual(_blocks(away, self._forgiven(own), grid))
        scores = (scores - lower_median(scores.flatten(1), 1)[:, None, None]).clamp(min=0)
        if self.frame_level is not None:
            scores = scores / (self.frame_level + scores.mean((1, 2), keepdim=True))
        if self.echo:
            scores = echoed(scores, self.echo)
        return damped_over_time(scores, self.spread) if self.spread else scores

    def _changes(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        """(T, h, w) -> (T, hb, wb): beyond habit, from the picture before plus to the one after."""
        later, earlier = pictures[1:], pictures[:-1]
        forgiven = self._forgiven(pictures)
        seen_before, seen_after = earlier, later
        if self.camera == "affine":
            motion = camera_motion(later, earlier)
            # what has only just come into view is no event
            seen_before, seen_after = moved(earlier, motion, later), moved(later, -motion, earlier)
        backward = _blocks(self._away(later, seen_before, grid), forgiven[1:], grid)
        forward = _blocks(self._away(earlier, seen_after, grid), forgiven[:-1], grid)
        if self.memory is not None and len(pictures) > self.memory:
            past, future = self._remembered(pictures, forgiven, grid, self.memory)
            backward[self.memory - 1 :] = torch.minimum(backward[self.memory - 1 :], past)
            forward[: len(future)] = torch.minimum(forward[: len(future)], future)
        backward, forward = self._unusual(backward), self._unusual(forward)
        return F.pad(backward, (0, 0, 0, 0, 1, 0)) + F.pad(forward, (0, 0, 0, 0, 0, 1))

    def _remembered(
        self, pictures: Tensor, forgiven: Tensor, grid: tuple[int, int], distance: int
    ) -> tuple[Tensor, Tensor]:
        """(T - distance, hb, wb) twice: of the later of two pictures, as it stands, from the earlier, and back."""
        away = self._away(pictures[distance:], pictures[:-distance], grid)
        return _blocks(away, forgiven[distance:], grid), _blocks(away, forgiven[:-distance], grid)

    def _forgiven(self, pictures: Tensor) -> Tensor:
        """(T, h, w) gray levels that a displacement within the tolerance explains."""
        slope = torch.zeros_like(pictures)
        slope[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]).abs()
        down = (pictures[:, 2:] - pictures[:, :-2]).abs()
        slope[:, 1:-1] = torch.maximum(slope[:, 1:-1], down)
        return slope * (self.tolerance / 2)

    def _away(self, luma: Tensor, reference: Tensor, grid: tuple[int, int]) -> Tensor:
        """(T, h, w) gray levels of difference."""
        if self.light == "none":
            return (luma - reference).abs_()
        return difference_but_light(luma, reference, grid[0] if self.light == "rows" else 1).abs_()

    def _unusual(self, blocks: Tensor) -> Tensor:
        return blocks if self.habit is None else beyond_habit(blocks, self.habit, quantile=self.habit_quantile)


def _blocks(away: Tensor, forgiven: Tensor, grid: tuple[int, int]) -> Tensor:
    """(T, h, w) -> (T, hb, wb) mean gray levels beyond what is forgiven."""
    side = (away.shape[1] // grid[0], away.shape[2] // grid[1])
    return F.avg_pool2d((away - forgiven).clamp_(min=0)[:, None], side)[:, 0]
