"""What works on this machine: versions, extras, attention backends, codecs and their signals."""

import json
import platform
from importlib import metadata
from typing import Any

import av
import torch
from jsonargparse import ArgumentParser, Namespace

import ov2kit
from ov2kit.codec.video.vectors import MOTION_CODECS
from ov2kit.encoders import attention_backends
from ov2kit.encoders.backends.pairs import misfits

_CORE = ("torch", "numpy", "av", "einops", "timm", "safetensors", "pillow", "jsonargparse", "tqdm")
_EXTRAS = {
    "fast": {"numba": "kernels that tokenize in less time"},
    "gpu": {
        "xformers": "block-diagonal attention kernels on CUDA",
        "mslk-cuda": "the same kernels for newer torch, in the place of xformers",
    },
    "recipes": {
        "lightning": "training loops and their command line",
        "transformers": "language models and tokenizers",
        "torchmetrics": "metrics",
        "matplotlib": "plots",
        "pycocotools": "masks of objects, and their scores",
    },
    "peft": {"peft": "LoRA adapters"},
    "quantization": {"bitsandbytes": "weights in 8 and 4 bits beside adapters"},
    "scale": {"pyarrow": "datasets of any number of videos", "ray": "the same on a cluster"},
}
_CODECS = {
    "h264": "H.264", "hevc": "HEVC", "vp8": "VP8", "vp9": "VP9", "av1": "AV1", "mpeg4": "MPEG-4 part 2",
    "mpeg2video": "MPEG-2", "mpeg1video": "MPEG-1", "mjpeg": "Motion JPEG", "gif": "GIF", "prores": "ProRes",
    "h263": "H.263", "flv": "Sorenson Spark", "wmv2": "WMV 8", "theora": "Theora",
}  # fmt: skip


def parser() -> ArgumentParser:
    """Options of `ov2kit doctor`."""
    command = ArgumentParser(
        description="Versions, extras, codecs and their signals on this machine.", exit_on_error=False
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit doctor`."""
    findings = examine()
    print(json.dumps(findings, indent=2) if parsed.json else render(findings))
    return 0


def examine() -> dict[str, Any]:
    """Everything `render` shows, as JSON-able values."""
    return {
        "ov2kit": ov2kit.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "core": {name: _version(name) for name in _CORE},
        "ffmpeg": {name: ".".join(map(str, v)) for name, v in av.library_versions.items()},
        "extras": {
            extra: {name: {"version": _version(name), "adds": adds} for name, adds in packages.items()}
            for extra, packages in _EXTRAS.items()
        },
        "attention": attention_backends(),
        "kernels": misfits(),
        "codecs": {
            name: {
                "title": title,
                "decodes": (decodes := _decodes(name)),
                "bytes": decodes,
                "types": decodes,
                "motion": decodes and name in MOTION_CODECS,
            }
            for name, title in _CODECS.items()
        },
    }


def render(findings: dict[str, Any]) -> str:
    """The findings as text for a terminal."""
    gpu = findings["gpu"] or "none"
    lines = [
        f"ov2kit {findings['ov2kit']}, Python {findings['python']}, {findings['machine']}, "
        f"{findings['threads']} torch threads, GPU: {gpu}",
        "",
        "packages",
        *(f"  {name:<14} {version or 'MISSING'}" for name, version in findings["core"].items()),
        *(f"  {name:<14} {version}" for name, version in findings["ffmpeg"].items() if name.startswith("libav")),
        "",
        "extras",
    ]
    for extra, packages in findings["extras"].items():
        for name, facts in packages.items():
            state = facts["version"] or f"not installed: pip install 'ov2kit[{extra}]'"
            lines.append(f"  {name:<14} {state} - {facts['adds']}")
    lines += ["", "attention backends"]
    for name, reasons in findings["attention"].items():
        lines.append(f"  {name:<14} {'works' if not reasons else 'no: ' + '; '.join(reasons)}")
    lines += [f"  {why}" for why in findings["kernels"].values()]
    lines += ["", "codecs          decodes  bytes  types  motion vectors"]
    for facts in findings["codecs"].values():
        marks = [("yes" if facts[key] else "no") for key in ("decodes", "bytes", "types", "motion")]
        lines.append(f"  {facts['title']:<14} {marks[0]:<8} {marks[1]:<6} {marks[2]:<6} {marks[3]}")
    lines.append("  where there are no motion vectors: luma difference, or motion='estimate'")
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _decodes(name: str) -> bool:
    try:
        av.codec.Codec(name, "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True
