"""What a dataset costs: `ov2kit dataset` over many files, with one and two workers, locally and on Ray, beside peers.

    python -m benchmarks.datasets [CLIP...] [--videos 200] [--peers] [--out benchmarks/results/datasets.json]
    python -m benchmarks.tables

Files of 2 to 6 seconds are cut from the clips, and a few of two minutes made of them, both by copying packets. Every
run is the command itself, in a process of its own. Processor time is that of all processes which the run started;
memory is the peak of what all of them have together, shared pages counted once. One run finds nothing to do: what
starting costs. What the one process that puts shards together takes for a video is measured by itself, over pieces of
the size that came out. Peers do the first of the same files with as many workers: codec-video-prep by its own command,
a process per video; lmms-video-utils, which has none, in warm processes.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av

from benchmarks._peers.environments import PeerUnavailableError, clean_environment, prepare
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
LENGTHS, LONG = (2, 3, 4, 5, 6), 120.0
_PEERS = ("codec-video-prep", "lmms-video-utils")
_BECOME_PARENT_OF_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER


class RunError(RuntimeError):
    """A run failed or took too long; what it would have measured is left out."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cut_clip(clip: Path, out: Path, seconds: float) -> float:
    """Copy the packets of the first seconds of a clip; returns how many seconds these are."""
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy, last = target.add_stream_from_template(stream), 0.0
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None or float(packet.dts * stream.time_base) > seconds:
                break
            last = max(last, float((packet.pts + (packet.duration or 0)) * stream.time_base))
            packet.stream = copy
            target.mux_one(packet)
    return last


def make_files(sources: list[tuple[Path, float]], folder: Path, count: int) -> list[float]:
    """Write `count` different MP4 files in turn of each source and its seconds; returns the seconds of each."""
    folder.mkdir()
    lengths = []
    for number in range(count):
        path, length = sources[number % len(sources)]
        mark = f"{number:08d}".encode()  # in a box that readers pass over: no two files are the same
        content = path.read_bytes() + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark
        (folder / f"{number:05d}.mp4").write_bytes(content)
        lengths.append(length)
    return lengths


class Measured:
    """Wall and processor seconds of what a block starts and ends, its orphans included, and the peak of its memory."""

    def __enter__(self) -> "Measured":
        self.before, self.begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        self.peak, self.ended = 0, threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self.begin
        while time.perf_counter() - self.begin < self.wall + 60:  # servers that it started end a little later
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    time.sleep(0.05)
            except ChildProcessError:
                break
        self.ended.set()
        self.watcher.join()

    def facts(self) -> dict[str, float]:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - self.before.ru_utime - self.before.ru_stime
        return {"wall_seconds": self.wall, "cpu_seconds": cpu, "peak_mb": self.peak / 2**20}

    def _watch(self) -> None:
        import psutil

        while not self.ended.wait(0.5):
            held = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    held += process.memory_full_info().pss
                except psutil.Error:  # it has ended meanwhile
                    continue
            self.peak = max(self.peak, held)


def measured(*arguments: str, timeout: float) -> dict[str, float]:
    """What one run of the command takes."""
    with Measured() as taken:
        process = subprocess.Popen([sys.executable, "-m", "ov2kit", "dataset", *arguments, "--quiet"], cwd=ROOT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise RunError(f"the run took more than {timeout:g} s: {' '.join(arguments)}") from error
    if process.returncode:
        raise RunError(f"the run failed with status {process.returncode}: {' '.join(arguments)}")
    return taken.facts()


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


def peer_run(method: str, python: Path, files: list[Path], workers: int, timeout: float) -> dict[str, float]:
    """What a peer takes for the files, its start included.

    Raises:
        WorkerError: it failed.
    """

    def command(paths: list[Path], out: Path) -> None:
        for path in paths:
            call = [str(python.with_name(method)), "--video", str(path), "--out_dir", str(out / path.stem)]
            done = subprocess.run(
                [*call, "--num_sampled_frames", str(8 * CANVASES)], env=clean_environment(), capture_output=True,
                text=True, timeout=timeout, check=False,
            )  # fmt: skip
            if done.returncode:
                raise WorkerError(f"{method}: {done.stderr[-300:]}")

    def warm(paths: list[Path], out: Path) -> None:
        worker = Worker(method, python, timeout)
        try:
            for path in paths:
                worker.ask(do="run", clip=str(path), canvases=CANVASES)
        finally:
            worker.close()

    with tempfile.TemporaryDirectory() as out, Measured() as taken, ThreadPoolExecutor(workers) as pool:
        run = command if method == "codec-video-prep" else warm
        list(pool.map(lambda start: run(files[start::workers], Path(out)), range(workers)))
    return taken.facts()


def peer_runs(files: dict[str, list[Path]], workers: list[int], timeout: float) -> dict[str, Any]:
    """Each peer with each number of workers, or why it did not run."""
    found: dict[str, Any] = {}
    cache = Path(__file__).parent / ".peers"
    cache.mkdir(exist_ok=True)
    for method, mine in files.items():
        try:
            python = prepare(method, cache.resolve())
            runs = [{"workers": each, **peer_run(method, python, mine, each, timeout)} for each in workers]
        except (PeerUnavailableError, WorkerError, OSError, subprocess.TimeoutExpired) as error:
            found[method] = {"error": " ".join(str(error).split())[:300]}
            say(f"{method}: {found[method]['error']}")
            continue
        found[method] = {"videos": len(mine), "runs": runs}
        say(f"{method}: {len(mine)} videos in {', '.join(format(run['wall_seconds'], '.1f') for run in runs)} s")
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, default=[ROOT / "ov2kit/codec/sample/bbb_360p.mp4"])
    parser.add_argument("--videos", type=int, default=200, help="of 2 to 6 seconds")
    parser.add_argument("--long_videos", type=int, default=4, help="of two minutes, for what a million of them cost")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"], choices=["local", "ray"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers", action="store_true", help="also the public tools, each installed on the first run")
    parser.add_argument("--peer_videos", nargs=2, type=int, default=[40, 10], help="for each of the two, at most")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of one run at most")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/datasets.json")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(_BECOME_PARENT_OF_ORPHANS, 1, 0, 0, 0)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_ADDRESS", "local")  # not a cluster that happens to be there
    facts: dict[str, Any] = {"commit": commit(), **machine_facts()}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        cuts, looped = [], []
        for number, clip in enumerate(args.clips):
            for seconds in LENGTHS:
                out = place / f"{number}-{seconds}.mp4"
                cuts.append((out, cut_clip(clip, out, seconds)))
            out = place / f"{number}.mp4"
            looped.append((out, loop_clip(clip, out, LONG)[1]))
        lengths = make_files(cuts, place / "videos", args.videos)
        long_lengths = make_files(looped, place / "long", args.long_videos)
        files = sorted((place / "videos").iterdir())
        options = ["--budget_canvases", str(CANVASES), "--threads", "1"]
        runs = []
        for engine in args.engines:
            for workers in args.workers:
                out = place / f"{engine}{workers}"
                more = [*options, "--out", str(out), "--engine", engine, "--workers", str(workers)]
                try:
                    taken = measured(str(place / "videos"), *more, timeout=args.timeout)
                except RunError as error:
                    say(str(error))
                    continue
                runs.append({"engine": engine, "workers": workers, **taken})
                say(f"{engine}, {workers} workers: {taken['wall_seconds']:.1f} s")
        first = [*options, "--out", str(place / "long-out")]
        long_run = measured(str(place / "long"), *first, timeout=args.timeout)
        nothing = measured(str(place / "long"), *first, timeout=args.timeout)
        say(f"{args.long_videos} of two minutes: {long_run['wall_seconds']:.1f} s")
        written = sum(path.stat().st_size for path in (place / "long-out" / "shards").iterdir())
        assembly = assembly_seconds(place / "assembly", written // args.long_videos)
        several = {method: files[:most] for method, most in zip(_PEERS, args.peer_videos, strict=True)}
        peers = peer_runs(several, args.workers, args.timeout) if args.peers else {}
        for peer in peers.values():
            if "videos" in peer:
                peer["video_seconds"] = sum(lengths[: peer["videos"]])
        long = {
            "videos": args.long_videos, "video_seconds": sum(long_lengths), "bytes_written": written,
            "bytes_read": sum(path.stat().st_size for path in (place / "long").iterdir()), **long_run,
        }  # fmt: skip
    found = {
        "machine": facts, "videos": args.videos, "video_seconds": sum(lengths), "canvases": CANVASES, "runs": runs,
        "long": long, "nothing_to_do": nothing, "assembly": assembly, "peers": peers,
    }  # fmt: skip
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    say(str(args.out))


if __name__ == "__main__":
    main()
