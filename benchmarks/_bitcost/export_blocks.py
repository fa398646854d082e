"""Bits spent on each 16-pixel block of a clip's first frames, from codec-video-prep's patched decoder.

Run by the Python of that package's environment: `python export_blocks.py CLIP OUT.npz FRAMES`. H.264 gives
macroblocks. HEVC and VP9 give coding units spread evenly over 4-pixel cells, which are summed here. Writes
bits (T, rows, cols) float32, frame (T,) int64 decoded index, type (T,) one letter each, size (2,) height and
width, codec.
"""

import sys

import numpy as np
from codec_video_prep import cv_reader_fast


def blocks(frame: dict, rows: int, cols: int) -> np.ndarray | None:
    told = frame.get("bitcost") or {}
    if (macroblocks := told.get("mb_bit_cost")) is not None:
        return macroblocks[:rows, :cols].astype(np.float32)  # the decoder's table has one column more than the picture
    if (cells := told.get("sub_mb_bit_cost")) is None:
        return None
    whole = np.zeros((4 * rows, 4 * cols), dtype=np.float64)
    inside = cells[: 4 * rows, : 4 * cols]
    whole[: inside.shape[0], : inside.shape[1]] = inside
    return whole.reshape(rows, 4, cols, 4).sum((1, 3)).astype(np.float32)


def main() -> None:
    clip, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    frames = cv_reader_fast.read_video_fast_selected(clip, list(range(count)), export_bitcost=1, thread_type="slice")
    if not frames or not frames[0]["width"]:
        raise SystemExit(f"no frame of {clip}")
    rows, cols = -(-frames[0]["height"] // 16), -(-frames[0]["width"] // 16)
    found = [(f, blocks(f, rows, cols)) for f in frames]
    known = [(f, bits) for f, bits in found if bits is not None]
    if not known:
        raise SystemExit(f"no block bits in {clip} ({frames[0]['codec_name']})")
    np.savez(
        out,
        bits=np.stack([bits for _, bits in known]),
        frame=np.array([f["frame_idx"] for f, _ in known]),
        type=np.array([f["pict_type"] for f, _ in known]),
        size=np.array([frames[0]["height"], frames[0]["width"]]),
        codec=frames[0]["codec_name"],
    )


if __name__ == "__main__":
    main()
