"""VisualLayout: how the packed patches of a sample or a batch lie, canvas by canvas, on the host.

What the model needs to know beside pixels and positions: which canvases see each other (segments),
which are one clip (grid rows), and where items for a connector end. Letters: K canvases, N patches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal, get_args

import torch

from ov2kit.canvases import Canvases
from ov2kit.errors import OptionError, check_choice, check_number, check_numbers, check_type
from ov2kit.geometry import check_grids
from ov2kit.segments import Segments

Visibility = Literal["group", "window", "canvas", "full"]


@dataclass(frozen=True)
class VisualLayout:
    """Canvases of one or more clips, in the order of their patches.

    Args:
        grids: (rows, columns) of patches of each canvas.
        groups: group id of each canvas; the same number in two clips is not the same group.
        clips: id of the clip or picture of each canvas, never going back.

    Raises:
        ValueError: an entry is no whole number, the three differ in length, or a clip or group comes
            back after another one.
    """

    grids: tuple[tuple[int, int], ...] = ()
    groups: tuple[int, ...] = ()
    clips: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("groups", "clips"):
            check_numbers(name, getattr(self, name), integer=True)
        check_type("grids", self.grids, list | tuple, "a tuple of (rows, columns)")
        changes = [grid for before, grid in zip((None, *self.grids), self.grids, strict=False) if grid != before]
        check_grids("grids", [(1, *grid) if isinstance(grid, tuple) else grid for grid in changes])
        if not len(self.grids) == len(self.groups) == len(self.clips):
            raise OptionError(
                f"grids, groups and clips must have one entry per canvas, got {len(self.grids)}, "
                f"{len(self.groups)} and {len(self.clips)}"
            )
        keys = list(zip(self.clips, self.groups, strict=True))
        if any(b < a for a, b in pairwise(keys)):
            raise OptionError(f"(clip, group) must never go back from canvas to canvas, got {keys}")

    @classmethod
    def from_canvases(cls, canvases: Canvases) -> "VisualLayout":
        """The layout of `canvases.pixel_values()`."""
        groups, clips = canvases.groups.tolist(), canvases.clips.tolist()
        return cls((canvases.grid,) * len(canvases), tuple(groups), tuple(clips))

    @classmethod
    def cat(cls, parts: Iterable["VisualLayout"]) -> "VisualLayout":
        """Several layouts one after another; clips stay apart."""
        grids: list[tuple[int, int]] = []
        groups: list[int] = []
        clips: list[int] = []
        for part in parts:
            first = clips[-1] + 1 if clips else 0
            low = min(part.clips, default=0)
            grids += part.grids
            groups += part.groups
            clips += [first + clip - low for clip in part.clips]
        return cls(tuple(grids), tuple(groups), tuple(clips))

    @property
    def num_canvases(self) -> int:
        return len(self.grids)

    @property
    def num_patches(self) -> int:
        return sum(h * w for h, w in self.grids)

    def segments(
        self, visibility: Visibility = "group", window: int = 4, device: torch.device | str | None = None
    ) -> Segments:
        """Who sees whom.

        Args:
            visibility: "group" (canvases of one group), "window" (`window` neighboring canvases of
                a clip, as the release cuts them), "canvas" (each by itself) or "full" (a whole clip).
            window: canvases per window.
            device: of `cu_seqlens`.

        Raises:
            ValueError: unknown visibility, or a window below 1.
        """
        check_choice("visibility", visibility, get_args(Visibility))
        check_number("window", window, low=1, integer=True)
        place_in_clip = [i for _, run in groupby(self.clips) for i, _ in enumerate(run)]
        inner: Sequence[int] = {
            "group": self.groups,
            "window": [place // window for place in place_in_clip],
            "canvas": place_in_clip,
            "full": [0] * len(self.clips),
        }[visibility]
        lengths = [
            sum(h * w for _, (h, w) in run)
            for _, run in groupby(zip(zip(self.clips, inner, strict=True), self.grids, strict=True), lambda x: x[0])
        ]
        return Segments.from_lengths(lengths, device)

    def grid_thw(self) -> list[tuple[int, int, int]]:
        """(canvases, patch rows, patch columns) of each clip, as the release's `image_grid_thw`.

        A clip whose canvases differ in size gives one row per run of equal ones.
        """
        keys = groupby(zip(self.clips, self.grids, strict=True))
        return [(len(list(run)), *grid) for (_, grid), run in keys]

    def group_grids(self) -> list[tuple[int, int, int]]:
        """(canvases, patch rows, patch columns) of each group, which is how public clients learn who sees whom.

        A group whose canvases differ in size gives one row per run of equal ones.
        """
        keys = groupby(zip(self.clips, self.groups, self.grids, strict=True))
        return [(len(list(run)), *grid) for (_, _, grid), run in keys]
