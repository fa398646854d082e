"""Whether a package of attention kernels was built for the torch beside it.

Such kernels are compiled against one torch and one CUDA runtime; beside others their library does
not load, or only a part of it runs. Read from the packages' files, without importing them.
"""

import importlib.util
import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch

#: what mslk-cuda was built for: (torch, CUDA) by its first two numbers. 1.0 says so in its metadata; 1.1 links
#: CUDA 13 and runs beside torch 2.11 (benchmarks/results/gpu_h200.md)
_MSLK = {"1.0": ("2.10", "12"), "1.1": ("2.11", "13")}


def misfit(
    package: str,
    version: str,
    built: tuple[str, str],
    here: tuple[str, str | None],
    *,
    newer_torch: bool = False,
) -> str | None:
    """Which of the two is too new for the other, or None if they fit.

    Args:
        package: name of the kernels' distribution.
        version: its version.
        built: (torch, CUDA) that it was built for.
        here: (torch, CUDA) that is installed; CUDA None for a torch without it.
        newer_torch: whether it also runs beside a newer torch with the same CUDA.
    """
    torch_here, cuda_here = here
    made = f"{package} {version} was built for torch {built[0]} with CUDA {built[1]}"
    this = f"torch {torch_here} {f'with CUDA {cuda_here}' if cuda_here else 'without CUDA'}"
    cure = "pip install --constraint constraints-gpu.txt 'ov2kit[gpu]' gives two that fit"
    if cuda_here is None:
        return f"{this} cannot run kernels on a GPU; {made}"
    mine, its = (_numbers(torch_here)[:2], _numbers(built[0])[:2])
    cuda_mine, cuda_its = (_numbers(cuda_here)[:1], _numbers(built[1])[:1])
    if mine < its or cuda_mine < cuda_its:
        return f"{package} {version} is too new for {this}: {made}; {cure}"
    if (mine > its and not newer_torch) or cuda_mine > cuda_its:
        return f"{this} is too new for {package} {version}: {made}; {cure}"
    return None


def misfits() -> dict[str, str]:
    """Installed kernel packages that do not fit the installed torch, and why."""
    here = (torch.__version__.partition("+")[0], torch.version.cuda)
    found = {}
    for package, look in _PACKAGES.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        built = look(version)
        newer = any(re.match(r"torch\b.*>=", need) for need in metadata.requires(package) or ())
        if built and (why := misfit(package, version, built, here, newer_torch=newer)):
            found[package] = why
    return found


def _xformers(version: str) -> tuple[str, str] | None:
    try:
        spec = importlib.util.find_spec("xformers")
        built = json.loads((Path(str(spec and spec.origin)).parent / "cpp_lib.json").read_text(encoding="utf-8"))[
            "version"
        ]
        return str(built["torch"]).partition("+")[0], f"{int(built['cuda']) // 100}.{int(built['cuda']) % 100}"
    except (OSError, ValueError, KeyError, TypeError):  # built without kernels, or by hand
        return None


def _mslk(version: str) -> tuple[str, str] | None:
    return _MSLK.get(".".join(version.split(".")[:2]))


_PACKAGES: dict[str, Callable[[str], tuple[str, str] | None]] = {"xformers": _xformers, "mslk-cuda": _mslk}


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
