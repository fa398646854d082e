"""What a stream costs: a bounded delay, a gate, a day at full speed, two sources at once.

    python -m benchmarks.live delays --work DIR      # events shown, tokens and waits, over the delay
    python -m benchmarks.live gate --work DIR        # calls saved against events missed, over the quantile
    python -m benchmarks.live truth --work DIR       # what is shown of small events, over the delay, by truth per block
    python -m benchmarks.live truth-gate --work DIR  # the gate on small events
    python -m benchmarks.live day --hours 24         # memory, drift of times and handles of a loop at full speed
    python -m benchmarks.live sources --clip FILE    # CPU seconds of two sources, with head room

The first two make a set of rendered clips with known jumps in DIR, and follow them as one stream; the next two use the
event set, and share their folder with `benchmarks.events`. Each prints its rows and writes them as JSON under
benchmarks/results/live.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks._live import truth
from ov2kit.canvases import Canvases
from ov2kit.codec import BitCostGate, CodecTokenizer, LiveGroup, LiveTokenizer

RESULTS = Path(__file__).parent / "results" / "live"
DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)
QUANTILES = (0.25, 0.5, 0.75, 0.9)
RATE = 24.0  # tokens per second, canvases of 36 tokens (96 pixels): an ordinary group of 4 lasts 6 s
_JUMP_SECONDS = 0.4
_WRAP = 1 << 33


def clips_of(work: Path, count: int, *, rare: bool = False) -> list[tuple[Path, list[float]]]:
    """Rendered clips and the seconds at which something jumps in each: every second or two, or seldom."""
    from ov2kit.recipes.evidence.films.difficulty import Difficulty
    from ov2kit.recipes.evidence.films.jumpset import make_jumpset, read_split

    folder = work / f"{'rare' if rare else 'often'}-{count}"
    if not folder.exists():
        calm = Difficulty(distractors=(0, 1), rest=6.0, lighting=0.05, switches=0.0)
        if rare:
            calm = replace(calm, seconds=(20.0, 24.0), pause=(5.0, 5.0), jumpers=(1, 1), feints=0.0)
        make_jumpset(folder, (count, 1, 1), difficulty=calm, encoding="h264-mix")
    rows = read_split(folder, "train")
    return [(folder / row["video"], json.loads(row["answer"])) for row in rows]


def followed(clips: list[tuple[Path, list[float]]], **options: Any) -> tuple[list[LiveGroup], list[float]]:
    """All clips as one stream: its groups, and the times of its events."""
    live, groups, events = LiveTokenizer(CodecTokenizer(), tokens_per_second=RATE, **options), [], []
    for path, starts in clips:
        offset = live.progress.seconds
        events += [offset + start for start in starts]
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                groups += live.push(packet)
            if options.get("delay_seconds", 2.0) is not None:
                groups += live.pause()
    return groups + live.finish(), events


def shown_twice(groups: list[LiveGroup], events: list[float]) -> float:
    """Share of the events of which frames at two moments at least are on canvases."""
    times = np.array(sorted(time for group in groups for time in group.canvases.clip_times()[0].values()))
    inside = [((times >= start) & (times <= start + _JUMP_SECONDS)).sum() for start in events]
    return float(np.mean([count >= 2 for count in inside]))


def tokens_on_events(parts: list[tuple[Canvases, float]], events: list[float]) -> float:
    """Share of the tokens that come from frames in which something jumps.

    Args:
        parts: canvases, and where their times begin.
        events: when jumps start.
    """
    inside = total = 0
    starts = np.array(events)
    for canvases, offset in parts:
        times = canvases.clip_times()[0]
        frames, counts = np.unique(canvases.positions[..., 0].numpy(), return_counts=True)
        for frame, count in zip(frames.tolist(), counts.tolist(), strict=True):
            if frame >= 0:
                since = times[frame] + offset - starts
                inside += count * bool(((since >= 0) & (since <= _JUMP_SECONDS)).any())
                total += count
    return inside / total


def delays(work: Path, count: int) -> list[dict[str, Any]]:
    """One row per delay, and one for whole clips at as many tokens."""
    clips, rows = clips_of(work, count), []
    for delay in DELAYS:
        groups, events = followed(clips, delay_seconds=delay)
        tokens = sum(group.tokens for group in groups)
        rows.append(
            {
                "delay_seconds": delay, "groups": len(groups), "events": len(events), "tokens": tokens,
                "events_shown": round(shown_twice(groups, events), 4),
                "tokens_on_events": round(tokens_on_events([(g.canvases, 0.0) for g in groups], events), 4),
                "worst_wait_seconds": round(max(group.waited_seconds for group in groups), 3),
                "mean_wait_seconds": round(float(np.mean([group.waited_seconds for group in groups])), 3),
            }
        )  # fmt: skip
    per_canvas = groups[0].tokens // len(groups[0].canvases)
    budget = max(4, round(tokens / per_canvas / len(clips)))
    whole, parts, offset, events = [], [], 0.0, []
    for path, starts in clips:
        canvases = CodecTokenizer(budget)(path)
        whole += [offset + t for t in canvases.clip_times()[0].values()]
        events += [offset + start for start in starts]
        parts.append((canvases, offset))
        offset += 1000.0
    times = np.array(whole)
    inside = [((times >= start) & (times <= start + _JUMP_SECONDS)).sum() >= 2 for start in events]
    rows.append(
        {"delay_seconds": None, "events": len(events), "tokens": budget * per_canvas * len(clips),
         "events_shown": round(float(np.mean(inside)), 4),
         "tokens_on_events": round(tokens_on_events(parts, events), 4)}
    )  # fmt: skip
    return rows


def gate(work: Path, count: int) -> list[dict[str, Any]]:
    """One row per quantile: share of calls saved, and of events whose groups led to no call."""
    groups, events = followed(clips_of(work, count, rare=True), delay_seconds=1.0)
    rows = []
    for quantile in QUANTILES:
        decide = BitCostGate(quantile=quantile, heartbeat_seconds=None)
        opened = [decide(group).is_open for group in groups]
        seen = [
            any(
                is_open and group.start_seconds <= start + _JUMP_SECONDS and group.end_seconds > start
                for group, is_open in zip(groups, opened, strict=True)
            )
            for start in events
        ]
        rows.append(
            {"quantile": quantile, "groups": len(groups), "events": len(events),
             "calls_saved": round(1 - float(np.mean(opened)), 4), "events_missed": round(1 - float(np.mean(seen)), 4)}
        )  # fmt: skip
    return rows


def endless(clip: bytes, seconds: float) -> Iterator[Any]:
    """Packets of a clip in a loop, with the 33-bit time stamps of one stream that goes on."""
    import io

    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        kept = [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in container.demux(stream) if p.dts is not None]
        base = stream.time_base or Fraction(1, 90_000)
        length = kept[-1][1] - kept[0][1] + (kept[1][1] - kept[0][1])
        first, turn = kept[0][1], 0
        while turn * length * base < seconds:
            for pts, dts, is_key, data in kept:
                packet: Any = av.Packet(data)
                packet.stream, packet.time_base = stream, base
                packet.pts = (pts - first + turn * length + _WRAP - 90_000) % _WRAP
                packet.dts = (dts - first + turn * length + _WRAP - 90_000) % _WRAP
                packet.is_keyframe = is_key
                yield packet
            turn += 1


def made_clip(fps: int = 25) -> bytes:
    """250 frames in a transport stream: a square that wanders over noise, with B-frames."""
    import io

    target, rng = io.BytesIO(), np.random.default_rng(0)
    back = rng.integers(60, 120, (64, 96, 3), dtype=np.uint8)
    with av.open(target, "w", format="mpegts") as out:
        stream: Any = out.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 50, 2
        for index in range(250):
            picture = back.copy()
            left, top = index * 3 % 80, index % 48
            picture[top : top + 16, left : left + 16] = 240
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return target.getvalue()


def day(hours: float, fps: int = 25, rate: float = 90.0) -> list[dict[str, Any]]:
    """A loop at full speed: one row per tenth, and one at the first minute of hours; printed as they come."""
    seconds, rows = hours * 3600, []
    marks = [60.0] * (hours >= 1) + [seconds * tenth / 10 for tenth in range(1, 11)]
    live = LiveTokenizer(CodecTokenizer(max_pixels=10_000), tokens_per_second=rate)
    begin, groups, tokens, last_end = time.process_time(), 0, 0, 0.0
    clip = made_clip(fps)
    for count, packet in enumerate(endless(clip, seconds), 1):
        for group in live.push(packet):
            groups, tokens, last_end = groups + 1, tokens + group.tokens, group.end_seconds
        if len(rows) < len(marks) and live.progress.seconds >= marks[len(rows)]:
            rows.append(
                {
                    "stream_seconds": round(live.progress.seconds, 2), "frames_per_second": fps,
                    "packets": count, "groups": groups,
                    "tokens_per_second": round(tokens / max(last_end, 1.0), 2),
                    "memory_mb": round(_memory() / 1e6, 1), "handles": len(os.listdir("/proc/self/fd")),
                    "drift_seconds": round(live.progress.seconds - count / fps, 4),
                    "jumps": live.progress.jumps, "cpu_seconds": round(time.process_time() - begin, 1),
                }
            )  # fmt: skip
            print(f"{len(rows)} of {len(marks)}: {json.dumps(rows[-1])}", file=sys.stderr, flush=True)
    live.finish()
    return rows


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def sources(clip: Path) -> list[dict[str, Any]]:
    """CPU seconds per second of stream that one source and two sources in threads take, of the cores there are."""
    import threading

    def follow() -> float:
        live, end = LiveTokenizer(CodecTokenizer()), 0.0
        with av.open(str(clip)) as container:
            for packet in container.demux(video=0):
                for group in live.push(packet):
                    end = group.end_seconds
            for group in live.finish():
                end = group.end_seconds
        return end

    rows = []
    for count in (1, 2):
        follow()
        lengths: list[float] = []
        threads = [threading.Thread(target=lambda: lengths.append(follow())) for _ in range(count)]  # noqa: B023
        cpu, wall = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append(
            {"sources": count, "stream_seconds": round(lengths[0], 2), "cpu_seconds": round(cpu, 3),
             "cores_needed": round(cpu / lengths[0], 3), "cores": os.cpu_count(),
             "head_room": round((os.cpu_count() or 1) * lengths[0] / cpu, 1), "wall_seconds": round(wall, 3)}
        )  # fmt: skip
    return rows


def _printed(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows, each shown as soon as it is there."""
    found = []
    for row in rows:
        print(json.dumps(row), file=sys.stderr, flush=True)
        found.append(row)
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("delays", "gate", "truth", "truth-gate", "day", "sources"))
    parser.add_argument("--work", type=Path, default=Path("live-work"))
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--rate", type=float, default=90.0)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="sets of events")
    parser.add_argument("--real", nargs="+", default=[], help="videos to use as background of sets that are made")
    options = parser.parse_args()
    if options.what == "day":
        rows = day(options.hours, options.fps, options.rate)
    elif options.what == "sources":
        rows = sources(options.clip)
    elif options.what == "truth":
        rows = _printed(truth.delays(truth.sets(options.work, options.seeds, options.real)))
    elif options.what == "truth-gate":
        rows = _printed(truth.gate(truth.sparse(options.work)))
    else:
        rows = {"delays": delays, "gate": gate}[options.what](options.work, options.clips)
    for row in rows:
        print(json.dumps(row))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{options.what}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
