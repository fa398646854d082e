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
_LIKE_KEYFRAME = 0.5


@dataclass(frozen=True)
class StreamFacts:
    """Numbers of one stream.

    Args:
        seconds: length.
        bits_per_pixel: median over the frames that are no keyframes.
        dynamics: bit cost of the half second at the 95th percentile, over that of the median one; 1 is steady.
        noise: bit cost of the half second at the 10th percentile, over the mean; near 1, something costs all the time.
        cuts: pictures that begin something else: keyframes sooner than the longest distance between two, and frames
            that cost several times what those around them do. One cut may be taken for the rule.
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
    """Keyframes that come before they are due, and other frames that cost several times their neighbors.

    Due they are after the longest distance there is: encoders count from zero after each keyframe.
    """
    distances = np.diff(np.flatnonzero(is_entry))
    early = int((distances < distances.max()).sum()) if len(distances) else 0
    around = np.lib.stride_tricks.sliding_window_view(np.pad(np.where(is_entry, 0, nbytes), 8, mode="reflect"), 17) \
        if len(nbytes) > 8 else nbytes[:, None]  # fmt: skip
    usual = np.percentile(around, 90, axis=1)
    whole = _LIKE_KEYFRAME * float(np.median(nbytes[is_entry])) if is_entry.any() else 0.0  # what a picture costs
    spikes = (nbytes > np.maximum(_SPIKE * usual, whole)) & ~is_entry
    return early + int((np.diff(np.flatnonzero(spikes), prepend=-100) > 1).sum())


def _motion(stream: VideoStream) -> tuple[float, float] | None:
    """Medians over a few frames: share of the picture that moves, and the length of the median vector."""
    if not stream.info.exports_motion:
        return None
    nbytes = np.where(stream.packets.display("is_entry"), -1, stream.packets.display("nbytes"))
    parts = np.array_split(np.arange(stream.num_frames), min(_SAMPLES, stream.num_frames))
    wanted = [int(part[nbytes[part].argmax()]) for part in parts]  # most bytes: P-frames where there are any
    frames = list(stream.frames(wanted, rgb=False, motion=True))
    # what a B-frame is predicted from is known to the decoder alone, and so is how far away that was
    known = [frame for frame in frames if frame.kind == "P"] or frames
    found = [moves for frame in known if (moves := _moves(frame)) is not None]
    if not found:
        return None
    shares, lengths = zip(*found, strict=True)
    return float(np.median(shares)), float(np.median(lengths))


def _moves(frame: Frame) -> tuple[float, float] | None:
    if frame.motion is None or not len(frame.motion):
        return None
    field = rasterize_frames([frame.motion], frame.coded_size).numpy()[0]
    distance = max(1, frame.index - frame.reference_index) if frame.reference_index >= 0 else 1
    known = ~np.isnan(field[..., 0])
    length = np.hypot(field[known][:, 0], field[known][:, 1]) / distance
    share = float((length > _MOVES).sum()) / known.size
    return share, float(np.median(length)) if len(length) else 0.0
