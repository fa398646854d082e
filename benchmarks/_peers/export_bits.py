"""Bits spent on each macroblock of a clip's first frames, from codec-video-prep's patched decoder.

Run by the Python of that package's environment: `python export_bits.py CLIP OUT.npz FRAMES`. Writes
bits (T, rows, cols) int32 on 16-pixel macroblocks, frame (T,) int64 decoded index, type (T,) one
letter each, size (2,) displayed height and width.
"""

import sys

import numpy as np
from codec_video_prep import cv_reader_fast


def main() -> None:
    clip, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    frames = cv_reader_fast.read_video_fast_selected(clip, list(range(count)), export_bitcost=1, thread_type="slice")
    known = [f for f in frames if f["codec_name"] == "h264" and (f.get("bitcost") or {}).get("mb_bit_cost") is not None]
    if not known:
        raise SystemExit(f"no macroblock bits in {clip} ({frames[0]['codec_name'] if frames else 'no frame'})")
    rows, cols = -(-known[0]["height"] // 16), -(-known[0]["width"] // 16)
    # the decoder's table has one column more than the picture
    bits = np.stack([f["bitcost"]["mb_bit_cost"][:rows, :cols] for f in known])
    np.savez(
        out,
        bits=bits.astype(np.int32),
        frame=np.array([f["frame_idx"] for f in known]),
        type=np.array([f["pict_type"] for f in known]),
        size=np.array([known[0]["height"], known[0]["width"]]),
    )


if __name__ == "__main__":
    main()
