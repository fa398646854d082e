"""Whether the attention kernels beside this torch can be loaded, as far as that shows without a GPU.

    python -m venv gpu && gpu/bin/pip install torch xformers --constraint constraints-gpu.txt
    gpu/bin/python -m benchmarks.gpu_libraries

Loads every compiled library of xformers and mslk with all of its symbols resolved. A library that
misses a symbol of torch, or a CUDA runtime, fails here as it would on a machine with a GPU; whether
a kernel runs on a GPU is for `gpu.py`. Needs nothing of ov2kit. Exit status 1 if one does not load,
2 if there is none.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import torch


def libraries():
    for package in ("xformers", "mslk"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(Path(folder).rglob("*.so"))


def main():
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
    failed, found = 0, list(libraries())
    for library in found:
        try:
            ctypes.CDLL(str(library), mode=os.RTLD_NOW)
            print(f"loads: {'/'.join(library.parts[-2:])}")
        except OSError as error:
            failed += 1
            print(f"does not load: {'/'.join(library.parts[-2:])}: {str(error).rpartition('/')[2]}")
    if not found:
        print("no compiled kernels of xformers or mslk are installed")
        return 2
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
