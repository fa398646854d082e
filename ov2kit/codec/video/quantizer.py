"""The quantizer that the decoder used on each macroblock, which stock FFmpeg tells for H.264.

Source: AVVideoEncParams of libavutil/video_enc_params.h: blocks, offset and size of a block's
record, kind and base quantizer of the frame; then x, y, width, height and the difference to the
base for each block.
"""

from typing import Any

import numpy as np

from ov2kit.codec.video.side_data import side_data

_HEADER = np.dtype([("blocks", "u4"), ("offset", "u8"), ("size", "u8"), ("kind", "i4"), ("base", "i4")], align=True)
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
    if len(raw) < _HEADER.itemsize:
        return None
    header = raw[: _HEADER.itemsize].view(_HEADER)[0]
    rows, cols = -(-frame.height // 16), -(-frame.width // 16)
    count, offset = int(header["blocks"]), int(header["offset"])
    known = header["kind"] == _H264 and header["size"] == 4 * _BLOCK_WORDS and count == rows * cols
    if not known or len(raw) < offset + 4 * _BLOCK_WORDS * count:
        return None
    blocks = np.frombuffer(data, dtype=np.int32, count=count * _BLOCK_WORDS, offset=offset).reshape(count, -1)
    level: np.ndarray = (int(header["base"]) + blocks[:, 4]).reshape(rows, cols)
    return level.clip(-128, 127).astype(np.int8)
