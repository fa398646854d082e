"""What a stream costs: a bounded delay, a gate, a day at full speed, two sources at once.

    python -m benchmarks.live truth --work DIR       # what is shown of small events, over the delay, by truth per block
    python -m benchmarks.live truth-gate --work DIR  # calls saved against events missed, over the quantile
    python -m benchmarks.live gate --work DIR        # the same where something jumps every ten seconds
    python -m benchmarks.live day --hours 24         # memory, drift of times and handles of a loop at full speed
    python -m benchmarks.live sources --clip FILE    # two sources at 30 pictures a second, with head room

The first three make what is missing in DIR; the sets of the first are those of `benchmarks.events`. Each prints its
rows and writes them as JSON under benchmarks/results/live.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks._live import truth
from ov2kit.codec import BitCostGate, CodecTokenizer, LiveGroup, LiveTokenizer

RESULTS = Path(__file__).parent / "results" / "live"
QUANTILES = (0.25, 0.5, 0.75, 0.9)
RATE = 24.0  # tokens per second, canvases of 36 tokens (96 pixels): an ordinary group of 4 lasts 6 s
_JUMP_SECONDS = 0.4
_WRAP = 1 << 33


def clips_of(work: Path, count: int) -> list[tuple[Path, list[float]]]:
    """Rendered clips and the seconds at which something jumps in each, seldom."""
    from ov2kit.recipes.evidence.films.difficulty import Difficulty
    from ov2kit.recipes.evidence.films.jumpset import make_jumpset, read_split

    folder = work / f"rare-{count}"
    if not folder.exists():
        calm = Difficulty(
            distractors=(0, 1), rest=6.0, lighting=0.05, switches=0.0, seconds=(20.0, 24.0), pause=(5.0, 5.0),
            jumpers=(1, 1), feints=0.0,
        )  # fmt: skip
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
            groups += live.pause()
    return groups + live.finish(), events


def gate(work: Path, count: int) -> list[dict[str, Any]]:
    """One row per quantile: share of calls saved, and of events whose groups led to no call."""
    groups, events = followed(clips_of(work, count), delay_seconds=1.0)
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


def retimed(clip: Path, fps: float, turns: int) -> Iterator[Any]:
    """Packets of a clip so many times over, with so many pictures a second."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        assert video.average_rate is not None
        assert video.time_base is not None
        scale, offset = float(video.average_rate) / fps, 0.0
        for _ in range(turns):
            count = 0
            for packet in container.demux(video):
                if packet.dts is not None and packet.pts is not None:
                    packet.pts = round(packet.pts * scale + offset)
                    packet.dts = round(packet.dts * scale + offset)
                    count += 1
                    yield packet
            offset += count / fps / float(video.time_base)
            container.seek(0)


def sources(clip: Path, fps: float, turns: int = 6) -> list[dict[str, Any]]:
    """One source and two in threads, at full speed for CPU seconds, then two as fast as they are filmed for latency."""
    import threading

    def follow(found: list[tuple[float, float, float]], *, in_real_time: bool) -> None:
        live, begin, groups = LiveTokenizer(CodecTokenizer()), time.monotonic(), []
        for number, packet in enumerate(retimed(clip, fps, turns)):
            if in_real_time:
                time.sleep(max(0.0, begin + number / fps - time.monotonic()))
            groups += live.push(packet)
        groups += live.finish()
        cut = [group for group in groups if group.reason != "end"]
        late = max((group.latency_seconds for group in cut), default=0.0)
        waited = max((group.waited_seconds for group in cut), default=0.0)
        found.append((groups[-1].end_seconds, late, waited))

    rows = []
    follow([], in_real_time=False)
    for count, in_real_time in ((1, False), (2, False), (2, True)):
        found: list[tuple[float, float, float]] = []
        options = {"args": (found,), "kwargs": {"in_real_time": in_real_time}}
        threads = [threading.Thread(target=follow, **options) for _ in range(count)]  # type: ignore[arg-type]
        cpu, wall = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        seconds = found[0][0]
        row = {
            "sources": count, "frames_per_second": fps, "in_real_time": in_real_time,
            "stream_seconds": round(seconds, 2), "cpu_seconds": round(cpu, 3), "cores": os.cpu_count(),
            "cores_needed": round(cpu / seconds, 3), "head_room": round((os.cpu_count() or 1) * seconds / cpu, 1),
            "wall_seconds": round(wall, 3), "load": round(os.getloadavg()[0], 1),
        }  # fmt: skip
        if in_real_time:
            row["worst_latency_seconds"] = round(max(late for _, late, _ in found), 3)
            row["worst_wait_seconds"] = round(max(waited for _, _, waited in found), 3)
        rows.append(row)
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
    parser.add_argument("what", choices=("truth", "truth-gate", "gate", "day", "sources"))
    parser.add_argument("--work", type=Path, default=Path("live-work"))
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--fps", type=int, default=None, help="25, sources 30")
    parser.add_argument("--rate", type=float, default=90.0)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="sets of events")
    parser.add_argument("--real", nargs="+", default=[], help="videos to use as background of sets that are made")
    options = parser.parse_args()
    if options.what == "day":
        rows = day(options.hours, options.fps or 25, options.rate)
    elif options.what == "sources":
        rows = sources(options.clip, options.fps or 30)
    elif options.what == "truth":
        rows = _printed(truth.delays(truth.sets(options.work, options.seeds, options.real)))
    elif options.what == "truth-gate":
        rows = _printed(truth.gate(truth.sparse(options.work)))
    else:
        rows = gate(options.work, options.clips)
    for row in rows:
        print(json.dumps(row))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{options.what}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
