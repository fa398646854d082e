"""Saliency: motion and residual of each frame -> one score per block.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2); percentiles, floors and fusion as in the
public scorers. Stock FFmpeg gives no coded residual, so the residual here is what motion
compensation from the reference picture leaves of the luma.
Letters: B clips or groups, T frames, h x w luma pixels, gh x gw motion cells, hb x wb blocks.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.scoring.byte_share import ByteShareSaliency
from ov2kit.codec.scoring.camera_motion import Compensation, remove_global_motion
from ov2kit.codec.scoring.maps import Fusion, cell_sums, fuse, percentile
from ov2kit.codec.scoring.residual import check_pictures, clipped_sums, count_levels, residuals, sum_blocks
from ov2kit.codec.signals.collect import FrameSignals
from ov2kit.codec.signals.compensate import Sampling
from ov2kit.codec.signals.resample import upsample
from ov2kit.errors import check_choice, check_number, check_numbers, deprecated

Normalize = Literal["frame", "group", "clip"]
_LEAST_RESIDUAL = 1.0  # gray levels
_LEAST_MOTION = 1e-6  # pixels


class MotionResidualSaliency(nn.Module):
    """Score blocks by how much in them moves and how much of them motion does not explain.

    Motion: vectors over temporal distance, less the global motion; their length over its
    percentile, cut at 1. Residual: |luma - reference moved along the vectors| over its percentile,
    cut at 1. Both are fused pixel by pixel and summed over each block.

    What is exact: the prediction is sampled at eighths of a pixel and rounded to whole gray levels,
    so the percentile of the residual is an exact one over those; motion percentiles are exact; the
    median of global motion looks at up to 300 cells. ``"mean"`` sums motion and residual apart,
    which is equal but for rounding.

    Args:
        compensation: global motion to take out: ``"none"``, ``"mean"``, ``"median"`` or
            ``"affine"`` (zoom, rotation, shear).
        fusion: ``"mean"`` (weighted), ``"sum"`` (weighted, cut at 1), ``"max"``, ``"geomean"``.
        weights: of motion and residual.
        q: percentile that maps to 1.
        normalize: which frames the percentile is over: ``"frame"`` each on its own (the paper's
            form, which lifts frames where nothing moves), ``"group"`` all valid frames of the
            call, ``"clip"`` scales that the caller gives. ``"bytes"`` is the deprecated spelling of
            `ByteShareSaliency`.
        bit_cost_weight: a; scores are multiplied by 1 + a * bytes / 99th percentile of bytes.
        sampling: of the reference picture, ``"bilinear"`` or ``"nearest"``.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
    """

    def __init__(
        self,
        compensation: Compensation = "median",
        fusion: Fusion = "mean",
        *,
        weights: tuple[float, float] = (1.0, 1.0),
        q: float = 95.0,
        normalize: Normalize | Literal["bytes"] = "group",
        bit_cost_weight: float = 0.0,
        sampling: Sampling = "bilinear",
    ) -> None:
        super().__init__()
        check_choice("compensation", compensation, get_args(Compensation))
        check_choice("fusion", fusion, get_args(Fusion))
        if normalize == "bytes":
            deprecated("MotionResidualSaliency(normalize='bytes')", "ByteShareSaliency()", "0.2")
        else:
            check_choice("normalize", normalize, get_args(Normalize))
        check_choice("sampling", sampling, get_args(Sampling))
        check_number("q", q, above=0, high=100)
        check_numbers("weights", weights, length=2, low=0)
        check_number("bit_cost_weight", bit_cost_weight, low=0)
        self.compensation: Compensation = compensation
        self.fusion: Fusion = fusion
        self.weights, self.q = weights, q
        self.normalize, self.bit_cost_weight, self.sampling = normalize, bit_cost_weight, sampling

    def extra_repr(self) -> str:
        return (
            f"compensation={self.compensation!r}, fusion={self.fusion!r}, weights={self.weights}, q={self.q}, "
            f"normalize={self.normalize!r}, bit_cost_weight={self.bit_cost_weight}, sampling={self.sampling!r}"
        )

    def forward(
        self,
        luma: Tensor,
        reference: Tensor,
        motion: Tensor | None,
        grid: tuple[int, int],
        nbytes: Tensor | None = None,
        valid: Tensor | None = None,
        *,
        distance: Tensor | None = None,
        scale: Tensor | None = None,
        nbytes_scale: Tensor | float | None = None,
        external: Tensor | None = None,
    ) -> Tensor:
        """Score the blocks of T frames; every argument may have a leading batch dimension B.

        Args:
            luma: (T, h, w) uint8 at scoring size, h and w multiples of the grid.
            reference: (T, h, w) uint8, for each frame the picture its vectors point to.
            motion: (T, gh, gw, 2) float32 pixels of the scoring size, from the current position to
                the one in the reference; NaN where there is no vector (plain difference, no
                motion). None: luma difference alone.
            grid: (hb, wb) blocks.
            nbytes: (T,) bytes of each frame's packet, for `bit_cost_weight`.
            valid: (T,) bool; False has no reference, scores 0 and counts in no percentile.
            distance: (T,) frames from the reference; magnitudes are divided by it.
            scale: (2,) or (B, 2) pixels and gray levels that map to 1, see `scales`; needed by
                ``normalize="clip"``, and used instead of the percentiles wherever given.
            nbytes_scale: bytes that count as 1; the 99th percentile of the valid frames of the
                call when omitted.
            external: (T, eh, ew) score maps of any size that replace the scores of their frames
                (a decoder's bit-cost map, say); frames whose map holds NaN keep their own.

        Returns:
            (T, hb, wb) float32, each the sum over h / hb * w / wb pixels of a value in [0, 1],
            before the bit-cost factor.

        Raises:
            ValueError: shapes do not fit, or something that the options need is missing.
        """
        if luma.ndim == 3:
            optional = (None if x is None else x[None] for x in (motion, nbytes, valid, distance, external))
            motion, nbytes, valid, distance, external = optional
            scores: Tensor = self(
                luma[None], reference[None], motion, grid, nbytes, valid,
                distance=distance, scale=scale, nbytes_scale=nbytes_scale, external=external,
            )  # fmt: skip
            return scores[0]
        valid = check_pictures(luma, reference, motion, grid, valid)
        if self.normalize == "clip" and scale is None:
            raise ValueError("normalize='clip' needs scale=(pixels, gray levels); get it from scales(...)")
        if nbytes is None and (self.bit_cost_weight or self.normalize == "bytes"):
            raise ValueError("bit_cost_weight needs nbytes, the size of each frame's packet")
        if self.normalize == "bytes" and nbytes is not None:
            scores = ByteShareSaliency(self.sampling)(luma, reference, motion, grid, nbytes, valid)
        else:
            magnitude, residual = self._signals(luma, reference, motion, valid, distance)
            if scale is None:
                scale = self._scales(magnitude, residual, valid, self.normalize == "frame")
            else:
                scale = scale.to(luma.device, torch.float32).view(-1, 1, 2).expand(*valid.shape, 2)
            scores = self._block_scores(magnitude, residual, scale.expand(*valid.shape, 2), grid)
        scores = scores * valid[..., None, None]
        if external is not None:
            known = ~external.isnan().flatten(2).any(2)
            own = cell_sums(external.float().nan_to_num(nan=0.0), (luma.shape[2], luma.shape[3]), grid)
            scores = torch.where(known[..., None, None], own, scores)
        if self.bit_cost_weight and nbytes is not None:
            spent = nbytes.to(scores)
            if nbytes_scale is None:
                nbytes_scale = percentile(spent, 99.0, valid)[:, None].clamp(min=1.0)
            scores = scores * (1 + self.bit_cost_weight * spent / nbytes_scale)[..., None, None]
        return scores

    @property
    def needs_whole_clip(self) -> bool:
        """Scores are scaled over the clip, so no group can be scored before all are decoded."""
        return self.normalize == "clip"

    def of_signals(self, signals: FrameSignals, motion: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """As `forward`, of collected signals with the motion that is to count; ``"clip"`` scales over them all."""
        pictures = (signals.luma, signals.reference, motion)
        scale = None
        if self.needs_whole_clip:
            scale = self.scales(*pictures, signals.valid, distance=signals.distance)
        scores: Tensor = self(*pictures, grid, signals.nbytes, signals.valid, distance=signals.distance, scale=scale)
        return scores

    def scales(
        self,
        luma: Tensor,
        reference: Tensor,
        motion: Tensor | None,
        valid: Tensor | None = None,
        *,
        distance: Tensor | None = None,
    ) -> Tensor:
        """(2,) pixels and gray levels that map to 1: the percentiles over all valid frames of the call.

        Take them from a sample of a clip and pass them to `forward` as `scale`, to measure all of
        it by one measure. Arguments as there.
        """
        optional = (None if x is None else x[None] for x in (motion, valid, distance))
        motion, valid, distance = optional
        known = check_pictures(luma[None], reference[None], motion, (1, 1), valid)
        magnitude, residual = self._signals(luma[None], reference[None], motion, known, distance)
        return self._scales(magnitude, residual, known, False)[0, 0]

    def _signals(
        self, luma: Tensor, reference: Tensor, motion: Tensor | None, valid: Tensor, distance: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """(B, T, gh, gw) float32 pixels of motion, 0 in holes, and (B, T, h, w) uint8 gray levels of residual."""
        residual = residuals(luma, reference, motion, valid, self.sampling)
        if motion is None:
            return None, residual
        if distance is not None:
            motion = motion / distance.to(motion).clamp(min=1e-6)[..., None, None, None]
        own = remove_global_motion(motion, self.compensation)
        magnitude = torch.hypot(own[..., 0], own[..., 1]).nan_to_num_(nan=0.0, posinf=0.0)
        return magnitude * valid[..., None, None], residual

    def _scales(self, magnitude: Tensor | None, residual: Tensor, valid: Tensor, per_frame: bool) -> Tensor:
        """(B, T or 1, 2) float32 scales of motion and residual."""
        gray = _uint8_percentile(residual.flatten(2), valid, self.q, per_frame).clamp(min=_LEAST_RESIDUAL)
        if magnitude is None:
            pixels = torch.ones_like(gray)
        elif per_frame:
            pixels = percentile(magnitude.flatten(2), self.q)
        else:
            cells = magnitude.shape[2] * magnitude.shape[3]
            counted = None if bool(valid.all()) and not valid.is_cuda else valid.repeat_interleave(cells, 1)
            pixels = percentile(magnitude.flatten(1), self.q, counted)[:, None]
        return torch.stack([pixels.clamp(min=_LEAST_MOTION), gray], dim=2)

    def _block_scores(self, magnitude: Tensor | None, residual: Tensor, scale: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, T, hb, wb) float32 sums of the fused maps."""
        height, width = residual.shape[2:]
        full = scale[..., 1, None, None]
        if magnitude is None:
            return clipped_sums(residual, full, grid)
        motion = (magnitude / scale[..., 0, None, None]).clamp_(max=1)
        if self.fusion == "mean":
            sums = cell_sums(motion, (height, width), grid)
            return fuse(sums, clipped_sums(residual, full, grid), "mean", self.weights)
        both = fuse(upsample(motion, height, width), (residual / full).clamp_(max=1), self.fusion, self.weights)
        return sum_blocks(both, grid)


def _uint8_percentile(values: Tensor, valid: Tensor, q: float, per_frame: bool) -> Tensor:
    """(B, T, N) uint8 -> (B, T) or (B, 1) float32 percentiles over valid frames, linear between ranks.

    By counting levels, so exact; values of frames that are not valid must be 0.
    """
    batch, frames, size = values.shape
    rows = values.reshape(batch * frames, size) if per_frame else values.reshape(batch, frames * size)
    levels = count_levels(rows)
    count = torch.full_like(levels[:, :1], size) if per_frame else valid.sum(1, keepdim=True) * size
    if levels.device.type == "cpu" and uses_kernels():
        from ov2kit.codec.compiled.percentiles import level_percentiles

        grays = torch.empty(len(levels))
        level_percentiles(levels.numpy(), count[:, 0].contiguous().numpy(), q / 100, grays.numpy())
        return grays.view(batch, -1)
    levels[:, 0] -= rows.shape[1] - count[:, 0]
    below = levels.cumsum(1)
    rank = (count - 1).clamp(min=0).double() * (q / 100)
    lower, upper = rank.floor().long(), (rank.floor().long() + 1).minimum((count - 1).clamp(min=0))
    low = (below <= lower).sum(1, keepdim=True).clamp(max=255).double()
    high = (below <= upper).sum(1, keepdim=True).clamp(max=255).double()
    found = torch.where(count > 0, low + (high - low) * (rank - rank.floor()), 0.0)
    return found.float().view(batch, -1)
