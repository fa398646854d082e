"""What a `VideoStream` gives: frames, facts of the stream, and what was lost."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.pictures import HeldPicture

FrameKind = Literal["I", "P", "B", "?"]


@dataclass(frozen=True)
class StreamInfo:
    """What is known of the chosen video stream.

    Args:
        codec: FFmpeg's name of the codec, such as "h264".
        container: FFmpeg's name of the container format.
        stream_index: index of the stream within the file.
        coded_size: (height, width) in pixels of the first decoded frame.
        display_size: (height, width) in square pixels as a player shows it: turned, and with the
            sample aspect ratio applied to the width.
        orientation: quarter turns and mirrors from coded to shown.
        sample_aspect_ratio: width of a pixel over its height.
        pix_fmt: FFmpeg's pixel format of the first frame.
        interlaced: whether the first frame is interlaced.
        exports_motion: whether this decoder gives motion vectors at all.
        start_seconds: time stamp of the first shown frame, in seconds; all other times count from
            it.
        delay_seconds: from the start of the file, where its earliest stream begins, to the first
            shown frame; what a time of the file (a subtitle) is ahead of one of the picture.
        header_seconds: duration the header claims for the picture, None if it claims none. A hint,
            often wrong.
    """

    codec: str
    container: str
    stream_index: int
    coded_size: tuple[int, int]
    display_size: tuple[int, int]
    orientation: Orientation
    sample_aspect_ratio: float
    pix_fmt: str
    interlaced: bool
    exports_motion: bool
    start_seconds: float
    delay_seconds: float
    header_seconds: float | None


@dataclass(frozen=True)
class Frame:
    """One decoded frame, its pictures as shown (turned, mirrored, square pixels) unless luma was asked for as coded.

    Args:
        index: position in display order, from 0.
        seconds: presentation time, counted from the first shown frame.
        kind: how the codec predicted it; "?" where the decoder does not say.
        is_key: the decoder calls it a key frame.
        nbytes: size in bytes of all its packets: both fields, and hidden pictures that come before it.
        rgb: (3, H, W) uint8, None unless asked for.
        luma: (h, w) uint8, None unless asked for.
        reference: (h, w) uint8 luma of the frame it is compared with (the last I or P frame shown
            before it), None unless asked for and there.
        reference_index: index of that frame, -1 without one.
        motion: FFmpeg's motion vectors as a structured array, in coded coordinates; None where
            the frame has none (intra pictures, codecs that export none).
        coded_size: (height, width) of this frame before scaling; may change within a stream.
        corrupt: the decoder concealed damage in it.
        quantizer: (rows, cols) int8 quantizer of each 16-pixel macroblock, as coded; None unless
            requested and available (H.264 only).
        picture: the picture as decoded, with its `rgb()` on demand; None unless asked for.
    """

    index: int
    seconds: float
    kind: FrameKind
    is_key: bool
    nbytes: int
    rgb: Tensor | None
    luma: Tensor | None
    reference: Tensor | None
    reference_index: int
    motion: np.ndarray | None
    coded_size: tuple[int, int]
    corrupt: bool
    quantizer: np.ndarray | None = None
    picture: HeldPicture | None = None

    def __repr__(self) -> str:
        return f"Frame({self.index}, {self.seconds:.3f} s, {self.kind}, {self.nbytes} bytes)"


@dataclass(frozen=True)
class StreamLosses:
    """What a damaged or cut file could not give.

    Args:
        packets: video packets in the file.
        discarded: packets an edit list hides; not a loss.
        corrupt_packets: packets the demuxer found damaged.
        failed_packets: packets the decoder refused.
        corrupt_frames: frames with concealed damage; a lower bound, many decoders do not say.
        missing_frames: frames that were asked for and never came.
        cut: the file ends before its header says, or its last packet is incomplete.
    """

    packets: int = 0
    discarded: int = 0
    corrupt_packets: int = 0
    failed_packets: int = 0
    corrupt_frames: int = 0
    missing_frames: int = 0
    cut: bool = False

    def __bool__(self) -> bool:
        counts = (self.corrupt_packets, self.failed_packets, self.corrupt_frames, self.missing_frames)
        return self.cut or any(counts)

    def __str__(self) -> str:
        parts = [
            f"{count} {what}"
            for count, what in (
                (self.failed_packets, "packet(s) could not be decoded"),
                (self.corrupt_packets, "packet(s) damaged"),
                (self.corrupt_frames, "frame(s) with concealed damage"),
                (self.missing_frames, "frame(s) missing"),
            )
            if count
        ]
        if self.cut:
            parts.append("the file ends early")
        return ", ".join(parts) or "nothing lost"
