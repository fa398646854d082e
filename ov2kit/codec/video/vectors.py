"""Motion vectors as the decoder exports them with a picture.

Source: AVMotionVector of libavutil/motion_vector.h.
"""

from typing import Any

import numpy as np

from ov2kit.codec.video.side_data import side_data

# Decoders of stock FFmpeg that export motion vectors; the others silently give none.
MOTION_CODECS = frozenset(
    {"h264", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "h263", "flv"}
)
VECTOR = np.dtype(
    [
        ("source", "i4"), ("w", "u1"), ("h", "u1"), ("src_x", "i2"), ("src_y", "i2"), ("dst_x", "i2"),
        ("dst_y", "i2"), ("flags", "u8"), ("motion_x", "i4"), ("motion_y", "i4"), ("motion_scale", "u2"),
    ],
    align=True,
)  # fmt: skip


def motion_vectors(frame: Any, *, keep: bool = False) -> np.ndarray | None:
    """(N,) records `VECTOR` of a PyAV frame, None where it has none.

    A copy, unless the picture is kept anyway: PyAV's own array would keep it alive.
    """
    data = side_data(frame, "MOTION_VECTORS")
    if data is None:
        return None
    # Copied as bytes: numpy copies an array of records with gaps field by field.
    return np.frombuffer(data if keep else np.frombuffer(data, np.uint8).copy(), VECTOR)
