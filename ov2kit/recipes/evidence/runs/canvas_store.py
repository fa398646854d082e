"""Canvases of a whole set in one file per split, made once per way of tokenizing.

Letters: N patches of all clips, K canvases of all clips, C clips, p patch.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ov2kit.canvases import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, LiveTokenizer, VideoStream
from ov2kit.files import check_format, checksum, format_name, write_tensors
from ov2kit.recipes.data.visual_tokenizers import saliency_options
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.jumpset import read_split
from ov2kit.recipes.evidence.films.rendered_set import SPLITS
from ov2kit.recipes.evidence.runs.live_canvases import live_canvases
from ov2kit.recipes.evidence.runs.variant import SweepError, Variant

PATCH, MERGE = 16, 1
_KIND, _VERSION = "canvas_store", 1


@dataclass(frozen=True)
class Timeline:
    """The distinct times of a clip, and which of them each block is of.

    Args:
        times: (F,) float32 seconds, increasing.
        frame: (n / merge^2,) int64 entry of `times`; -1 is padding.
        filled: nothing is padding.
    """

    times: Tensor
    frame: Tensor
    filled: bool

    @classmethod
    def of(cls, seconds: Tensor) -> "Timeline":
        """That of (n,) `seconds` per patch."""
        blocks = seconds[:: MERGE**2]
        shown = blocks >= 0
        times, entry = torch.unique(blocks[shown], return_inverse=True)
        frame = torch.full((len(blocks),), -1, device=seconds.device)
        frame[shown] = entry
        return cls(times, frame, bool(shown.all()))


@dataclass(frozen=True)
class StoredClip:
    """One clip, ready for the encoder.

    Args:
        patches: (n, 3*p*p) uint8 in block layout, padding included.
        positions: (n, 3) int32 source (frame, row, column); -1 is padding.
        seconds: (n,) float32 time of each patch; -1 is padding.
        groups: one id per canvas.
        starts: answer, seconds.
        duration: seconds.
        timeline: made of `seconds` when omitted.
    """

    patches: Tensor
    positions: Tensor
    seconds: Tensor
    groups: tuple[int, ...]
    starts: tuple[float, ...]
    duration: float
    timeline: Timeline | None = None

    def times(self) -> Timeline:
        """The clip's `timeline`."""
        return Timeline.of(self.seconds) if self.timeline is None else self.timeline

    def to(self, device: torch.device | str) -> "StoredClip":
        """The same clip on `device`, with its timeline."""
        line = self.times()
        return replace(
            self,
            patches=self.patches.to(device),
            positions=self.positions.to(device),
            seconds=self.seconds.to(device),
            timeline=replace(line, times=line.times.to(device), frame=line.frame.to(device)),
        )


def build_canvases(variant: Variant, data: Path, out: Path, splits: Sequence[str] = SPLITS) -> None:
    """Tokenize every clip of a set, or of some splits of it; a split's file appears whole or not at all."""
    for split in splits:
        path = out / f"{split}.safetensors"
        if path.exists():
            continue
        records = read_split(data, split)
        began = time.process_time()
        videos = [VideoStream(data / record["video"], threads=1) for record in records]
        parts = [_stored(made, video) for made, video in zip(_made(variant, videos), videos, strict=True)]
        spent = time.process_time() - began
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        tensors["clip_canvases"] = torch.tensor([len(part["groups"]) for part in parts])
        facts = {
            "format": format_name(_KIND, _VERSION),
            "answers": [json.loads(record["answer"]) for record in records],
            "seconds_per_clip": spent / (len(records) + (variant.source == "live")),
            "tokens": [int((part["seconds"] >= 0).sum()) // MERGE**2 for part in parts],
        }
        text = json.dumps({**facts, "checksum": checksum(tensors, json.dumps(facts))})
        write_tensors(path, tensors, {"facts": text})


def read_facts(folder: Path, split: str) -> dict[str, Any]:
    """What `build_canvases` noted: answers, tokens of each clip, tokenizing seconds per clip."""
    found: dict[str, Any] = {"answers": [], "tokens": []}
    seconds = 0.0
    for path in _files(folder, split):
        with safe_open(path, framework="pt") as file:
            facts = cast(dict[str, Any], json.loads((file.metadata() or {})["facts"]))
        check_format(facts.get("format"), _KIND, _VERSION, path, SweepError)
        for name in found:
            found[name] += facts[name]
        seconds += facts["seconds_per_clip"] * len(facts["answers"])
    return {**found, "seconds_per_clip": seconds / len(found["answers"])}


def read_canvases(folder: Path, split: str) -> list[StoredClip]:
    """The clips of a split, in the order of its list.

    Args:
        folder: what `build_canvases` filled, or a folder of such folders, each with a part of the clips.
        split: a name of `SPLITS`.

    Raises:
        SweepError: there is no such split, or a file is not what was written.
    """
    return [clip for path in _files(folder, split) for clip in _read_file(path)]


def _files(folder: Path, split: str) -> list[Path]:
    name = f"{split}.safetensors"
    found = [folder / name] if (folder / name).exists() else sorted(folder.glob(f"*/{name}"))
    if not found:
        raise SweepError(f"{folder}: has no canvases of {split}; expected {name} there or in folders there")
    return found


def _read_file(path: Path) -> list[StoredClip]:
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            check_format(facts.get("format"), _KIND, _VERSION, path, SweepError)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # not a mapping
        if facts.pop("checksum") != checksum(tensors, json.dumps(facts)):
            raise ValueError("its content is not what was written")
        answers = facts["answers"]
    except SweepError:
        raise
    except (SafetensorError, ValueError, LookupError) as error:
        raise SweepError(f"{path}: is damaged ({error}); remove {path.parent} to make it again") from error
    canvases = tensors["clip_canvases"].tolist()
    per_canvas = len(tensors["patches"]) // max(1, sum(canvases))
    groups = tensors["groups"].split(canvases)
    rows = [n * per_canvas for n in canvases]
    columns = (tensors[name].split(rows) for name in ("patches", "positions", "seconds"))
    return [
        StoredClip(patches, positions, seconds, tuple(ids.tolist()), tuple(answer), duration)
        for patches, positions, seconds, ids, answer, duration in zip(
            *columns, groups, answers, tensors["duration"].tolist(), strict=True
        )
    ]


def mirrored(clip: StoredClip, columns: int) -> StoredClip:
    """The clip seen in a mirror: jumps start when they did.

    Args:
        clip: any.
        columns: patches per row of the picture.
    """
    patches = clip.patches.view(-1, 3, PATCH, PATCH).flip(-1).flatten(1)
    positions = clip.positions.clone()
    column = clip.positions[:, 2]
    positions[:, 2] = torch.where(column < 0, column, columns - 1 - column)
    return replace(clip, patches=patches, positions=positions)


def _stored(canvases: Canvases, stream: VideoStream) -> dict[str, Tensor]:
    positions = canvases.flat_positions()
    times = canvases.clip_times()[0]
    lookup = torch.full((max(times) + 2,), -1.0)
    for frame, seconds in times.items():
        lookup[frame] = seconds
    patches = canvases.pixel_values(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return {
        "patches": (patches * 255).round().to(torch.uint8),
        "positions": positions,
        "seconds": lookup[positions[:, 0].long()],  # -1 reads the last entry, which is -1
        "groups": canvases.groups,
        "duration": torch.tensor([stream.duration_seconds], dtype=torch.float32),
    }


def _made(variant: Variant, videos: Sequence[VideoStream]) -> Iterator[Canvases]:
    """The canvases of each video."""
    tokenizer = _tokenizer(variant)
    if variant.source != "live":
        return map(tokenizer, videos)
    rate = variant.tokens_per_second
    if rate is None:
        low, high = Difficulty(**dict(variant.difficulty)).seconds
        rate = variant.budget * (variant.canvas // (PATCH * MERGE)) ** 2 / ((low + high) / 2)
    live = LiveTokenizer(tokenizer, delay_seconds=variant.delay_seconds, tokens_per_second=rate)
    return live_canvases(live, videos)


def _tokenizer(variant: Variant) -> Any:
    """A stream -> Canvases."""
    size = (variant.canvas, variant.canvas)
    if variant.source in ("frames", "blank"):
        frames = FrameTokenizer(variant.canvases, patch=PATCH, merge=MERGE, canvas_size=size, threads=1)
        return partial(_frames, frames, variant.source == "blank")
    spans: dict[str, Any] = {
        "bin_seconds": variant.bin_seconds,
        "min_seconds": variant.min_seconds,
        "max_seconds": variant.max_seconds,
    }
    return CodecTokenizer(
        variant.canvases,
        grouping=variant.grouping,
        selection=variant.selection,
        candidates=variant.candidates,
        patch=PATCH,
        merge=MERGE,
        block=variant.block,
        canvas_size=size,
        frame_share=variant.frame_share if variant.source == "hybrid" else None,
        rank_damping=variant.rank_damping,
        peak_weight=variant.peak_weight,
        threads=1,
        **saliency_options(variant.saliency, seed=variant.data_seed),
        **spans,
    )


def _frames(frames: FrameTokenizer, blank: bool, stream: VideoStream) -> Canvases:
    canvases: Canvases = frames(stream)
    return replace(canvases, images=torch.zeros_like(canvases.images)) if blank else canvases


def batches(count: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Endless shuffled batches of clip numbers."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count).tolist()
        for at in range(0, count - batch + 1, batch):
            yield order[at : at + batch]
