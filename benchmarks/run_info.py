"""What every number of a benchmark holds for: commit, versions, machine, threads."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ov2kit.recipes.evidence.machine import machine_facts

_ROOT = Path(__file__).parents[1]


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
    facts = machine_facts(("torch", "numpy", "av", "pillow"))
    return {"commit": commit(), "device": name, "threads": torch.get_num_threads(), **facts}
