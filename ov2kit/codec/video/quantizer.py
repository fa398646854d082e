"""The quantizer that the decoder used on each macroblock, which stock FFmpeg tells for H.264.

Source: AVVideoEncParams of libavutil/video_enc_params.h: blocks, offset and size of a block's
record, kind and base quantizer of the frame; then x, y, width, height and the difference to the
base for each block.
"""

import struct
from typing import Any

import numpy as np

from ov2kit.codec.video.side_data import side_data

_HEADER = struct.Struct("@I4xQQii")  # blocks, offset, size, kind, base, as C aligns them
_BLOCK_WORDS = 5
_H264 = 1  # AV_VIDEO_ENC_PARAMS_H264: 0 to 51, six steps double the step size


def quantizer_map(frame: Any) -> np.ndarray | None:
    """(rows, cols) int8 quantizer of each 16-pixel macroblock of a PyAV frame, as coded.

    None where the frame does not tell it: other codecs, or `export_side_data` was not asked for.
    A macroblock without coefficients repeats the quantizer of the one before it, in raster order.
    """
    data = side_data(frame, "VIDEO_ENC_PARAMS")
    if data is None:
        return None
    raw = np.frombuffer(data, dtype=np.uint8)
    words = raw[: len(raw) // 4 * 4].view(np.int32)
    if words.nbytes < _HEADER.size:
        return None
    count, offset, size, kind, base = _HEADER.unpack_from(data)
    rows, cols = -(-frame.height // 16), -(-frame.width // 16)
    known = kind == _H264 and size == 4 * _BLOCK_WORDS and count == rows * cols and offset % 4 == 0
    if not known or words.nbytes < offset + 4 * _BLOCK_WORDS * count:
        return None
    changes: np.ndarray = words[offset // 4 + 4 :: _BLOCK_WORDS][:count]
    level: np.ndarray = changes + base
    return level.astype(np.int8).reshape(rows, cols)  # libavcodec has them as int8 as well
