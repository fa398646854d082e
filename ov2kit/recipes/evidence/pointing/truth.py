"""What a run learns and is scored by: places of each object, read from the masks of a tracking set."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ov2kit.recipes.evidence.films.tracking_scene import COLORS
from ov2kit.recipes.spatial.regions import inner_point
from ov2kit.recipes.spatial.segmenter import MaskTracks

KINDS = tuple(COLORS)


@dataclass(frozen=True)
class ClipTruth:
    """The objects of one clip.

    Args:
        kinds: which color each object has, a number of `KINDS`.
        places: (O, T, 2) float32 x, y of a pixel's center within each visible mask, as shares; 0 where hidden.
        visible: (O, T) bool.
        masks: one track of masks per object, with the id 0.
    """

    kinds: tuple[int, ...]
    places: Tensor
    visible: Tensor
    masks: tuple[MaskTracks, ...]


def read_truth(folder: Path, split: str) -> tuple[list[str], list[ClipTruth]]:
    """Names of the clips of a split and what is true of each, in order. Objects that are never seen are left out."""
    of_clip: dict[str, list[dict[str, Any]]] = {}
    for document in json.loads((folder / f"{split}_expressions.json").read_text(encoding="utf-8")):
        of_clip.setdefault(document["video"], []).append(document)
    return list(of_clip), [_clip(folder, documents) for documents in of_clip.values()]


def _clip(folder: Path, documents: list[dict[str, Any]]) -> ClipTruth:
    kinds, tracks = [], []
    for document in documents:
        path = folder / "masks" / document["video"] / f"{document['mask_ids'][0]}.json"
        masks: list[Any] = next(iter(json.loads(path.read_text(encoding="utf-8")).values()), [])
        if any(mask is not None for mask in masks):
            kinds.append(KINDS.index(document["expression"].split()[0]))
            tracks.append(MaskTracks(document["n_frames"], (document["height"], document["width"]), {0: masks}))
    frames = tracks[0].frames
    places = torch.zeros(len(tracks), frames, 2)
    visible = torch.zeros(len(tracks), frames, dtype=torch.bool)
    for number, track in enumerate(tracks):
        for frame in range(frames):
            if track.objects[0][frame] is not None:
                row, column = inner_point(track.mask(0, frame))
                places[number, frame] = torch.tensor([(column + 0.5) / track.size[1], (row + 0.5) / track.size[0]])
                visible[number, frame] = True
    return ClipTruth(tuple(kinds), places, visible, tuple(tracks))
