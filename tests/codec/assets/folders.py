"""Directories of canvases for the tests of assets: ours, and such as public tools leave behind."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ov2kit import Canvases


def make_canvases(patch=4, merge=2, signal="motion+residual", **options) -> Canvases:
    """Two groups of (anchor, P) on a 4 x 6 patch grid; the last P is half padding; times are uneven."""
    h, w = 4, 6
    grid = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1)
    positions = np.full((4, h, w, 3), -1, np.int32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, h * patch, w * patch), dtype=np.uint8)
    for k, frame in ((0, 3), (2, 20)):
        positions[k, ..., 0], positions[k, ..., 1:] = frame, grid
    for k, frame, blocks in ((1, 5, 6), (3, 24, 3)):
        for slot in range(blocks):
            row, col = 2 * (slot // 3), 2 * (slot % 3)
            source = (slot + 1) % 6 if blocks < 6 else slot
            cell = positions[k, row : row + 2, col : col + 2]
            cell[..., 0] = frame + (slot > 1)
            cell[..., 1:] = grid[:2, :2] + [2 * (source // 3), 2 * (source % 3)]
    images[:, 0][np.repeat(np.repeat(positions[..., 0] < 0, patch, 1), patch, 2)] = 0
    images[:, 1:] *= np.repeat(np.repeat(positions[..., 0] >= 0, patch, 1), patch, 2)[:, None]
    times = {3: 0.11, 5: 0.2, 6: 0.31, 20: 1.5, 24: 1.75, 25: 1.9, 30: 2.5}
    settings = {"fps": 12.5, "provenance": {"preset": "paper", "signal": signal, "seconds": {"decode": 0.1}}}
    return Canvases(
        torch.from_numpy(images),
        torch.from_numpy(positions),
        torch.tensor([0, 0, 1, 1], dtype=torch.int32),
        torch.tensor([True, False, True, False]),
        times,
        patch=patch,
        merge=merge,
        signal=signal,
        **(settings | options),
    ).validate()


def write_public(folder: Path, rgb, positions, meta, *, frame_ids=None, suffix="png", done=True) -> Path:
    """What a public tool leaves behind: canvases, positions, frame ids, meta.json and (one of them) _DONE."""
    folder.mkdir(parents=True)
    names = [f"canvas_{i:03d}.{suffix}" for i in range(len(rgb))]
    for name, picture in zip(names, rgb, strict=True):
        if suffix == "npy":
            np.save(folder / name, picture)
        else:
            Image.fromarray(picture).save(folder / name)
    np.save(folder / "src_patch_position.npy", positions)
    if frame_ids is not None:
        np.save(folder / "frame_ids.npy", np.asarray(frame_ids, np.int32))
    (folder / "meta.json").write_text(json.dumps({"fps": 25.0, "canvas_files": names} | meta))
    if done:
        (folder / "_DONE").write_text("ok\n")
    return folder


def public_reader(folder: Path):
    """The steps of the public reader, from its described behavior: pictures, positions, seconds of each frame."""
    meta = json.loads((folder / "meta.json").read_text())
    pictures = [
        np.load(folder / name) if name.endswith(".npy") else np.asarray(Image.open(folder / name).convert("RGB"))
        for name in meta["canvas_files"]
    ]
    positions = np.load(folder / "src_patch_position.npy")
    assert positions.dtype == np.int32
    assert len(positions) % len(pictures) == 0
    return np.stack(pictures), positions, float(meta.get("fps") or 30.0)


def edit_meta(folder: Path, **changes) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    for key, value in changes.items():
        if value is None:
            meta.pop(key, None)
        else:
            meta[key] = value
    (folder / "meta.json").write_text(json.dumps(meta))
