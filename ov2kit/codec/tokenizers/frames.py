"""Uniformly sampled frames as canvases: the baseline that codec canvases are compared with.

Source: frame sampling of LLaVA-OneVision-2 (frame counts by duration, rounded linspace).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ov2kit.canvases import Canvases
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.tokenizers.budget import check_canvas_options, plan_budget
from ov2kit.codec.tokenizers.interface import Progress
from ov2kit.codec.tokenizers.provenance import StageClock, describe
from ov2kit.codec.video.source import MAX_SOURCE_PIXELS, VideoSource
from ov2kit.errors import check_number


def choose_frame_count(
    duration_seconds: float,
    max_frames: int = 384,
    fixed_num_frames: int | None = None,
    target_fps: float | None = None,
) -> int:
    """How many frames the release samples from a clip.

    Args:
        duration_seconds: length of the clip.
        max_frames: frames of clips from 30 s on, and most frames for `target_fps`.
        fixed_num_frames: this many, whatever the length; not capped.
        target_fps: frames per second, at least 1 frame; wins over `fixed_num_frames`.

    Returns:
        Frames; by default 8 under 10 s, 16 under 30 s, else `max_frames`.
    """
    if target_fps is not None and target_fps > 0:
        return max(1, min(max_frames, int(duration_seconds * target_fps)))
    if fixed_num_frames is not None:
        return fixed_num_frames
    if duration_seconds < 10:
        return 8
    if duration_seconds < 30:
        return 16
    return max_frames


def select_frame_indices(frame_count: int, target_count: int) -> list[int]:
    """Rounded linspace over 0..frame_count-1, in float32 as the release computes it.

    Returns:
        All frames if there are no more than asked for.
    """
    if target_count <= 0:
        return []
    if frame_count <= target_count:
        return list(range(frame_count))
    places: list[int] = torch.linspace(0, frame_count - 1, target_count, dtype=torch.float32).round().long().tolist()
    return places


def select_frames_by_time(frame_seconds: np.ndarray, target_count: int) -> list[int]:
    """Frames nearest to equal steps of time, from the first frame to the last.

    Where frames come at a constant rate these are the frames of `select_frame_indices`.

    Args:
        frame_seconds: (F,) increasing time of each frame.
        target_count: frames to choose.

    Returns:
        Increasing indices, each once: fewer than asked for where a long gap holds no frames.
    """
    count = len(frame_seconds)
    even = np.linspace(frame_seconds[0], frame_seconds[-1], count) if count else frame_seconds
    step = (even[-1] - even[0]) / max(1, count - 1) if count else 0.0
    if target_count <= 0 or count <= target_count or (np.abs(frame_seconds - even) <= step / 2).all():
        return select_frame_indices(count, target_count)
    wanted = np.linspace(frame_seconds[0], frame_seconds[-1], target_count)
    after = np.searchsorted(frame_seconds, wanted).clip(1, count - 1)
    is_before = wanted - frame_seconds[after - 1] <= frame_seconds[after] - wanted
    return [int(i) for i in np.unique(after - is_before)]


class FrameTokenizer:
    """Sampled frames, one I-canvas each, in the same form as codec canvases.

    Args:
        budget_canvases: most frames; with neither budget the release's rule by duration applies.
        budget_tokens: most merged tokens instead.
        target_fps: frames per second of time, capped by the budget; by default as many as the budget
            has, at equal steps over the frames of the clip.
        group: frames that see each other: 4 as in training, 1 as in the release's inference.
        patch: patch edge in pixels.
        merge: patches per block edge.
        min_pixels: smallest canvas area in pixels.
        max_pixels: largest canvas area in pixels.
        canvas_size: (height, width) in pixels instead.
        threads: see `VideoStream`.
        max_source_pixels: see `VideoStream`.

    Raises:
        BudgetError: budgets that cannot be met.
        OptionError: an option is of a wrong type or out of range.

    Example:
        >>> FrameTokenizer(budget_canvases=8)("clip.mp4").images.shape
        torch.Size([8, 3, 280, 504])
    """

    def __init__(
        self,
        budget_canvases: int | None = None,
        *,
        budget_tokens: int | None = None,
        target_fps: float | None = None,
        group: int = 4,
        patch: int = 14,
        merge: int = 2,
        min_pixels: int = 3136,
        max_pixels: int = 150_000,
        canvas_size: tuple[int, int] | None = None,
        threads: int | None = None,
        max_source_pixels: int = MAX_SOURCE_PIXELS,
    ) -> None:
        check_canvas_options(
            budget_canvases=budget_canvases, budget_tokens=budget_tokens, patch=patch, merge=merge,
            min_pixels=min_pixels, max_pixels=max_pixels, canvas_size=canvas_size, threads=threads,
        )  # fmt: skip
        check_number("target_fps", target_fps, above=0, optional=True)
        check_number("group", group, low=1, integer=True)
        check_number("max_source_pixels", max_source_pixels, low=1, integer=True)
        self.budget_canvases, self.budget_tokens = budget_canvases, budget_tokens
        self.target_fps, self.group = target_fps, group
        self.patch, self.merge = patch, merge
        self.min_pixels, self.max_pixels, self.canvas_size = min_pixels, max_pixels, canvas_size
        self.threads, self.max_source_pixels = threads, max_source_pixels

    def __call__(self, video: VideoSource | VideoStream, *, progress: Progress | None = None) -> Canvases:
        """Sample a clip.

        Args:
            video: path, bytes, binary file object, or a `VideoStream`.
            progress: called with the number of frames decoded so far and the number to decode.

        Raises:
            VideoError: it cannot be opened or decoded.
        """
        clock = StageClock()
        with clock("open"):
            stream = video if isinstance(video, VideoStream) else self._opened(video)
        duration = stream.duration_seconds
        unbounded = self.budget_canvases is None and self.budget_tokens is None
        budget = plan_budget(
            stream.info.display_size,
            budget_canvases=choose_frame_count(duration) if unbounded else self.budget_canvases,
            budget_tokens=self.budget_tokens,
            side=self.patch * self.merge,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            canvas_size=self.canvas_size,
        )
        count = budget.canvases
        if self.target_fps is not None:
            count = choose_frame_count(duration, max_frames=count, target_fps=self.target_fps)
        if self.target_fps is None:
            indices = select_frame_indices(stream.num_frames, count)
        else:
            indices = select_frames_by_time(stream.packets.frame_seconds, count)
        with clock("decode"):
            loop = stream.frames(indices, size=(budget.height, budget.width))
            frames = []
            for frame in loop:
                frames.append(frame)
                if progress is not None:
                    progress(len(frames), len(indices))
        images = torch.stack([frame.rgb for frame in frames if frame.rgb is not None])
        chosen = {"chosen": [frame.index for frame in frames]}
        made = describe(
            stream,
            preset="frames",
            signal={"used": "none"},
            options=self.options(),
            losses=loop.losses,
            seconds=clock.seconds,
            frames=chosen,
        )
        return Canvases(
            images=images,
            positions=whole_frame_positions([f.index for f in frames], budget.height, budget.width, self.patch),
            groups=torch.arange(len(frames), dtype=torch.int32) // self.group,
            is_anchor=torch.ones(len(frames), dtype=torch.bool),
            frame_times={frame.index: frame.seconds for frame in frames},
            patch=self.patch,
            merge=self.merge,
            signal="none",
            fps=stream.fps,
            provenance=made.to_dict(),
        )

    def with_budget(self, canvases: int | None, tokens: int | None = None) -> "FrameTokenizer":
        """This tokenizer with another budget.

        Raises:
            BudgetError: it cannot be met.
        """
        return FrameTokenizer(**(vars(self) | {"budget_canvases": canvases, "budget_tokens": tokens}))

    def options(self) -> dict[str, Any]:
        """Constructor arguments, for provenance."""
        return {name: value for name, value in vars(self).items() if name not in ("threads", "max_source_pixels")}

    def _opened(self, video: VideoSource) -> VideoStream:
        return VideoStream(video, threads=self.threads, max_source_pixels=self.max_source_pixels)


def whole_frame_positions(indices: Sequence[int], height: int, width: int, patch: int) -> Tensor:
    """(T, H/p, W/p, 3) int32 positions of whole frames."""
    rows, columns = height // patch, width // patch
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
    positions = torch.empty(len(indices), rows, columns, 3, dtype=torch.int32)
    positions[..., 0] = torch.tensor(list(indices), dtype=torch.int32)[:, None, None]
    positions[..., 1:] = grid.int()
    return positions
