"""Streams of the event set: what a bounded delay costs, and what a gate misses, by truth per frame and block."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from ov2kit.codec import BitCostGate, CodecTokenizer, LiveGroup, LiveTokenizer, VideoStream
from ov2kit.recipes.metrics import EventRecall, EventShown, blocks_of_mask, event_shown, shown_blocks

DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)
QUANTILES = (0.25, 0.5, 0.75, 0.9)
PRESETS = ("paper", "event")
_RATE = 84.0  # tokens per second: a canvas of this set a second, as in `benchmarks.events`
_SPARSE = ("still", "pan", "shake", "sensor", "rain", "water", "flicker", "cut")


def sets(work: Path, seeds: Sequence[int], real: Sequence[str]) -> list[Any]:
    """Clips that `benchmarks.events` reports on; sets that are missing are made."""
    from ov2kit.recipes.evidence.films.eventset import make_eventset, read_events

    for seed in seeds:
        if not (work / f"set-{seed}").exists():
            make_eventset(work / f"set-{seed}", 1, seed=seed, real=real)
    return [clip for seed in seeds for clip in read_events(work / f"set-{seed}", "test")]


def sparse(work: Path) -> list[Any]:
    """Clips of 24 s with two events each."""
    from ov2kit.recipes.evidence.films.event_scene import EventScene
    from ov2kit.recipes.evidence.films.eventset import EVENT_SPLITS, make_eventset, read_events

    folder = work / "sparse"
    if not folder.exists():
        make_eventset(folder, 1, seed=0, footage=_SPARSE, scene=EventScene(seconds=24.0, events=(2, 2)))
    return [clip for split in EVENT_SPLITS for clip in read_events(folder, split)]


def packets_of(clip: Any) -> Iterator[Any]:
    with av.open(str(clip.video)) as container:
        yield from container.demux(video=0)


def shown_of(clip: Any, parts: Sequence[tuple[Any, int]]) -> list[EventShown]:
    """What canvases show of the events of a clip.

    Args:
        clip: with its truth.
        parts: canvases, and the number of their clip's first frame.
    """
    times = VideoStream(clip.video).packets.frame_seconds
    first = parts[0][0]
    grid = (first.images.shape[2] // 28, first.images.shape[3] // 28)
    shown: dict[int, Any] = {}
    for canvases, offset in parts:
        shown |= {frame - offset: b for frame, b in shown_blocks(canvases.positions, canvases.merge, grid).items()}
    found = []
    for event in clip.events:
        blocks = {frame: blocks_of_mask(mask, grid) for frame, mask in event.masks.items()}
        found.append(event_shown(shown, blocks, event.start, event.stop, times))
    return found


def followed(clips: Sequence[Any], preset: Any, delay: float) -> tuple[list[list[LiveGroup]], list[int]]:
    """All clips as one stream: the groups of each, and the number of its first frame."""
    live = LiveTokenizer(CodecTokenizer(preset=preset, threads=1), delay_seconds=delay, tokens_per_second=_RATE)
    groups: list[LiveGroup] = []
    starts, at = [], 0
    for clip in clips:
        starts.append(at)
        at += clip.frames
        for packet in packets_of(clip):
            groups += live.push(packet)
    groups += live.finish()
    spans = [group.canvases.provenance["groups"][0]["frames"] for group in groups]
    if spans[-1][1] != at:
        raise SystemExit(f"expected {at} frames, got {spans[-1][1]}")
    owner = np.searchsorted(starts, [first for first, _ in spans], side="right") - 1
    return [[g for g, k in zip(groups, owner, strict=True) if k == n] for n in range(len(clips))], starts


def row(shown: Sequence[EventShown], **facts: Any) -> dict[str, Any]:
    measure = EventRecall()
    measure.update(shown)
    return facts | {name: round(float(value), 4) for name, value in measure.compute().items()}


def delays(clips: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """One row per preset and delay, and one for whole clips at as many tokens."""
    for preset in PRESETS:
        for delay in DELAYS:
            groups, starts = followed(clips, preset, delay)
            shown = [
                each
                for clip, own, start in zip(clips, groups, starts, strict=True)
                for each in shown_of(clip, [(group.canvases, start) for group in own])
            ]
            flat = [group for own in groups for group in own]
            tokens = sum(group.tokens for group in flat)
            waits = [group.waited_seconds for group in flat if group.reason in ("quota", "longest")]
            yield row(
                shown, preset=preset, delay_seconds=delay, clips=len(clips), groups=len(flat), tokens=tokens,
                worst_wait_seconds=round(max(waits), 3), mean_wait_seconds=round(float(np.mean(waits)), 3),
            )  # fmt: skip
        per_canvas = flat[0].tokens // len(flat[0].canvases)
        budget = max(2, round(tokens / per_canvas / len(clips)))
        whole = CodecTokenizer(budget, preset=preset, threads=1)
        shown = [each for clip in clips for each in shown_of(clip, [(whole(clip.video), 0)])]
        total = budget * per_canvas * len(clips)
        yield row(shown, preset=preset, delay_seconds=None, clips=len(clips), tokens=total)


def gate(clips: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """One row per quantile: calls saved, events whose groups led to none, and how many by chance would be."""
    streams = []
    for clip in clips:
        live = LiveTokenizer(CodecTokenizer(threads=1), delay_seconds=1.0, tokens_per_second=2 * _RATE)
        groups = [group for packet in packets_of(clip) for group in live.push(packet)] + live.finish()
        over = np.array([[g.start_seconds < e.stop and g.end_seconds > e.start for g in groups] for e in clip.events])
        streams.append((groups, over))
    rng = np.random.default_rng(0)
    for quantile in QUANTILES:
        opened_of, missed, chance = [], [], []
        for groups, over in streams:
            decide = BitCostGate(quantile=quantile, heartbeat_seconds=None, warmup_groups=2)
            opened = np.array([decide(group).is_open for group in groups])
            opened_of.append(opened)
            missed.append(~(over & opened).any(1))
            chance += [~(over & rng.permutation(opened)).any(1) for _ in range(200)]
        yield {
            "quantile": quantile, "clips": len(clips), "groups": sum(map(len, opened_of)),
            "events": sum(map(len, missed)), "calls_saved": round(1 - float(np.concatenate(opened_of).mean()), 4),
            "events_missed": round(float(np.concatenate(missed).mean()), 4),
            "missed_by_chance": round(float(np.concatenate(chance).mean()), 4),
        }  # fmt: skip
