"""Shards of `ov2kit dataset`, read with webdataset: canvases and positions of one video after the other.

pip install webdataset
python examples/webdataset_shards.py 'tokens/shards/shard-{000000..000003}.tar'
"""

import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import webdataset
from PIL import Image


def videos(shards: str | list[str], shuffle: int = 0) -> Iterator[dict[str, Any]]:
    """Samples of shards made with `--images png`, as they come.

    Args:
        shards: paths, or one with braces.
        shuffle: samples in the buffer that they are drawn from, with shards in random order; 0 keeps their order.

    Yields:
        key: name of the sample, as in the column `sample` of manifest.parquet.
        canvases: (K, H, W, 3) uint8, RGB.
        positions: (patches, 3) int32, frame, row and column of each patch of the canvases in turn; -1 is padding.
    """
    found = webdataset.WebDataset(shards, shardshuffle=100 if shuffle else False)
    for sample in found.shuffle(shuffle) if shuffle else found:
        names = sorted(name for name in sample if name.startswith("canvas_"))
        canvases = [np.asarray(Image.open(io.BytesIO(sample[name])).convert("RGB")) for name in names]
        positions = np.load(io.BytesIO(sample["src_patch_position.npy"]), allow_pickle=False)
        yield {"key": sample["__key__"], "canvases": np.stack(canvases), "positions": positions}


if __name__ == "__main__":
    for video in videos(sys.argv[1]):
        print(video["key"], video["canvases"].shape, video["positions"].shape)
