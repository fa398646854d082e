"""Synthetic answers and masks, and what the public evaluation (lmms-eval 0.7.3, task rvos) scores them.

    python -m tests.recipes.spatial.public_evaluation    # rewrites tests/golden/rvos_public.json; needs lmms-eval

Its two files are loaded by path: the package around them would import every model that it knows.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np

from ov2kit.recipes.spatial.rle import encode_mask
from tests.paths import GOLDEN

STORED = GOLDEN / "rvos_public.json"
FPS, SIZE, FRAMES = 6.0, (72, 128), 10


def load(name: str) -> ModuleType | None:
    """`utils` or `eval_sam2` of the public task; None where it or something it needs is not installed."""
    try:
        package = importlib.util.find_spec("lmms_eval")
        if package is None or not package.submodule_search_locations:
            return None
        path = Path(next(iter(package.submodule_search_locations))) / "tasks" / "rvos" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"public_rvos_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    return module


def blob(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) bool: an ellipse somewhere."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    row, column = rng.uniform(10, size[0] - 10), rng.uniform(10, size[1] - 10)
    a, b = rng.uniform(6, 20, size=2)
    return ((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 <= 1


def masks_of(seed: int, objects: int, gone: float) -> np.ndarray:
    """(O, T, H, W) bool; a share of the masks is empty."""
    rng = np.random.default_rng((seed, 7))
    stack = [[blob(rng) if rng.random() >= gone else np.zeros(SIZE, dtype=bool) for _ in range(FRAMES)]
             for _ in range(objects)]  # fmt: skip
    return np.array(stack)


def point_case(seed: int) -> tuple[str, np.ndarray]:
    """An answer and the masks it is about: most points are near an object, ids switch, times miss frames."""
    rng = np.random.default_rng(seed)
    masks = masks_of(seed, objects=int(rng.integers(1, 4)), gone=0.0 if seed % 2 else 0.25)
    segments = []
    for frame in range(FRAMES):
        if rng.random() < 0.2:
            continue
        words = [f"{frame / FPS:.2f}"]
        for number in rng.permutation(len(masks))[: int(rng.integers(1, len(masks) + 1))]:
            rows, columns = np.nonzero(masks[number, frame])
            if len(rows) and rng.random() < 0.75:
                at = int(rng.integers(len(rows)))
                x, y = columns[at] / SIZE[1] * 1000, rows[at] / SIZE[0] * 1000
            else:
                x, y = rng.uniform(0, 1000, size=2)
            words += [str(number if rng.random() < 0.9 else 5), str(round(x)), str(round(y))]
        segments.append(" ".join(words))
    return f'<tracks coords="{"; ".join(segments)}">things</tracks>', masks


def trajectories(masks: np.ndarray) -> list[dict]:
    """True points in the public form: the pixel nearest to the centroid, every frame that shows something."""
    path = []
    for frame in range(masks.shape[1]):
        points = {}
        for number in range(len(masks)):
            rows, columns = np.nonzero(masks[number, frame])
            if len(rows):
                at = int(((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin())
                points[str(number)] = {"point": [float(columns[at]), float(rows[at])]}
        if points:
            path.append({"time": frame / FPS, "frame": frame, "points": points})
    return path


def public_points(module: ModuleType, seed: int) -> dict[str, float]:
    """Precision, recall, F1 and HOTA of a case, by the public code."""
    text, masks = point_case(seed)
    coded = {str(k): [encode_mask(m) if m.any() else None for m in own] for k, own in enumerate(masks)}
    found = module.extract_tracks(text, SIZE[1], SIZE[0], FPS)
    scores = module._evaluate_video_object_tracking(found, trajectories(masks), coded, *SIZE)
    return {"precision": scores["precision"], "recall": scores["recall"], "f1": scores["f1"], "hota": scores["HOTA"]}


def mask_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true masks (T, H, W) bool: shifted, worn, missing, or there without cause."""
    rng = np.random.default_rng((seed, 3))
    true = masks_of(seed, 2, gone=0.3).any(axis=0)
    found = np.roll(true, rng.integers(-4, 5, size=2), axis=(1, 2))
    found ^= rng.random(found.shape) < 0.01
    for frame in range(FRAMES):
        if rng.random() < 0.2:
            found[frame] = False
    return found, true


def public_masks(module: ModuleType, seed: int) -> dict[str, float]:
    """J, F, J&F and what the public code calls HOTA."""
    found, true = mask_case(seed)
    scores = module.evaluate_masks(true.astype(np.uint8), found.astype(np.uint8))
    return {"j": scores["J"], "f": scores["F"], "j&f": scores["J&F"], "public_hota": scores["HOTA"]}


def main() -> None:
    """Score all cases and store them."""
    points, masks = load("utils"), load("eval_sam2")
    stored = {
        "by": "lmms-eval 0.7.3, tasks/rvos",
        "points": {str(seed): public_points(points, seed) for seed in range(8)},
        "masks": {str(seed): public_masks(masks, seed) for seed in range(5)},
    }
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
