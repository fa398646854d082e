"""ov2kit against the public tools that do the same job, side by side in one run.

    python -m benchmarks.peers CLIP... [--out results.json] [--markdown table.md]
    python -m benchmarks.peers --hour CLIP

Measured on each clip: `CodecTokenizer` of this checkout, with its kernels and without; its floor, which opens the file
and decodes the same frames with their vectors and makes nothing of them; bare PyAV decoding of all frames with
right motion vectors; codec-video-prep 0.2.5; lmms-video-utils 0.1.0 (each peer in an environment of
its own, made on the first run; lmms-video-utils needs about 6 GB there). Every method has a process
of its own per clip, warmed by one call that does not count; the methods take turns, in another
order each round, and the median counts. Peak memory is that of the process, imports included.
"""

import argparse
import json
import statistics
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._peers.agreement import cells, compare
from benchmarks._peers.environments import PeerUnavailableError, prepare, versions
from benchmarks._peers.looping import loop_clip
from benchmarks._peers.process import Worker, WorkerError
from benchmarks._peers.tables import HOUR_RATIOS, NAMES, agreement_table, hour_table, off_budget, speed_table, verdicts
from ov2kit.recipes.evidence.machine import machine_facts

METHODS = ("ours", "plain", "floor", "decode", "codec-video-prep", "lmms-video-utils")
HOUR_METHODS = ("ours", "decode", "codec-video-prep")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(
    pythons: dict[str, Path], clip: Path, warm_clip: Path, canvases: int, *, rounds: int, timeout: float, choices: Path
) -> dict[str, dict[str, Any]]:
    """Run every method on one clip, taking turns.

    Returns:
        Per method either {"error": ...} or median_seconds, all seconds, peak memory and facts.
        What was chosen lies in `choices`/METHOD.npz.
    """
    found: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}

    def attempt(method: str, **request: Any) -> dict[str, Any]:
        try:
            return workers[method].ask(**request)
        except WorkerError as error:
            found[method] = {"error": str(error)}
            say(f"  {error}")
            workers.pop(method).close()
            return {}

    try:
        for method, python in pythons.items():
            try:
                workers[method] = Worker(method, python, timeout)
            except WorkerError as error:
                found[method] = {"error": str(error)}
                say(f"  {error}")
                continue
            attempt(method, do="run", clip=str(warm_clip), canvases=canvases)
        runs: dict[str, list[dict[str, Any]]] = {m: [] for m in workers}
        for n in range(rounds):
            order = [*pythons][n % len(pythons) :] + [*pythons][: n % len(pythons)]
            for method in order if n % 2 == 0 else order[::-1]:
                if method in workers and (reply := attempt(method, do="run", clip=str(clip), canvases=canvases)):
                    runs[method].append(reply)
                    say(f"  {NAMES[method]}: {reply['seconds']:.2f} s")
        for method in [*workers]:
            memory = attempt(method, do="memory")
            if not memory:
                continue
            attempt(method, do="choice", path=str(choices / f"{method}.npz"))
            if method in workers:
                took = [r["seconds"] for r in runs[method]]
                facts = {k: v for k, v in runs[method][-1].items() if k != "seconds"}
                idle = round(workers[method].idle_mb, 1)
                found[method] = {"median_seconds": statistics.median(took), "seconds": took, **facts, **memory}
                found[method]["idle_mb"] = idle
    finally:
        for worker in workers.values():
            worker.close()
    return {m: found[m] for m in pythons if m in found}


def agreements(choices: Path, bin_seconds: float) -> dict[str, dict[str, float]]:
    """Every pair of choices in a folder: "A / B" -> `Agreement` as a dictionary."""
    if not (choices / "decode.npz").is_file():
        return {}
    times = np.load(choices / "decode.npz")["times"]
    if not len(times) or np.isnan(times).any():
        return {}
    times = times - times.min()
    loaded = {}
    for method in METHODS:
        path = choices / f"{method}.npz"
        if method not in ("plain", "floor", "decode") and path.is_file():
            loaded[method] = np.load(path)
    found = {}
    for a, b in combinations(loaded, 2):
        common = (int(loaded[b]["grid"][0]), int(loaded[b]["grid"][1]))
        maps = [cells(loaded[m]["blocks"], loaded[m]["grid"], times, common, bin_seconds) for m in (a, b)]
        found[f"{NAMES[a]} / {NAMES[b]}"] = compare(*maps)._asdict()
    return found


def describe(methods: dict[str, dict[str, Any]], duration: float | None) -> str:
    facts = methods.get("decode", {})
    if "size" not in facts:
        return "?"
    length = "" if duration is None else f", {duration:.0f} s"
    return f"{facts['codec']} {facts['size'][0]}x{facts['size'][1]}{length}"


def run_clips(args: argparse.Namespace, pythons: dict[str, Path]) -> list[dict[str, Any]]:
    results = []
    for clip in args.clips:
        say(clip.name)
        with tempfile.TemporaryDirectory(prefix="choices-") as folder:
            choices = Path(folder)
            methods = measure(
                pythons, clip, clip, args.canvases, rounds=args.rounds, timeout=args.timeout, choices=choices
            )
            times = np.load(choices / "decode.npz")["times"] if (choices / "decode.npz").is_file() else np.zeros(0)
            duration = float(np.ptp(times)) if len(times) else None
            entry = {"name": clip.name, "stream": describe(methods, duration), "methods": methods}
            entry["agreement"] = agreements(choices, args.bin_seconds)
            results.append(entry)
    return results


def run_hour(args: argparse.Namespace, pythons: dict[str, Path]) -> dict[str, Any]:
    """One hour, and the memory that one minute of the same stream takes."""
    with tempfile.TemporaryDirectory(prefix="hour-", dir=args.cache) as folder:
        hour, minute = Path(folder) / "hour.mp4", Path(folder) / "minute.mp4"
        packets, length = loop_clip(args.hour, hour, 3600.0, args.hour_stream)
        loop_clip(args.hour, minute, 60.0, args.hour_stream)
        say(f"one hour of {args.hour.name}: {packets} packets, {hour.stat().st_size / 1e6:.0f} MB")
        # alone and first, so that the peak is the minute's
        small = measure(
            pythons, minute, minute, args.hour_canvases, rounds=1, timeout=args.timeout, choices=Path(folder)
        )
        methods = measure(
            pythons, hour, minute, args.hour_canvases, rounds=args.rounds, timeout=args.timeout, choices=Path(folder)
        )
    entry = {"name": f"{args.hour.name}, one hour", "stream": describe(methods, length), "packets": packets}
    return {**entry, "methods": methods, "minute": small}


def report(results: dict[str, Any]) -> str:
    m = results["machine"]
    parts = [f"{m['processor']}, {m['cores']} cores, Python {m['python']}, {m['date']}; median of {results['rounds']}."]
    if clips := results["clips"]:
        methods = [x for x in METHODS if any(x in c["methods"] for c in clips)]
        parts += [f"{results['canvases']} canvases:", speed_table(clips, methods), verdicts(clips)]
        parts += [off_budget(clips, results["canvases"]), agreement_table(clips)]
    if hour := results.get("hour"):
        parts += [f"{hour['name']} ({hour['stream']}), {results['hour_canvases']} canvases:", hour_table(hour)]
        parts.append(verdicts([hour], HOUR_RATIOS))
    failures = [
        f"- {NAMES[x]} on {c['name']}: {v['error']}"
        for c in [*results["clips"], *([results["hour"]] if "hour" in results else [])]
        for x, v in c["methods"].items()
        if "error" in v
    ]
    parts.append("\n".join(failures and ["Failures:", *failures]))
    return "\n\n".join(part for part in parts if part) + "\n"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", help="video files")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), help="methods to run")
    parser.add_argument("--canvases", type=int, default=32, help="budget per clip (default 32)")
    parser.add_argument("--rounds", type=int, default=3, help="calls that count, per method and clip (default 3)")
    parser.add_argument("--bin-seconds", type=float, default=0.5, help="time bin of the agreement (default 0.5)")
    parser.add_argument("--hour", type=Path, metavar="CLIP", help="also loop this clip to one hour and measure that")
    parser.add_argument("--hour-stream", type=int, help="which video stream to loop, from 0 (default: the best)")
    parser.add_argument("--hour-canvases", type=int, default=128, help="budget for the hour (default 128)")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds that one call may take (default 900)")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / ".peers", help="environments")
    args = parser.parse_args(argv)
    if not args.clips and args.hour is None:
        parser.error("give a CLIP, or --hour CLIP")
    for clip in [*args.clips, *([args.hour] if args.hour else [])]:
        if not clip.is_file():
            parser.error(f"{clip}: no such file")
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    args.clips = [clip.resolve() for clip in args.clips]
    args.cache.mkdir(parents=True, exist_ok=True)
    args.cache = args.cache.resolve()
    return args


def main() -> int:
    args = parse()
    pythons: dict[str, Path] = {}
    for method in METHODS:
        if method not in args.only:
            continue
        try:
            here = Path(sys.executable)
            pythons[method] = here if method in ("ours", "plain", "floor", "decode") else prepare(method, args.cache)
        except PeerUnavailableError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    results: dict[str, Any] = {
        "machine": machine_facts(("numpy", "av")),
        "rounds": args.rounds,
        "canvases": args.canvases,
    }
    results |= {"hour_canvases": args.hour_canvases, "bin_seconds": args.bin_seconds}
    results["versions"] = {m: versions(p) for m, p in pythons.items() if m not in ("floor", "decode")}
    results["clips"] = run_clips(args, pythons)
    if args.hour:
        results["hour"] = run_hour(args, {m: p for m, p in pythons.items() if m in HOUR_METHODS})
    text = report(results)
    print(text)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if args.markdown:
        args.markdown.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
