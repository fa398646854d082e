"""Canvases as lmms-engine's LLaVA-OneVision-2 dataset takes them, in place of those of `lmms-video-utils`.

The fields are those of `CodecVideoOutput` of lmms-video-utils 0.1.0. Importing this needs neither package.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ov2kit.canvases import Canvases
from ov2kit.errors import CanvasError, check_type


@dataclass(frozen=True)
class EngineVideo:
    """One video.

    Args:
        canvases: (K, 3, H, W) uint8 RGB.
        patch_positions: (K * h * w, 3) int64 source (frame, row, column), canvas after canvas in raster order;
            -1 is padding.
        gop_ids: (K,) int64 group of each canvas, counted from 0.
        source_pts: (K,) float32 seconds of the canvas's group, its first frame: what stands before it in the prompt.
        fps: average frames per second of the source.
        n_groups: how many there are.

    Example:
        >>> from ov2kit.codec import CodecTokenizer
        >>> video = EngineVideo.of(CodecTokenizer(4, max_pixels=16_000)("clip.mp4"))
        >>> video.canvases.shape
        torch.Size([4, 3, 84, 168])
    """

    canvases: Tensor
    patch_positions: Tensor
    gop_ids: Tensor
    source_pts: Tensor
    fps: float
    n_groups: int

    @classmethod
    def of(cls, canvases: Canvases) -> "EngineVideo":
        """The canvases of one clip.

        Raises:
            CanvasError: no canvas, several clips, or a group of padding alone.
        """
        check_type("canvases", canvases, Canvases, "a Canvases")
        if len(canvases) == 0 or len(canvases.clip_times()) != 1:
            raise CanvasError("expected the canvases of one clip; take each of canvases.split()")
        (times,), (fps,) = canvases.clip_times(), canvases.clip_fps()
        _, groups = torch.unique_consecutive(canvases.groups, return_inverse=True)
        starts: dict[int, float] = {}
        for group in range(int(groups.max()) + 1):
            frames = canvases.positions[groups == group][..., 0]
            shown = frames[frames >= 0]
            if not len(shown):
                raise CanvasError(f"group {group}: every block is padding, so it has no time")
            starts[group] = times[int(shown.min())]
        return cls(
            canvases=canvases.images,
            patch_positions=canvases.positions.reshape(-1, 3).long(),
            gop_ids=groups.long(),
            source_pts=torch.tensor([starts[group] for group in groups.tolist()], dtype=torch.float32),
            fps=fps,
            n_groups=len(starts),
        )
