"""Packets -> energy: how much the encoder spent per stretch of time, without decoding anything.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2); the bins and their smoothing as in the
released codec front end. Letters: T packets or frames, B bins, G groups.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.errors import VideoError, check_choice, check_number

Cost = Literal["bytes", "log1p"]
_MOST_BINS = 1 << 20  # six days in half seconds: more than that is a broken clock, not a video
_LONE_FRAME_SECONDS = 0.04
_LEAST_GAP_SECONDS = 1e-4


def bin_energy(
    times: Tensor,
    nbytes: Tensor,
    is_key: Tensor,
    *,
    bin_seconds: float = 0.5,
    smooth_bins: int = 1,
    cost: Cost = "bytes",
    start_seconds: float | None = None,
) -> Tensor:
    """Sum what the non-key packets cost in each bin of time, then smooth.

    Bytes of key packets would only tell where the keyframes are, so they are left out; their times
    still count for the number of bins. Bin i covers
    ``[start + i * bin_seconds, start + (i + 1) * bin_seconds)``.

    Args:
        times: (T,) presentation times in seconds, any order; packets with NaN times are skipped.
        nbytes: (T,) packet sizes in bytes; NaN and negative sizes are skipped.
        is_key: (T,) bool.
        bin_seconds: width of a bin.
        smooth_bins: radius of the moving average, in bins; the window is cut short at both ends.
        cost: ``"bytes"`` (paper) or ``"log1p"``, the sum of log(1 + bytes) of the released tool.
        start_seconds: where bin 0 begins, the first time when omitted; earlier packets are skipped.

    Returns:
        (B,) float64 on the host; all zero when there is no packet but key packets.

    Raises:
        VideoError: no packet with a time is left, or the times span more than a million bins.
        ValueError: `bin_seconds`, `smooth_bins` or `cost` is out of range, or lengths differ.
    """
    check_number("bin_seconds", bin_seconds, above=0)
    check_number("smooth_bins", smooth_bins, low=0, integer=True)
    check_choice("cost", cost, get_args(Cost))
    times, nbytes, is_key = sort_packets(times, nbytes, is_key)
    start = float(times[0]) if start_seconds is None else start_seconds
    count = math.floor((float(times[-1]) - start) / bin_seconds) + 1
    if count < 1:
        raise VideoError(f"every packet lies before start_seconds={start}; the last is at {float(times[-1])} s")
    if count > _MOST_BINS:
        raise VideoError(
            f"packets span {float(times[-1]) - start:.0f} s, which is {count} bins of {bin_seconds} s; "
            "repair the time stamps or use wider bins"
        )
    counted = ~is_key & (nbytes >= 0) & (times >= start)
    spent = nbytes[counted].log1p() if cost == "log1p" else nbytes[counted]
    bins = ((times[counted] - start) / bin_seconds).floor().long().clamp_(0, count - 1)
    energy = torch.zeros(count, dtype=torch.float64).index_add_(0, bins, spent)
    return smooth_energy(energy, smooth_bins)


def smooth_energy(energy: Tensor, radius: int) -> Tensor:
    """Mean over the neighbors within `radius` bins; (B,) -> (B,), windows cut short at the ends."""
    if radius == 0 or len(energy) < 2:
        return energy
    radius = min(radius, len(energy) - 1)
    return F.avg_pool1d(energy[None], 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)[0]


def sort_packets(times: Tensor, nbytes: Tensor, is_key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bring packets to the host, drop those without a time, sort the rest by time (stable).

    Returns:
        (T',) float64 seconds, (T',) float64 bytes (NaN for unknown becomes -1), (T',) bool.

    Raises:
        ValueError: not three vectors of one length.
        VideoError: no packet has a time.
    """
    if times.ndim != 1 or times.shape != nbytes.shape or times.shape != is_key.shape:
        raise ValueError(
            "times, nbytes and is_key must be vectors of one length; "
            f"got {tuple(times.shape)}, {tuple(nbytes.shape)}, {tuple(is_key.shape)}"
        )
    seconds = times.detach().to("cpu", torch.float64)
    known = seconds.isfinite()
    seconds, order = seconds[known].sort(stable=True)
    if len(seconds) == 0:
        raise VideoError(f"grouping needs at least one packet with a time, got {len(times)} packets and no time")
    size = nbytes.detach().to("cpu", torch.float64).nan_to_num(nan=-1.0, posinf=-1.0, neginf=-1.0)
    return seconds, size[known][order], is_key.detach().to("cpu", torch.bool)[known][order]


def covered_span(times: Tensor) -> tuple[float, float]:
    """Start and end of sorted (T,) times in seconds: the last frame lasts as long as the median gap."""
    return float(times[0]), float(times[-1]) + frame_gap(times)


def frame_gap(times: Tensor) -> float:
    """Median gap between sorted (T,) times, in seconds; gaps under 0.1 ms do not count, 0.04 where none does."""
    gaps = times.diff()
    gaps = gaps[gaps > _LEAST_GAP_SECONDS]
    return float(gaps.median()) if len(gaps) else _LONE_FRAME_SECONDS
