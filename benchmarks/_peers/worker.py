"""One method in a process of its own: reads requests, one JSON object a line, and answers in kind.

Run by the Python of the environment that has the method: `python worker.py METHOD`. Needs nothing
but the method's own packages (all of them bring numpy). Requests:
  {"do": "run", "clip": PATH, "canvases": N} -> {"seconds": S, ...facts}
  {"do": "choice", "path": NPZ}              -> {} after writing what the last run chose
  {"do": "memory"}                           -> {"peak_mb": M}
A choice is: blocks (n, 3) int64 (decoded frame index, block row, block col) without the blocks of
anchors, grid (2,) blocks per column and row, anchors (m,) frame indices. The method "decode" gives
times (frames,) float64 seconds instead.
"""

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


class Ours:
    """`CodecTokenizer` of this project."""

    def __init__(self) -> None:
        from ov2kit.codec import CodecTokenizer

        self.make = CodecTokenizer
        self.tokenizers: dict[int, Any] = {}

    def run(self, clip: str, canvases: int) -> dict[str, Any]:
        if canvases not in self.tokenizers:
            self.tokenizers[canvases] = self.make(budget_canvases=canvases)
        self.result = self.tokenizers[canvases](clip)
        return {
            "canvases": len(self.result),
            "pixels": list(self.result.images.shape[2:]),
            "signal": self.result.signal,
            "stages": self.result.provenance.get("seconds", {}),
        }

    def choice(self) -> dict[str, np.ndarray]:
        merge, grid = self.result.merge, self.result.grid
        blocks = self.result.positions[:, ::merge, ::merge].numpy().astype(np.int64)
        is_anchor = self.result.is_anchor.numpy()
        chosen = blocks[~is_anchor].reshape(-1, 3)
        chosen = chosen[chosen[:, 0] >= 0]
        return {
            "blocks": chosen // np.array([1, merge, merge]),
            "grid": np.array(grid) // merge,
            "anchors": np.unique(blocks[is_anchor, 0, 0, 0]),
            "frame_ids": np.array(sorted(self.result.frame_times), dtype=np.int64),
            "frame_times": np.array([self.result.frame_times[k] for k in sorted(self.result.frame_times)]),
        }


class BareDecode:
    """PyAV decoding all frames of the best video stream, vectors exported as they must be."""

    def __init__(self) -> None:
        import av

        av.logging.set_level(None)
        self.av = av

    def run(self, clip: str, canvases: int) -> dict[str, Any]:
        self.times: list[float] = []
        failed = 0
        with self.av.open(clip, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            stream.codec_context.options = {"flags2": "+export_mvs"}
            stream.thread_type = "SLICE"
            for packet in container.demux(stream):
                try:
                    self.times += [float("nan") if frame.time is None else frame.time for frame in packet.decode()]
                except self.av.error.EOFError:
                    break
                except self.av.error.InvalidDataError:
                    failed += 1
            context = stream.codec_context
            facts = {"codec": context.name, "size": [context.width, context.height]}
        return {"frames": len(self.times), "failed_packets": failed, **facts}

    def choice(self) -> dict[str, np.ndarray]:
        return {"times": np.array(self.times)}


class Floor:
    """What `CodecTokenizer` cannot do without: opening the file, and decoding its candidates with their vectors."""

    def __init__(self, threads: int | None = None) -> None:
        from ov2kit.codec import CodecTokenizer, VideoStream

        self.make, self.open, self.threads = CodecTokenizer, VideoStream, threads
        self.wanted: dict[tuple[str, int], list[int]] = {}

    def run(self, clip: str, canvases: int) -> dict[str, Any]:
        key = clip, canvases
        if key not in self.wanted:
            self.wanted[key] = self.candidates(clip, canvases)
        stream = self.open(clip, threads=self.threads)
        return {"frames": sum(1 for _ in stream.frames(self.wanted[key], rgb=False, motion=True))}

    def candidates(self, clip: str, canvases: int) -> list[int]:
        """The frames that the tokenizer asks for."""
        asked: list[int] = []

        class Asked(self.open):  # type: ignore[misc, name-defined]
            def requested(self, indices: Any, request: Any) -> Any:
                asked.extend(indices)
                return super().requested(indices, request)

        self.make(budget_canvases=canvases, threads=self.threads)(Asked(clip, threads=self.threads))
        return asked

    def choice(self) -> dict[str, np.ndarray]:
        return {}


class CodecVideoPrep:
    """codec-video-prep: 8 sampled frames per canvas, 4 canvases per group, other options as they come."""

    def __init__(self) -> None:
        from codec_video_prep import run_preinfer

        self.call = run_preinfer
        self.folder = tempfile.mkdtemp(prefix="peer-")

    def run(self, clip: str, canvases: int) -> dict[str, Any]:
        self.clear()
        result = self.call(clip, self.folder, num_sampled_frames=8 * canvases, decode_backend="cv_reader_pixels")
        self.meta = result.summary
        return {
            "canvases": len(result.canvas_files),
            "pixels": self.meta["padded_hw"],
            "signal": self.meta["score_source"],
            "stages": result.timings,
        }

    def clear(self) -> None:
        for path in Path(self.folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def choice(self) -> dict[str, np.ndarray]:
        rows, cols = self.meta["hb_wb"]
        block = int(self.meta["block_size"])
        patches = np.load(Path(self.folder) / "src_patch_position.npy").astype(np.int64)
        return split_groups(patches.reshape(-1, rows * cols, 3), int(self.meta["images_per_group"]), block, rows, cols)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class LmmsVideoUtils:
    """lmms-video-utils: motion-warped residual and bit-cost groups."""

    def __init__(self) -> None:
        import warnings

        warnings.simplefilter("ignore")  # it warns about every clip with fewer frames than it samples
        from lmms_video_utils import fetch_codec_video

        self.call = fetch_codec_video

    def run(self, clip: str, canvases: int) -> dict[str, Any]:
        self.result = self.call(clip, target_canvas=canvases, score_mode="mvwarp", gop_mode="bitcost")
        height, width = self.result.canvases.shape[-2:]
        return {"canvases": len(self.result.canvases), "pixels": [height, width], "signal": "mvwarp+bitcost"}

    def choice(self) -> dict[str, np.ndarray]:
        rows, cols = (side // 14 for side in self.result.canvases.shape[-2:])
        patches = self.result.patch_positions.numpy().astype(np.int64)
        return split_groups(patches.reshape(-1, rows * cols, 3), 4, 2, rows, cols)


def split_groups(patches: np.ndarray, per_group: int, block: int, rows: int, cols: int) -> dict[str, np.ndarray]:
    """(K, patches, 3) positions, every `per_group`-th canvas an anchor -> a choice."""
    anchor = np.arange(len(patches)) % per_group == 0
    chosen = patches[~anchor].reshape(-1, 3)
    chosen = np.unique(chosen[chosen[:, 0] >= 0] // np.array([1, block, block]), axis=0)
    return {"blocks": chosen, "grid": np.array([rows, cols]) // block, "anchors": np.unique(patches[anchor, 0, 0])}


METHODS = {
    "ours": Ours,
    "plain": Ours,
    "floor": Floor,
    "decode": BareDecode,
    "codec-video-prep": CodecVideoPrep,
    "lmms-video-utils": LmmsVideoUtils,
}


def peak_memory() -> dict[str, float]:
    """Peak resident memory in MB of this process; programs that it calls are not counted.

    ru_maxrss can carry the parent's size over from the fork, so the kernel's own mark is preferred.
    """
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        peak_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    return {"peak_mb": round(peak_kb / 1024, 1)}


def answer(method: Any, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "run":
        start = time.perf_counter()
        facts = method.run(request["clip"], request["canvases"])
        return {"seconds": time.perf_counter() - start, **facts}
    if request["do"] == "choice":
        np.savez(request["path"], **method.choice())
        return {}
    return peak_memory()


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the method prints must not mix with the replies
    method = METHODS[sys.argv[1]]()
    replies.write(json.dumps({"ready": True, **peak_memory()}) + "\n")
    for line in sys.stdin:
        try:
            reply = answer(method, json.loads(line))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        replies.write(json.dumps(reply) + "\n")
    if hasattr(method, "close"):
        method.close()


if __name__ == "__main__":
    main()
