"""The third stage: choose the blocks of a scored group and pack them onto its canvases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ov2kit.codec.selection.packing import CanvasPacker, CuttablePictures
from ov2kit.codec.selection.plan import GroupPlan
from ov2kit.codec.selection.whole_frames import place_whole_frames
from ov2kit.codec.signals.macroblock_inputs import Moved
from ov2kit.codec.tokenizers.groups import Clip
from ov2kit.codec.tokenizers.provenance import StageClock, add_seconds
from ov2kit.codec.tokenizers.scored import Scored
from ov2kit.codec.video.cut import cut_blocks
from ov2kit.codec.video.frame import Frame, StreamLosses


@dataclass(frozen=True)
class Chosen:
    """The canvases of one group.

    Args:
        plan: the group.
        images: (1 + P, 3, H, W) uint8.
        positions: (1 + P, H/p, W/p, 3) int32.
        is_anchor: (1 + P,) bool.
        frame_times: seconds of each frame that is shown, by display index.
        anchor: display index of the frame shown whole.
        whole: (w,) display indices of all frames that are, increasing.
        frames: how many were scored.
        signal: that they were scored by.
        bits_from: what bits were estimated from; None where none were.
        losses: of the clip, known with its last group.
        seconds: wall seconds per stage.
    """

    plan: GroupPlan
    images: Tensor
    positions: Tensor
    is_anchor: Tensor
    frame_times: Mapping[int, float]
    anchor: int
    whole: tuple[int, ...]
    frames: int
    signal: str
    bits_from: Moved | None
    losses: StreamLosses | None
    seconds: Mapping[str, float]


def choose(clip: Clip, selector: nn.Module, packer: CanvasPacker, scored: Scored) -> Chosen:
    """Fill the canvases of a group.

    Args:
        clip: the video.
        selector: of blocks, with the interface of `SaliencyBlockSelector`.
        packer: of canvases.
        scored: the group.
    """
    clock, frames, scores = StageClock(), scored.frames, scored.scores
    with clock("select"):
        anchor = _anchor(scored, sharpest=clip.options.anchor == "sharpest")
        canvases = min(scored.plan.canvases, len(frames))
        seconds = np.array([frame.seconds for frame in frames])
        whole = place_whole_frames(seconds, anchor, min(scored.plan.whole, canvases))
        per_canvas = clip.grid[0] * clip.grid[1]
        blocks = _blocks(selector, scores.values, per_canvas, whole, canvases)
        blocks, canvas = in_tokens(blocks, torch.arange(len(blocks)) // per_canvas, clip.options.block)
    with clock("pack"):
        indices = torch.tensor([frame.index for frame in frames])
        images, positions, is_anchor = packer(
            _Pictures(frames), indices, int(whole[0]), blocks, canvas, p_canvases=canvases - 1
        )
        is_anchor[: len(whole)] = True
        shown = sorted({*whole.tolist(), *blocks[:, 0].tolist()})
    return Chosen(
        plan=scored.plan,
        images=images,
        positions=positions,
        is_anchor=is_anchor,
        frame_times={frames[t].index: frames[t].seconds for t in shown},
        anchor=frames[anchor].index,
        whole=tuple(frames[place].index for place in whole.tolist()),
        frames=len(frames),
        signal=scores.signal,
        bits_from=scores.bits_from,
        losses=scored.losses,
        seconds=add_seconds(scored.seconds, clock.seconds),
    )


def _blocks(selector: nn.Module, scores: Tensor, per_canvas: int, whole: np.ndarray, canvases: int) -> Tensor:
    """(n, 3) blocks of all canvases but the first, canvas after canvas: of other whole frames, then chosen ones."""
    first, others = int(whole[0]), torch.from_numpy(whole[1:])
    if len(others) == 0:
        chosen: Tensor = selector(scores, per_canvas, anchor=first, p_canvases=canvases - 1)
        return chosen
    good = torch.ones(len(scores), dtype=torch.bool)
    good[others] = False
    chosen = selector(scores, per_canvas, anchor=first, good=good, p_canvases=canvases - len(whole))
    rows, columns = (torch.arange(side) for side in scores.shape[1:])
    return torch.cat([torch.cartesian_prod(others, rows, columns), chosen])


class _Pictures(CuttablePictures):
    """RGB of frames; those that are kept as decoded are scaled when they are taken, the last one is remembered."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._last: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: Any) -> Any:
        frame = self._frames[place]
        if frame.rgb is not None:
            return frame.rgb
        if self._last is None or self._last[0] != place:
            assert frame.picture is not None
            self._last = place, frame.picture.rgb()
        return self._last[1]

    def cut(self, blocks: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        return cut_blocks([frame.picture for frame in self._frames], blocks, side)


def _anchor(scored: Scored, *, sharpest: bool) -> int:
    """Place of the anchor among the frames: the first of them where the planned one was lost."""
    if sharpest:
        return sharpest_of(scored.frames)
    indices = [frame.index for frame in scored.frames]
    return indices.index(scored.plan.anchor) if scored.plan.anchor in indices else 0


def sharpest_of(frames: Sequence[Frame]) -> int:
    """The frame whose luma has most fine detail: variance of the Laplacian, the earlier of equals."""
    luma = torch.stack([frame.luma for frame in frames if frame.luma is not None]).float()
    inner = luma[:, 1:-1, 1:-1]
    laplacian = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    return int(laplacian.flatten(1).var(dim=1).argmax())


def in_tokens(blocks: Tensor, canvas: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Blocks of size x size tokens -> single tokens, in (frame, row, col) order within each canvas."""
    if size == 1:
        return blocks, canvas
    inner = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    corner = torch.cat([blocks[:, :1], blocks[:, 1:] * size], dim=1)
    tokens = corner[:, None] + torch.cat([torch.zeros_like(inner[:, :1]), inner], dim=1)
    tokens, canvas = tokens.reshape(-1, 3), canvas.repeat_interleave(size * size)
    order = torch.arange(len(tokens))
    for key in (tokens[:, 2], tokens[:, 1], tokens[:, 0], canvas):
        order = order[torch.argsort(key[order], stable=True)]
    return tokens[order], canvas[order]
