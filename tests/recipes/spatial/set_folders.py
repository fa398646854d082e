"""Small folders in the layouts of the public sets, all of the same two objects."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ov2kit.recipes.spatial.rle import encode_mask

SIZE, FRAMES = (24, 32), 4


def masks() -> np.ndarray:
    """(2, T, H, W) bool: two squares that move; the second one hides on the last frame."""
    found = np.zeros((2, FRAMES, *SIZE), dtype=bool)
    for t in range(FRAMES):
        found[0, t, 2:10, 2 + t : 10 + t] = True
        if t < FRAMES - 1:
            found[1, t, 14:22, 20 - t : 28 - t] = True
    return found


def pictures() -> np.ndarray:
    """(T, H, W, 3) uint8: a red and a blue square on gray."""
    found = np.full((FRAMES, *SIZE, 3), 100, dtype=np.uint8)
    for k, color in enumerate([(220, 40, 40), (40, 60, 220)]):
        found[masks()[k]] = color
    return found


def _jpegs(folder: Path) -> None:
    folder.mkdir(parents=True)
    for t, picture in enumerate(pictures()):
        Image.fromarray(picture).save(folder / f"{t:05d}.jpg", quality=95)


def _palette(folder: Path, ids=(1, 2)) -> None:
    folder.mkdir(parents=True)
    for t in range(FRAMES):
        labels = np.zeros(SIZE, dtype=np.uint8)
        for k, number in enumerate(ids):
            labels[masks()[k, t]] = number
        image = Image.fromarray(labels, mode=None)
        image = image.convert("L")
        image.putpalette([0, 0, 0, 250, 5, 5, 5, 5, 250, 9, 200, 9])
        image.save(folder / f"{t:05d}.png")


def _names() -> list[str]:
    return [f"{t:05d}" for t in range(FRAMES)]


def _rle(k: int) -> list:
    return [encode_mask(m) if m.any() else None for m in masks()[k]]


def _write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def ref_youtube_vos(root: Path) -> Path:
    """Also Ref-DAVIS17 in the form that most code expects."""
    expressions = {"0": {"exp": "the red one", "obj_id": "1"}, "1": {"exp": "the blue one", "obj_id": "2"}}
    _write(root / "meta_expressions" / "valid" / "meta_expressions.json",
           {"videos": {"clip": {"expressions": expressions, "frames": _names()}}})  # fmt: skip
    _jpegs(root / "valid" / "JPEGImages" / "clip")
    _palette(root / "valid" / "Annotations" / "clip")
    return root


def ref_davis_text(root: Path) -> Path:
    """As it was released: a text file beside DAVIS."""
    (root / "davis_text_annotations").mkdir(parents=True)
    (root / "davis_text_annotations" / "Davis17_annot1.txt").write_text(
        'clip 1 "the red one"\nclip 2 "the blue one"\nnot-here 1 "a dog"\n'
    )
    _jpegs(root / "DAVIS" / "JPEGImages" / "480p" / "clip")
    _palette(root / "DAVIS" / "Annotations" / "480p" / "clip")
    return root


def mevis(root: Path) -> Path:
    """Expressions with several objects, run lengths by annotation."""
    expressions = {
        "0": {"exp": "the red one", "obj_id": [0], "anno_id": [7]},
        "1": {"exp": "both", "obj_id": [0, 1], "anno_id": [7, 9]},
    }
    _write(root / "valid_u" / "meta_expressions.json",
           {"videos": {"clip": {"vid_id": 0, "expressions": expressions, "frames": _names()}}})  # fmt: skip
    _write(root / "valid_u" / "mask_dict.json", {"7": _rle(0), "9": _rle(1)})
    _jpegs(root / "valid_u" / "JPEGImages" / "clip")
    return root


def revos(root: Path) -> Path:
    """Referring and reasoning expressions."""
    expressions = {
        "0": {"exp": "the red one", "obj_id": [0], "anno_id": [7], "type_id": 0},
        "1": {"exp": "what would stop a car?", "obj_id": [1], "anno_id": [9], "type_id": 1},
    }
    _write(root / "meta_expressions_valid_.json",
           {"videos": {"a/clip": {"vid_id": 0, "height": SIZE[0], "width": SIZE[1], "expressions": expressions,
                                  "frames": _names()}}})  # fmt: skip
    _write(root / "mask_dict.json", {"7": _rle(0), "9": _rle(1)})
    _jpegs(root / "JPEGImages" / "a" / "clip")
    return root


def reasonvos(root: Path) -> Path:
    """Black and white masks in a folder per source, video and object."""
    expressions = {
        "0": {"exp_text": "what would stop a car?", "obj_id": 1, "exp_id": 0},
        "1": {"exp_text": "the blue one", "obj_id": 2, "exp_id": 1},
    }
    facts = {"source": "MOSE", "is_sent": "1", "expressions": expressions, "frames": _names()}
    _write(root / "meta_expressions.json", {"videos": {"clip": facts}})
    _jpegs(root / "JPEGImages" / "clip")
    for k in range(2):
        folder = root / "Annotations" / f"MOSE_clip_{k + 1}"
        folder.mkdir(parents=True)
        for t in range(FRAMES):
            Image.fromarray(masks()[k, t].astype(np.uint8) * 255).save(folder / f"{t:05d}.png")
    return root
