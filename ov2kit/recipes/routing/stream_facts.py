"""What a stream says of itself before any picture is looked at: packets, and the vectors of a few frames."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.signals.motion_grid import rasterize_frames
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.frame import Frame

_BIN_SECONDS = 0.5
_SAMPLES = 12  # frames whose vectors are looked at
_MOVES = 0.5  # pixels per frame from which on a place moves
_SPIKE = 4.0  # times the bytes of the frames around


@dataclass(frozen=True)
class StreamFacts:
    """Numbers of one stream.

    Args:
        seconds: length.
        bits_per_pixel: median over the frames that are no keyframes.
        dynamics: bit cost of the half second at the 95th percentile, over that of the median one; 1 is steady.
        noise: bit cost of the half second at the 10th percentile, over the mean; near 1, something costs all the time.
        cuts: pictures that begin anew: keyframes out of step, and frames that cost several times what those around
            them do.
        motion_share: share of the picture that moves in the median of the frames looked at; None without vectors.
        camera: the same, of the shift that most places share: median length of vectors in pixels per frame.
    """

    seconds: float
    bits_per_pixel: float
    dynamics: float
    noise: float
    cuts: int
    motion_share: float | None
    camera: float | None

    def plain(self) -> dict[str, Any]:
        """Rounded, as provenance has them."""
        return {name: value if value is None else round(value, 4) for name, value in asdict(self).items()}


def stream_facts(stream: VideoStream) -> StreamFacts:
    """Facts of a stream.

    Args:
        stream: its packets are known already; a few frames are decoded for their vectors, and none is scaled.

    Raises:
        VideoError: not one of these frames can be decoded.
    """
    table = stream.packets
    nbytes = table.display("nbytes").astype(np.float64)
    is_entry = table.display("is_entry").astype(bool)
    others = nbytes[~is_entry] if (~is_entry).any() else nbytes
    height, width = stream.info.coded_size
    flat = np.where(is_entry, float(np.median(others)), nbytes)  # a keyframe's bytes only tell where it is
    bins = (table.frame_seconds / _BIN_SECONDS).astype(int)
    frames = np.bincount(bins)
    cost = np.bincount(bins, weights=flat)[frames > 0] / frames[frames > 0]  # a frame of each half second
    motion = _motion(stream)
    return StreamFacts(
        seconds=stream.duration_seconds,
        bits_per_pixel=8 * float(np.median(others)) / (height * width),
        dynamics=float(np.percentile(cost, 95) / max(float(np.median(cost)), 1.0)),
        noise=float(np.percentile(cost, 10) / max(float(cost.mean()), 1.0)),
        cuts=_cuts(nbytes, is_entry),
        motion_share=None if motion is None else motion[0],
        camera=None if motion is None else motion[1],
    )


def _cuts(nbytes: NDArray[np.float64], is_entry: NDArray[np.bool_]) -> int:
    """Keyframes that come before they are due, and other frames that cost several times their neighbors."""
    keys = np.flatnonzero(is_entry)
    gaps = np.diff(keys)
    early = int((gaps < 0.95 * gaps.max()).sum()) if len(gaps) > 1 else 0
    around = np.lib.stride_tricks.sliding_window_view(np.pad(np.where(is_entry, 0, nbytes), 8, mode="reflect"), 17) \
        if len(nbytes) > 8 else nbytes[:, None]  # fmt: skip
    usual = np.percentile(around, 90, axis=1)
    spikes = (nbytes > _SPIKE * np.maximum(usual, 1)) & ~is_entry
    return early + int((np.diff(np.flatnonzero(spikes), prepend=-100) > 1).sum())


def _motion(stream: VideoStream) -> tuple[float, float] | None:
    """Medians over a few frames: share of the picture that moves, and the length of the median vector."""
    if not stream.info.exports_motion:
        return None
    wanted = np.linspace(0, stream.num_frames - 1, min(_SAMPLES, stream.num_frames)).round().astype(int)
    shares, lengths = [], []
    for frame in stream.frames(sorted(set(wanted.tolist())), rgb=False, motion=True):
        found = _moves(frame)
        if found is not None:
            shares.append(found[0])
            lengths.append(found[1])
    return (float(np.median(shares)), float(np.median(lengths))) if shares else None


def _moves(frame: Frame) -> tuple[float, float] | None:
    if frame.motion is None or not len(frame.motion):
        return None
    field = rasterize_frames([frame.motion], frame.coded_size).numpy()[0]
    distance = max(1, frame.index - frame.reference_index) if frame.reference_index >= 0 else 1
    known = ~np.isnan(field[..., 0])
    length = np.hypot(field[known][:, 0], field[known][:, 1]) / distance
    share = float((length > _MOVES).sum()) / known.size
    return share, float(np.median(length)) if len(length) else 0.0
