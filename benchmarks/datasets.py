"""What a dataset costs: `ov2kit dataset` over many files, with one and two workers, locally and on Ray, beside peers.

    python -m benchmarks.datasets [CLIP...] [--videos 200] [--peers] [--out benchmarks/results/datasets.json]
    python -m benchmarks.tables

Files of about two minutes are made of the clips by copying packets. Every run is the command itself, in a process of
its own. Processor time is that of all processes which the run started; memory is the peak of the largest of them. The
last run finds nothing to do: what starting costs. What the one process that puts shards together takes for a video is
measured by itself, over pieces of the size that came out. Peers (see
`benchmarks.peers`) do the first few of the same files with a warm process each.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._peers.environments import PeerUnavailableError, prepare
from benchmarks._peers.looping import loop_clip
from benchmarks._peers.process import Worker, WorkerError
from benchmarks.run_info import commit
from ov2kit.codec import CodecTokenizer
from ov2kit.recipes.datasets.piece import Piece, write_piece
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from ov2kit.recipes.evidence.machine import machine_facts

ROOT = Path(__file__).parents[1]
CANVASES = 32
_PEERS = ("codec-video-prep", "lmms-video-utils")
_BECOME_PARENT_OF_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER


class RunError(RuntimeError):
    """A run failed or took too long; what it would have measured is left out."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def make_files(clips: list[Path], folder: Path, count: int, seconds: float) -> float:
    """Write `count` different MP4 files in turn of each clip; returns their seconds in all."""
    folder.mkdir()
    looped = [
        ((made := folder.parent / f"{place}.mp4"), loop_clip(clip, made, seconds)[1])
        for place, clip in enumerate(clips)
    ]
    total = 0.0
    for number in range(count):
        path, length = looped[number % len(looped)]
        mark = f"{number:08d}".encode()  # in a box that readers pass over: no two files are the same
        content = path.read_bytes() + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark
        (folder / f"{number:05d}.mp4").write_bytes(content)
        total += length
    return total


def measured(*arguments: str, timeout: float) -> dict[str, float]:
    """Wall and processor seconds of one command, its orphans included, and the peak of the largest process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ov2kit", "dataset", *arguments, "--quiet"], cwd=ROOT)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise RunError(f"the run took more than {timeout:g} s: {' '.join(arguments)}") from error
    wall = time.perf_counter() - begin
    if process.returncode:
        raise RunError(f"the run failed with status {process.returncode}: {' '.join(arguments)}")
    while time.perf_counter() - begin < wall + 60:  # servers that it started end a little later
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": wall, "cpu_seconds": cpu, "peak_mb": after.ru_maxrss / 1024}


def assembly_seconds(folder: Path, size: int, videos: int = 20) -> dict[str, float]:
    """Processor seconds of putting one shard together from finished pieces of `size` bytes."""
    shards, recipe = ShardFolder(folder), Recipe(CodecTokenizer(CANVASES))
    digests = [f"{number:064x}" for number in range(videos)]
    for digest in digests:
        write_piece(shards.pieces, recipe.key(digest), Piece({"status": "ok"}, {}, os.urandom(size)))
    begin = time.process_time()
    items = [(digest, "") for digest in digests]
    shards.put_together(0, items, [(digest, "", "") for digest in digests], {}, recipe)
    return {"videos": videos, "bytes": size, "cpu_seconds": time.process_time() - begin}


def peer_seconds(files: list[Path], timeout: float) -> dict[str, Any]:
    """Seconds of each peer over the same few files, after one that does not count."""
    found: dict[str, Any] = {}
    cache = Path(__file__).parent / ".peers"
    cache.mkdir(exist_ok=True)
    for method in _PEERS:
        try:
            worker = Worker(method, prepare(method, cache.resolve()), timeout)
        except (PeerUnavailableError, WorkerError) as error:
            found[method] = {"error": str(error)}
            continue
        try:
            worker.ask(do="run", clip=str(files[0]), canvases=CANVASES)
            taken = [worker.ask(do="run", clip=str(path), canvases=CANVASES)["seconds"] for path in files]
            found[method] = {"videos": len(taken), "seconds": sum(taken)}
        except WorkerError as error:
            found[method] = {"error": str(error)}
        finally:
            worker.close()
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, default=[ROOT / "ov2kit/codec/sample/bbb_360p.mp4"])
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each video, about")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"], choices=["local", "ray"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers", action="store_true", help="also the public tools, each installed on the first run")
    parser.add_argument("--peer_videos", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds of one run at most")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/datasets.json")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(_BECOME_PARENT_OF_ORPHANS, 1, 0, 0, 0)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    facts: dict[str, Any] = {"commit": commit(), **machine_facts()}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        total = make_files(args.clips, place / "videos", args.videos, args.seconds)
        files = sorted((place / "videos").iterdir())
        read = sum(path.stat().st_size for path in files)
        options = [str(place / "videos"), "--budget_canvases", str(CANVASES), "--threads", "1"]
        runs = []
        for engine in args.engines:
            for workers in args.workers:
                out = place / f"{engine}{workers}"
                more = ["--out", str(out), "--engine", engine, "--workers", str(workers)]
                try:
                    runs.append(
                        {"engine": engine, "workers": workers, **measured(*options, *more, timeout=args.timeout)}
                    )
                    say(f"{engine}, {workers} workers: {runs[-1]['wall_seconds']:.1f} s")
                except RunError as error:
                    say(str(error))
        first = place / f"{args.engines[0]}{args.workers[0]}"
        written = sum(path.stat().st_size for path in (first / "shards").iterdir())
        nothing = measured(*options, "--out", str(first), timeout=args.timeout)
        assembly = assembly_seconds(place / "assembly", written // args.videos)
        peers = peer_seconds(files[: args.peer_videos], args.timeout) if args.peers else {}
    found = {
        "machine": facts, "videos": args.videos, "video_seconds": total, "bytes_read": read, "bytes_written": written,
        "canvases": CANVASES, "runs": runs, "nothing_to_do": nothing, "assembly": assembly, "peers": peers,
    }  # fmt: skip
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    say(str(args.out))


if __name__ == "__main__":
    main()
