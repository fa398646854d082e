"""One run: one variant, one seed -> its score and what it cost."""

import gc
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

from ov2kit.recipes.evidence.films.rendered_set import SPLITS
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
from ov2kit.recipes.evidence.runs.flops import encoder_flops
from ov2kit.recipes.evidence.runs.lit_jump import LitJumpReadout
from ov2kit.recipes.evidence.runs.small_model import JumpModel
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


def run_variant(variant: Variant, seed: int, canvases: Path, device: str = "cpu") -> dict[str, Any]:
    """Train and score.

    Args:
        variant: what to run.
        seed: of weights and order of clips.
        canvases: folder that `build_canvases` filled, or one of such folders, each with a part of the clips.
        device: "cpu", where a run repeats to the bit, or "cuda", where sums are added up in any order and all clips are
            kept in the device's memory.

    Returns:
        Scores of validation ("val_map") and test ("map", "ap@..."), mAP of each test clip, tokens per clip that the
        read-out gets, the encoder's operations per clip, parameters, training, scoring and tokenizing seconds and peak
        memory: CPU seconds and memory of the process, or on a GPU seconds of the clock and memory of the device.
    """
    quiet()
    torch.set_num_threads(1)
    lightning.seed_everything(seed, verbose=False)
    on_gpu = torch.device(device).type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:  # nothing of a run before in this process
        torch.ones((), device=device)  # there are no statistics of a device that has not started
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    clips = {split: read_canvases(canvases, split) for split in SPLITS}
    if on_gpu:
        clips = {split: [clip.to(device) for clip in own] for split, own in clips.items()}
    per_canvas = (variant.canvas // (PATCH * MERGE)) ** 2
    model = JumpModel(
        variant.width,
        variant.depth,
        positions=variant.positions,
        visibility=variant.visibility,
        connector=variant.connector,
        canvas_tokens=per_canvas,
        pruning=variant.pruning,
        kept_tokens=variant.budget * per_canvas,
        precision=variant.precision,
        readout=variant.readout,
    )
    most = max(clip.duration for split in clips.values() for clip in split)
    module = LitJumpReadout(model, lr=cast(float, variant.lr), encoder_lr=variant.encoder_lr, most_seconds=most)
    where: dict[str, Any] = {"accelerator": "gpu" if on_gpu else "cpu", "devices": 1}
    trainer = lightning.Trainer(
        max_steps=variant.steps,
        **where,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    began = clock()
    trainer.fit(module, _loader(_Batches(clips["train"], variant, seed)))
    loss = float(trainer.callback_metrics["loss"])  # waits for the device
    trained = clock() - began
    scorer = lightning.Trainer(
        **where, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    scorer.validate(module, _loader(_Batches(clips["val"], variant, None)), verbose=False)
    began = clock()
    scorer.test(module, _loader(_Batches(clips["test"], variant, None)), verbose=False)
    scored = clock() - began
    facts = read_facts(canvases, "test")
    if variant.pruning != "none":
        facts["tokens"] = [min(tokens, variant.budget * per_canvas) for tokens in facts["tokens"]]
    if on_gpu:
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    sizes = (variant.width, variant.depth, model.encoder.mlp_width, 3 * PATCH**2)
    alone = (pack([clip], variant.visibility) for clip in clips["test"])
    flops = [encoder_flops(*sizes, model.seen(batch, len(module.query_seconds))) for batch in alone]
    return {
        "scores": module.scores,
        "threshold": module.threshold,
        "per_clip": [round(score, 5) for score in module.per_clip],
        "loss": loss,
        "tokens": sum(facts["tokens"]) / len(facts["tokens"]),
        "tokens_range": [min(facts["tokens"]), max(facts["tokens"])],
        "encoder_gflops": sum(flops) / len(flops) / 1e9,
        "train_seconds": trained,
        "score_seconds": scored / len(clips["test"]),
        "tokenize_seconds": facts["seconds_per_clip"],
        "peak_mebibytes": peak,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
    }


def _loader(batches_: _Batches) -> DataLoader[ClipBatch]:
    return DataLoader(batches_, batch_size=None)


def quiet() -> None:
    """Lightning's hints about loaders and accelerators say nothing about a run of this kind."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
