"""Features and truth of clips, kept on disk between runs."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks._peers.environments import clean_environment
from ov2kit.codec.signals import compensate, macroblock_inputs, macroblocks, motion_grid, motion_search
from ov2kit.codec.signals.macroblock_inputs import Moved, macroblock_luma_size, macroblock_signals
from ov2kit.codec.signals.macroblocks import macroblock_features
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video import decode, pictures

EXPORT = Path(__file__).with_name("export_blocks.py")
_FEATURES = (macroblock_inputs, macroblocks, motion_grid, compensate, motion_search, pictures, decode)
_RATIO = (0.8, 1.01)  # block bits / packet bits; headers are in no block


class Sample(NamedTuple):
    """A clip's first frames.

    Attributes:
        name: file name.
        source: footage it shows; clips of the same source are never fitted on and tested with at once.
        codec: FFmpeg's name.
        features: (T, F, R, C) float16.
        whole: (T, G) float32.
        bits: (T, R, C) float32, the truth.
        packets: (T,) float64 packet bits.
        kinds: (T,) "I", "P" or "B".
        quantizer: whether the stream tells it.
    """

    name: str
    source: str
    codec: str
    features: Tensor
    whole: Tensor
    bits: Tensor
    packets: Tensor
    kinds: np.ndarray
    quantizer: bool


class NoTruthError(RuntimeError):
    """There is no usable truth for a clip; the message says why."""


def footage(name: str) -> str:
    """What a clip shows: re-encodes by the source's name, all of Big Buck Bunny and of NASA as one."""
    parts = name.split(".")
    stem = parts[1] if parts[0].isdigit() else parts[0]
    if stem.startswith("bbb_") or stem in ("mve_vid_h264", "mb_video"):
        return "big buck bunny"
    return "nasa" if stem.startswith("nasa_") else stem


def truth(python: Path, clip: Path, frames: int, cache: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Bits (T, R, C), kinds (T,) and the codec, exported once.

    Raises:
        NoTruthError: the patched decoder tells no blocks.
    """
    about = clip.stat()
    path = cache / "blocks" / f"{clip.name}.{about.st_size}.{frames}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [str(python), str(EXPORT), str(clip), str(path), str(frames)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            words = [line for line in done.stderr.splitlines() if line.strip()]
            raise NoTruthError(words[-1] if words else f"the export ended with status {done.returncode}")
    with np.load(path) as data:
        if not np.array_equal(data["frame"], np.arange(len(data["frame"]))):
            raise NoTruthError("frames are missing from the export")
        # now and then the tool counts a few bits back, after it skipped to the end of a coding unit
        return data["bits"].clip(min=0), data["type"], str(data["codec"])


def _version() -> str:
    """Changes with the code that makes features."""
    text = b"".join(Path(str(module.__file__)).read_bytes() for module in _FEATURES)
    return hashlib.sha256(text).hexdigest()[:12]


def load_sample(python: Path, clip: Path, frames: int, cache: Path, moved: Moved) -> Sample:
    """Read, measure and check one clip, or take what an earlier run kept.

    Raises:
        NoTruthError: no truth, or one that does not fit the packets.
    """
    kept = cache / "features" / f"{clip.name}.{clip.stat().st_size}.{frames}.{moved}.{_version()}.safetensors"
    if not kept.is_file():
        sample = _measured(python, clip, frames, cache, moved)
        kept.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value for name, value in sample._asdict().items() if isinstance(value, Tensor)}
        about = {"codec": sample.codec, "kinds": "".join(sample.kinds), "quantizer": sample.quantizer}
        save_file(tensors, kept, metadata={"about": json.dumps(about)})
    with safe_open(str(kept), "pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in ("features", "whole", "bits", "packets")}
    return Sample(
        name=clip.name, source=footage(clip.name), codec=about["codec"], kinds=np.array(list(about["kinds"])),
        quantizer=about["quantizer"], **tensors,
    )  # fmt: skip


def _measured(python: Path, clip: Path, frames: int, cache: Path, moved: Moved) -> Sample:
    bits, kinds, codec = truth(python, clip, frames, cache)
    stream = VideoStream(clip)
    count = min(len(bits), stream.num_frames)
    decoded = stream.frames(
        range(count), rgb=False, luma_size=macroblock_luma_size(stream.info.coded_size),
        reference=True, motion=True, quantizer=True, as_coded=True,
    )  # fmt: skip
    features, whole, packets, told = [], [], [], False
    held = []
    seen = ""
    for frame in decoded:
        held.append(frame)
        seen += frame.kind
        if len(held) == 8 or frame.index == count - 1:
            signals = macroblock_signals(held, moved)
            told = told or bool(signals.quantizer.any())
            local, common = macroblock_features(signals)
            features.append(local.half())
            whole.append(common)
            packets.append(signals.bits)
            held = []
    sizes = torch.cat(packets)
    if len(seen) != count:
        raise NoTruthError(f"{len(seen)} frames decoded, but bits of {count}")
    ratio = float(bits[:count].sum() / sizes.sum())
    if not _RATIO[0] <= ratio <= _RATIO[1]:
        raise NoTruthError(f"blocks hold {ratio:.3f} of the packets' bits")
    if codec == "h264" and seen != "".join(kinds[:count]):
        raise NoTruthError("frame types do not fit")
    return Sample(
        clip.name, footage(clip.name), codec, torch.cat(features), torch.cat(whole),
        torch.from_numpy(bits[:count]), sizes, np.array(list(seen)), told,
    )  # fmt: skip
