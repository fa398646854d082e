"""One run: canvases of a tracking set -> a small model that points -> answers as text -> masks -> scores."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ov2kit.recipes.evidence.pointing.lit_points import LitPoints
from ov2kit.recipes.evidence.pointing.point_readout import PointReadout
from ov2kit.recipes.evidence.pointing.truth import KINDS, ClipTruth, read_truth
from ov2kit.recipes.evidence.runs.canvas_store import (
    MERGE,
    PATCH,
    StoredClip,
    batches,
    mirrored,
    read_canvases,
    read_facts,
)
from ov2kit.recipes.evidence.runs.clip_batch import ClipBatch, pack
from ov2kit.recipes.evidence.runs.one_run import quiet
from ov2kit.recipes.evidence.runs.small_model import JumpModel
from ov2kit.recipes.evidence.runs.variant import Variant
from ov2kit.recipes.spatial.frames import VideoFrames
from ov2kit.recipes.spatial.prompts import PROMPT_FPS
from ov2kit.recipes.spatial.region_growing import RegionGrowing
from ov2kit.recipes.spatial.scores import mask_scores, point_scores, true_tracks
from ov2kit.recipes.spatial.segmenter import segment_tracks
from ov2kit.recipes.spatial.tracks import TrackPoint, Tracks, parse_tracks, write_tracks

EVERY = 3  # pictures between two points of an answer: two points a second
_VISIBLE = 0.5
_Example = tuple[ClipBatch, Tensor, Tensor, Tensor]


class _Examples(IterableDataset[_Example]):
    """Packed batches of clips, each with one of its objects; half of them seen in a mirror, places included."""

    def __init__(self, clips: list[StoredClip], truth: list[ClipTruth], variant: Variant, seed: int) -> None:
        self.clips, self.truth, self.variant, self.seed = clips, truth, variant, seed

    def __iter__(self) -> Iterator[_Example]:
        draw = np.random.default_rng((self.seed, 1))
        endless = batches(len(self.clips), self.variant.batch, self.seed)
        for _, chosen in zip(range(self.variant.steps), endless, strict=False):
            clips, kinds, places, visible = [], [], [], []
            for number in chosen:
                clip, truth = self.clips[number], self.truth[number]
                which = int(draw.integers(len(truth.kinds)))
                where = truth.places[which]
                if draw.random() < 0.5:
                    clip = mirrored(clip, self.variant.canvas // PATCH)
                    where = torch.stack([1 - where[:, 0], where[:, 1]], dim=-1)
                clips.append(clip)
                kinds.append(truth.kinds[which])
                places.append(where)
                visible.append(truth.visible[which])
            yield pack(clips, self.variant.visibility), torch.tensor(kinds), torch.stack(places), torch.stack(visible)


def run_pointing(
    variant: Variant, seed: int, data: Path, canvases: Path, *, split: str = "test", limit: int | None = None
) -> dict[str, Any]:
    """Train and score.

    Args:
        variant: how the clips become tokens; width, depth, steps, batch and learning rate.
        seed: of weights and order of examples.
        data: folder that `make_tracking_set` made.
        canvases: folder that `build_canvases` filled, with the clips of each split in the order of `read_truth`.
        split: what is scored.
        limit: only its first clips.

    Returns:
        Means over the expressions of the split, the scores of each, loss, seconds, parameters, tokens per clip.
    """
    quiet()
    torch.set_num_threads(1)
    lightning.seed_everything(seed, verbose=False)
    clips, (_, truth) = read_canvases(canvases, "train"), read_truth(data, "train")
    model = JumpModel(
        variant.width, variant.depth, positions=variant.positions, visibility=variant.visibility,
        connector=variant.connector, canvas_tokens=(variant.canvas // (PATCH * MERGE)) ** 2,
    )  # fmt: skip
    model.readout = PointReadout(variant.width, len(KINDS))  # type: ignore[assignment]
    module = LitPoints(model, truth[0].places.shape[1], lr=variant.lr or 3e-3)
    trainer = lightning.Trainer(
        max_steps=variant.steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0, num_sanity_val_steps=0,
        limit_val_batches=0,
    )  # fmt: skip
    began = time.process_time()
    trainer.fit(module, DataLoader(_Examples(clips, truth, variant, seed), batch_size=None))
    trained = time.process_time() - began
    shown, own = read_canvases(canvases, split)[:limit], read_truth(data, split)[1][:limit]
    answers = _answers(module.eval(), variant, shown, own)
    rows = score_answers(data, split, answers)
    facts = read_facts(canvases, split)
    return {
        "scores": means(rows),
        "rows": rows,
        "loss": float(trainer.callback_metrics["loss"]),
        "train_seconds": trained,
        "tokens": sum(facts["tokens"]) / len(facts["tokens"]),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _answers(module: LitPoints, variant: Variant, clips: list[StoredClip], truth: list[ClipTruth]) -> list[list[str]]:
    """The text of an answer per clip and object: what the evaluation reads."""
    found = []
    with torch.inference_mode():
        for clip, own in zip(clips, truth, strict=True):
            batch = pack([clip] * len(own.kinds), variant.visibility)
            places = module(batch, torch.tensor(own.kinds))
            found.append([_text(of_object) for of_object in places])
    return found


def _text(places: Tensor) -> str:
    """(T, 3) -> tracks of one object, two points a second, where it is thought to be in sight."""
    points = []
    for frame in range(0, len(places), EVERY):
        x, y = (float(value) for value in places[frame, :2].clamp(0, 1))
        if places[frame, 2].sigmoid() >= _VISIBLE:
            points.append(TrackPoint(frame / PROMPT_FPS, 0, x, y))
    return write_tracks(Tracks.of(points))


def true_answers(data: Path, split: str) -> list[list[str]]:
    """The answers that the true masks give: what remains is the segmenter's."""
    _, truth = read_truth(data, split)
    return [[write_tracks(true_tracks(masks, fps=PROMPT_FPS, every=EVERY)) for masks in own.masks] for own in truth]


def score_answers(data: Path, split: str, answers: list[list[str]]) -> list[dict[str, float]]:
    """Text -> points -> masks -> scores; one row per clip and object, for as many clips as there are answers."""
    names, truth = read_truth(data, split)
    rows = []
    for name, own, texts in zip(names, truth, answers, strict=False):
        video = next((data / "videos").glob(f"{name}.*"))
        frames = VideoFrames(video)
        for masks, text in zip(own.masks, texts, strict=True):
            tracks = parse_tracks(text)
            found = segment_tracks(RegionGrowing(), frames, tracks)
            scored = mask_scores(found, masks)
            points = point_scores(tracks, masks, fps=PROMPT_FPS, every=EVERY)
            kept = {key: scored[key] for key in ("j", "f", "j&f", "hota", "public_hota")}
            rows.append({key: round(value, 5) for key, value in (kept | points).items()})
    return rows


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every score over rows."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
