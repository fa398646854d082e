"""Which blocks the released front end chose, group by group.

Run by the Python of codec-video-prep's environment: `python released_choice.py CLIP OUT.npz FRAMES`. Writes, for
each group g, frames_g (n,) sampled frames and blocks_g (m, 3) frame, row and column of the blocks on its
P-canvases; grid (2,) blocks per column and row, and size (2,) of the canvas before padding.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from codec_video_prep import run_preinfer


def main() -> None:
    clip, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        made = run_preinfer(clip, folder, num_sampled_frames=count, decode_backend="cv_reader_pixels")
        patches = np.load(Path(folder) / "src_patch_position.npy").astype(np.int64)
    facts = made.summary
    if facts["score_source"] != "bitcost":
        raise SystemExit(f"{clip} was scored by {facts['score_source']}")
    (rows, cols), block, images = facts["hb_wb"], int(facts["block_size"]), int(facts["images_per_group"])
    patches = patches.reshape(-1, images, rows * cols, 3)
    found = {"grid": np.array([rows // block, cols // block]), "size": np.array(facts["resize_hw"])}
    for number, group in enumerate(facts["groups"]):
        chosen = patches[number, 1:].reshape(-1, 3)
        found[f"frames_{number}"] = np.array(group["frame_ids"])
        found[f"blocks_{number}"] = np.unique(chosen[chosen[:, 0] >= 0] // np.array([1, block, block]), axis=0)
    np.savez(out, **found)


if __name__ == "__main__":
    main()
