"""Canvas packing: the anchor whole, the chosen blocks side by side, and where each patch came from.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2); order and padding as in the codec wheel
of its release. Letters: T frames of H x W pixels, p patch, m merge (patches per block edge),
hb x wb blocks per frame, P P-canvases, n blocks.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.errors import check_number


class CuttablePictures(Sequence[Tensor]):
    """Pictures (3, H, W) of which blocks can be had without the rest."""

    @abstractmethod
    def cut(self, blocks: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Some of the blocks, whichever take less time so.

        Args:
            blocks: (n, 3) int64 of (which of the pictures, block row, block col).
            side: of a block in pixels.

        Returns:
            (n,) bool, which blocks these are, and their (m, 3, side, side) uint8 pixels.
        """


class CanvasPacker(nn.Module):
    """Copy whole frames and single blocks onto canvases, pixel for pixel.

    A P-canvas is filled in raster order of its blocks; what stays empty is black, with position -1.

    Args:
        patch: p, patch edge in pixels.
        merge: m, patches per block edge.
    """

    def __init__(self, patch: int = 14, merge: int = 2) -> None:
        super().__init__()
        check_number("patch", patch, low=1, integer=True)
        check_number("merge", merge, low=1, integer=True)
        self.patch, self.merge = patch, merge

    def extra_repr(self) -> str:
        return f"patch={self.patch}, merge={self.merge}"

    def forward(
        self,
        frames: Tensor | Sequence[Tensor],
        frame_indices: Tensor,
        anchor: int,
        blocks: Tensor,
        canvas: Tensor | None = None,
        *,
        p_canvases: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pack one group: the I-canvas, then the P-canvases.

        Args:
            frames: (T, 3, H, W) uint8, or T pictures (3, H, W) on the host: then only those are taken
                of which something is shown, one after the other, and of `CuttablePictures` single blocks where
                that takes less time; H and W multiples of patch * merge.
            frame_indices: (T,) source frame index of each frame: the time of its positions.
            anchor: which of the T frames is kept whole.
            blocks: (n, 3) long (which of the T frames, block row, block col), in packing order;
                rows of -1 are left out if they come last.
            canvas: (n,) P-canvas of each block, not decreasing; consecutive runs of hb * wb blocks
                when omitted.
            p_canvases: P; as many as the blocks need when omitted.

        Returns:
            images (1 + P, 3, H, W) uint8, positions (1 + P, H/p, W/p, 3) int32 of (source frame,
            patch row, patch col), is_anchor (1 + P,) bool.

        Raises:
            ValueError: shapes do not fit, or there are more blocks than places.
        """
        images, positions, is_anchor = self._pack(
            frames[None] if isinstance(frames, Tensor) else frames,
            frame_indices[None],
            torch.as_tensor(anchor).reshape(1),
            blocks[None],
            None if canvas is None else canvas[None],
            p_canvases,
        )
        return images[0], positions[0], is_anchor[0]

    def forward_batch(
        self,
        frames: Tensor,
        frame_indices: Tensor,
        anchor: Tensor,
        blocks: Tensor,
        canvas: Tensor | None = None,
        *,
        p_canvases: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward` with a leading batch dimension everywhere; short rows of blocks end in -1.

        Returns:
            images (B, 1 + P, 3, H, W), positions (B, 1 + P, H/p, W/p, 3), is_anchor (B, 1 + P).
        """
        return self._pack(frames, frame_indices, anchor, blocks, canvas, p_canvases)

    def _pack(
        self,
        frames: Tensor | Sequence[Tensor],
        frame_indices: Tensor,
        anchor: Tensor,
        blocks: Tensor,
        canvas: Tensor | None,
        p_canvases: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = self._grid(frames, frame_indices, anchor, blocks)
        source = _slots(anchor, blocks, canvas, p_canvases, (rows, columns))
        empty = source < 0
        if isinstance(frames, Tensor):
            images = self._copy(frames, *_split(source.clamp(min=0), rows, columns))
        else:
            images = _copied(frames, source[0], (rows, columns), self.patch * self.merge)[None]
        if images.is_cuda or bool(empty.any()):  # on a device it is cheaper to go on than to ask
            _fill(rearrange(images, "b k c (h y) (w x) -> b k h w c y x", h=rows, w=columns), empty, 0)
        positions = self._positions(frame_indices, source)
        is_anchor = torch.zeros(images.shape[:2], dtype=torch.bool, device=images.device)
        is_anchor[:, 0] = True
        return images, positions, is_anchor

    def _grid(
        self, frames: Tensor | Sequence[Tensor], frame_indices: Tensor, anchor: Tensor, blocks: Tensor
    ) -> tuple[int, int]:
        """Block rows and columns of a frame, after checking what came in."""
        side = self.patch * self.merge
        one = frames if isinstance(frames, Tensor) else frames[int(anchor)] if len(frames) else torch.empty(0)
        shape = one.shape if isinstance(frames, Tensor) else (1, len(frames), *one.shape)
        if len(shape) != 5 or shape[2] != 3 or one.dtype != torch.uint8 or 0 in shape:
            raise ValueError(f"frames must be (T, 3, H, W) uint8, got {tuple(shape[1:])} {one.dtype}")
        batch, count, _, height, width = shape
        if height % side or width % side:
            raise ValueError(f"frame sides must be multiples of patch * merge = {side}, got {height} x {width}")
        if frame_indices.shape != (batch, count) or anchor.shape != (batch,):
            raise ValueError(
                f"need one source index for each of {count} frames and one anchor; "
                f"got {tuple(frame_indices.shape[1:])} and {tuple(anchor.shape[1:])}"
            )
        if blocks.ndim != 3 or blocks.shape[0] != batch or blocks.shape[2] != 3:
            raise ValueError(f"blocks must be (n, 3) of (frame, block row, block col), got {tuple(blocks.shape[1:])}")
        return height // side, width // side

    def _copy(self, frames: Tensor, frame: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """One gather of strips: a strip is one pixel row of one block, planar or interleaved as frames are."""
        side, device = self.patch * self.merge, frames.device
        batch, count, _, height, width = frames.shape
        columns = width // side
        clip = torch.arange(batch, device=device).view(-1, 1, 1, 1) * count + frame
        line = torch.arange(side, device=device).view(-1, 1)
        interleaved = frames.permute(0, 1, 3, 4, 2)
        if interleaved.is_contiguous() and not frames.is_contiguous():
            strip = ((clip * height + row * side)[..., None, :] + line) * columns + column[..., None, :]
            pixels = _take(interleaved.view(-1, side * 3), strip.flatten())
            return pixels.view(batch, -1, height, width, 3).permute(0, 1, 4, 2, 3).contiguous()
        channel = torch.arange(3, device=device).view(-1, 1, 1)
        start = (clip[:, :, None] * 3 + channel) * height + row[:, :, None] * side
        strip = (start[..., None, :] + line) * columns + column[:, :, None, :, None]
        return _take(frames.reshape(-1, side), strip.flatten()).view(batch, -1, 3, height, width)

    def _positions(self, frame_indices: Tensor, source: Tensor) -> Tensor:
        """(B, T) source frames and (B, K, hb, wb) blocks of `_slots` -> (B, K, H/p, W/p, 3) int32, -1 where empty."""
        merge, device = self.merge, source.device
        batch, count, rows, columns = source.shape
        shape = (batch, count, rows * merge, columns * merge, 3)
        if device.type == "cpu" and uses_kernels():
            from ov2kit.codec.compiled import packing as kernels

            found = torch.empty(shape, dtype=torch.int32)
            given = source.flatten(2).contiguous(), frame_indices.to("cpu", torch.long).contiguous(), found
            for blocks, seen, out in zip(*(x.numpy() for x in given), strict=True):
                kernels.positions(blocks, seen, merge, columns, out)
            return found
        frame, row, column = _split(source.clamp(min=0), rows, columns)
        times = frame_indices.to(device).gather(1, frame.flatten(1)).view_as(frame)
        within = torch.arange(merge, device=device)
        positions = torch.empty((batch, count, rows, merge, columns, merge, 3), dtype=torch.int32, device=device)
        positions[..., 0] = times[:, :, :, None, :, None]
        positions[..., 1] = (row * merge)[:, :, :, None, :, None] + within.view(-1, 1, 1)
        positions[..., 2] = (column * merge)[:, :, :, None, :, None] + within
        _fill(positions.permute(0, 1, 2, 4, 6, 3, 5), source < 0, -1)
        return positions.view(shape)


def _slots(
    anchor: Tensor, blocks: Tensor, canvas: Tensor | None, p_canvases: int | None, grid: tuple[int, int]
) -> Tensor:
    """(B, 1 + P, hb, wb) long: which block of the group, (frame * hb + row) * wb + col, goes where; -1 for none."""
    rows, columns = grid
    places, (batch, count, _), device = rows * columns, blocks.shape, blocks.device
    is_compiled = device.type == "cpu" and uses_kernels()
    rank = None
    if canvas is None:
        needed, most = math.ceil(count / places), 0
    elif is_compiled:
        needed, most = _fullest(canvas)
    else:
        rank = torch.arange(count, device=device) - torch.searchsorted(canvas.contiguous(), canvas.contiguous())
        needed, most = (int(x.max()) + 1 if x.numel() else 0 for x in (canvas, rank))
    total = needed if p_canvases is None else p_canvases
    if most > places:
        raise ValueError(f"a canvas takes {places} blocks of {rows} x {columns}, got {most} for one")
    if needed > total:
        raise ValueError(f"{count} blocks need {needed} P-canvases of {places} blocks, got p_canvases={total}")
    if is_compiled:
        return _compiled_slots(anchor, blocks, canvas, total, grid)
    if canvas is None or rank is None:
        slot = torch.arange(count, device=device).expand(batch, count)
    else:
        slot = canvas * places + rank
    block = (blocks[..., 0] * rows + blocks[..., 1]) * columns + blocks[..., 2]
    block = block.masked_fill(blocks[..., 0] < 0, -1)
    source = torch.full((batch, (1 + total) * places), -1, dtype=torch.long, device=device)
    source[:, :places] = anchor.to(device)[:, None] * places + torch.arange(places, device=device)
    source.scatter_(1, slot + places, block)
    return source.view(batch, 1 + total, rows, columns)


def _fullest(canvas: Tensor) -> tuple[int, int]:
    """Canvases that (B, n) numbers, not decreasing, speak of, and the most blocks that one of them is given."""
    found = [(int(row[-1]) + 1, int(np.bincount(row).max())) for row in canvas.numpy() if len(row)]
    return tuple(max(each) for each in zip(*found, strict=True)) if found else (0, 0)


def _compiled_slots(anchor: Tensor, blocks: Tensor, canvas: Tensor | None, total: int, grid: tuple[int, int]) -> Tensor:
    """As `_slots`, of arguments that fit."""
    from ov2kit.codec.compiled import packing as kernels

    rows, columns = grid
    batch, count, _ = blocks.shape
    source = np.empty((batch, 1 + total, rows * columns), np.int64)
    lots = (
        np.arange(count)[None].repeat(batch, 0) // (rows * columns) if canvas is None else canvas.contiguous().numpy()
    )
    for which, own, lot, out in zip(anchor.tolist(), blocks.contiguous().numpy(), lots, source, strict=True):
        kernels.slots(which, own, lot, rows, columns, out)
    return torch.from_numpy(source).view(batch, 1 + total, rows, columns)


def _copied(frames: Sequence[Tensor], source: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """(1 + P, hb, wb) long of `_slots` -> (1 + P, 3, H, W), frame by frame and block by block.

    To join the frames first and copy all blocks at once takes longer: most of a frame is not shown.
    """
    rows, columns = grid
    places = rows * columns
    strip = np.dtype(f"V{side}")  # one pixel row of a block moves as one item
    images = np.empty((len(source), 3, rows, side, columns), strip)
    flat = source.flatten().numpy()
    images[0] = picture = _strips(frames[flat[0] // places], images.shape[1:], strip)
    slots = places + np.flatnonzero(flat[places:] >= 0)
    slots = slots[(flat[slots] // places).argsort(kind="stable")]
    blocks = flat[slots]
    if isinstance(frames, CuttablePictures):
        made, pixels = frames.cut(np.stack(np.unravel_index(blocks, (len(frames), *grid)), axis=1), side)
        (canvas, y, x), pixels = np.unravel_index(slots[made], (len(source), *grid)), pixels.view(strip)[..., 0]
        images[canvas, :, y, :, x] = pixels
        slots, blocks = slots[~made], blocks[~made]
    # Blocks that are side by side in a frame and on a canvas move together.
    together = (np.diff(blocks) == 1) & (np.diff(slots) == 1) & (blocks[1:] % columns > 0) & (slots[1:] % columns > 0)
    starts = np.flatnonzero(np.append(True, ~together)[: len(slots)])
    lengths = np.diff(starts, append=len(slots))
    current = -1
    for slot, block, length in zip(slots[starts].tolist(), blocks[starts].tolist(), lengths.tolist(), strict=True):
        frame, place = divmod(block, places)
        if frame != current:
            current, picture = frame, _strips(frames[frame], images.shape[1:], strip)
        (row, column), (canvas, to) = divmod(place, columns), divmod(slot, places)
        y, x = divmod(to, columns)
        images[canvas, :, y, :, x : x + length] = picture[:, row, :, column : column + length]
    return torch.from_numpy(images.view(np.uint8).reshape(len(source), 3, rows * side, columns * side))


def _strips(picture: Tensor, shape: tuple[int, ...], strip: np.dtype) -> np.ndarray:
    """(3, H, W) uint8 -> (3, hb, side, wb) pixel rows of blocks, a view where it can be."""
    expected = (3, shape[1] * shape[2], shape[3] * strip.itemsize)
    if tuple(picture.shape) != expected or picture.dtype != torch.uint8:
        raise ValueError(f"frames must all be {expected} uint8, got {tuple(picture.shape)} {picture.dtype}")
    return np.ascontiguousarray(picture.numpy()).view(strip).reshape(shape)


def _split(block: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """(frame * rows + row) * columns + column -> frame, row, column."""
    line = block.div(columns, rounding_mode="floor")
    return line.div(rows, rounding_mode="floor"), line % rows, block % columns


def _take(strips: Tensor, index: Tensor) -> Tensor:
    """Rows of (N, bytes) uint8, copied in the widest words that fit."""
    words = next(d for n, d in ((8, torch.int64), (4, torch.int32), (2, torch.int16), (1, torch.uint8))
                 if strips.shape[1] % n == 0)  # fmt: skip
    return strips.view(words).index_select(0, index).view(torch.uint8)


def _fill(blocks: Tensor, empty: Tensor, value: int) -> None:
    """Overwrite the empty ones of (B, K, hb, wb, ...), a view."""
    if empty.is_cuda:  # cheaper to fill all of it than to ask which
        blocks.masked_fill_(empty[..., None, None, None], value)
    else:
        blocks[empty.nonzero(as_tuple=True)] = value
