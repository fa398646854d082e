"""One run: one variant, one seed -> its score and what it cost."""

import logging
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from ov2kit.recipes.evidence.runs.canvas_store import (
    MERGE,
    PATCH,
    StoredClip,
    batches,
    mirrored,
    read_canvases,
    read_facts,
)
from ov2kit.recipes.evidence.runs.lit_jump import LitJumpReadout
from ov2kit.recipes.evidence.runs.small_model import ClipBatch, JumpModel, pack
from ov2kit.recipes.evidence.runs.variant import Variant

_SCORED_AT_ONCE = 8


class _Batches(IterableDataset[ClipBatch]):
    """Packed batches: `steps` shuffled ones, or all clips once in order."""

    def __init__(self, clips: list[StoredClip], variant: Variant, seed: int | None) -> None:
        self.clips, self.variant, self.seed = clips, variant, seed

    def __iter__(self) -> Any:
        if self.seed is None:
            for at in range(0, len(self.clips), _SCORED_AT_ONCE):
                yield pack(self.clips[at : at + _SCORED_AT_ONCE], self.variant.visibility)
            return
        endless, mirror = batches(len(self.clips), self.variant.batch, self.seed), np.random.default_rng((self.seed, 1))
        for _, chosen in zip(range(self.variant.steps), endless, strict=False):
            yield pack([self._maybe_mirrored(self.clips[i], mirror) for i in chosen], self.variant.visibility)

    def _maybe_mirrored(self, clip: StoredClip, draw: np.random.Generator) -> StoredClip:
        return mirrored(clip, self.variant.canvas // PATCH) if draw.random() < 0.5 else clip


def run_variant(variant: Variant, seed: int, canvases: Path) -> dict[str, Any]:
    """Train and score.

    Args:
        variant: what to run.
        seed: of weights and order of clips.
        canvases: folder that `build_canvases` filled.

    Returns:
        Scores of validation ("val_map") and test ("map", "ap@..."), mAP of each test clip, tokens per clip,
        training and tokenizing seconds, peak memory of the process, parameters.
    """
    quiet()
    torch.set_num_threads(1)
    lightning.seed_everything(seed, verbose=False)
    clips = {split: read_canvases(canvases, split) for split in ("train", "val", "test")}
    model = JumpModel(
        variant.width,
        variant.depth,
        positions=variant.positions,
        visibility=variant.visibility,
        connector=variant.connector,
        canvas_tokens=(variant.canvas // (PATCH * MERGE)) ** 2,
    )
    most = max(clip.duration for split in clips.values() for clip in split)
    module = LitJumpReadout(model, lr=cast(float, variant.lr), most_seconds=most)
    trainer = lightning.Trainer(
        max_steps=variant.steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    began = time.process_time()
    trainer.fit(module, _loader(_Batches(clips["train"], variant, seed)))
    trained = time.process_time() - began
    scorer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    scorer.validate(module, _loader(_Batches(clips["val"], variant, None)), verbose=False)
    scorer.test(module, _loader(_Batches(clips["test"], variant, None)), verbose=False)
    facts = read_facts(canvases, "test")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "scores": module.scores,
        "threshold": module.threshold,
        "per_clip": [round(score, 5) for score in module.per_clip],
        "loss": float(trainer.callback_metrics["loss"]),
        "tokens": sum(facts["tokens"]) / len(facts["tokens"]),
        "tokens_range": [min(facts["tokens"]), max(facts["tokens"])],
        "train_seconds": trained,
        "tokenize_seconds": facts["seconds_per_clip"],
        "peak_mebibytes": peak,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _loader(batches_: _Batches) -> DataLoader[ClipBatch]:
    return DataLoader(batches_, batch_size=None)


def quiet() -> None:
    """Lightning's hints about loaders and accelerators say nothing about a run of this kind."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
