"""What every number of a benchmark holds for: commit, versions, machine, threads."""

import os
import platform
import subprocess
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


def machine() -> dict[str, Any]:
    """Processor, usable cores, system, Python, day and load."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        model = named[0] if named else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"processor": model, "cores": usable, "system": platform.platform(terse=True)}
    return {**facts, "python": platform.python_version(), "when": time.strftime("%Y-%m-%d"), "load": os.getloadavg()}


@cache
def commit() -> str:
    """Short hash of the checkout, with ``+`` when files differ from it; "unknown" outside of git."""
    ask = ["git", "-C", str(_ROOT)]
    try:
        head = subprocess.run([*ask, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*ask, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def run_info(device: str = "cpu") -> dict[str, Any]:
    """For `benchmark.extra_info`.

    Args:
        device: "cpu" or "cuda": whose name is reported, beside the machine's processor.
    """
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    packages = {package: _version(package) for package in ("torch", "numpy", "av", "pillow")}
    return {"commit": commit(), "device": name, "threads": torch.get_num_threads(), **packages, **machine()}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
