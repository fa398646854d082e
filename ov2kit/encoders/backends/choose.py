"""Pick the backend that runs, and say why the others did not."""

import functools
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from ov2kit.encoders.backends.backend import Backend
from ov2kit.encoders.backends.eager import EAGER
from ov2kit.encoders.backends.flex import FLEX
from ov2kit.encoders.backends.sdpa import SDPA
from ov2kit.encoders.backends.varlen import VARLEN
from ov2kit.encoders.backends.xformers import XFORMERS
from ov2kit.errors import check_choice, check_type
from ov2kit.segments import Segments

BackendName = Literal["auto", "varlen", "xformers", "sdpa", "flex", "eager"]

#: Fastest first among those that "auto" may take; the others only by name. Measured on an H200, see
#: benchmarks/results/gpu_h200.md: `varlen` is as fast as `xformers` with half of its overhead.
BACKENDS = (VARLEN, XFORMERS, SDPA, FLEX, EAGER)
#: The same where segments have one length, and are a batch then, or see each other's keys, for which
#: the others would need a call for each.
BATCHED = (SDPA, VARLEN, XFORMERS, FLEX, EAGER)

#: choices already made, by all that the reasons of a backend depend on
_made: dict[tuple[object, ...], "Choice"] = {}


@dataclass(frozen=True)
class Choice:
    """The backend that runs, and the reasons of each faster one that cannot."""

    backend: Backend
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.backend.name

    def __str__(self) -> str:
        skipped = [f"{name} ({', '.join(reasons)})" for name, reasons in self.passed_over.items()]
        return self.name + (f"; passed over: {'; '.join(skipped)}" if skipped else "")


def choose(q: Tensor, segments: Segments, want: BackendName = "auto") -> Choice:
    """The backend for these tensors.

    Args:
        q: (N, H, D) queries; only device, dtype, shape and whether it needs gradients are read.
        segments: who sees whom.
        want: "auto" takes the first that can run of `BACKENDS` for mixed lengths, of `BATCHED`
            otherwise; a name is never swapped for another.

    Raises:
        RuntimeError: the backend asked for cannot run; lists every reason.
        ValueError: unknown name.
    """
    needs_grad = q.requires_grad and torch.is_grad_enabled()
    mixed = segments.keys is None and _are_mixed(segments.lengths)
    key = (want, q.device, q.dtype, q.shape[-1], needs_grad, segments.keys is None, mixed)
    try:
        made = _made.get(key)
    except TypeError:  # a list has no place among keys
        check_name(want)
        raise
    if made is None:
        made = _made[key] = _choose(q, segments, want)
    return made


def _choose(q: Tensor, segments: Segments, want: BackendName) -> Choice:
    passed_over: dict[str, list[str]] = {}
    mixed = segments.keys is None and _are_mixed(segments.lengths)
    for backend in BACKENDS if mixed else BATCHED:
        if want == backend.name or (want == "auto" and backend.auto):
            reasons = backend.why_not(q, segments)
            if not reasons:
                return Choice(backend, passed_over)
            if want == backend.name:
                raise RuntimeError(
                    f"attention backend {want!r} cannot run q {tuple(q.shape)}:\n  - " + "\n  - ".join(reasons)
                )
            passed_over[backend.name] = reasons
    check_name(want)
    raise RuntimeError(f"no attention backend can run q {tuple(q.shape)}: {passed_over}")


@functools.lru_cache(maxsize=16)
def _are_mixed(lengths: tuple[int, ...]) -> bool:
    return len(set(lengths)) > 1


def check_name(want: str) -> None:
    """Raise ValueError unless `want` is "auto" or the name of a backend."""
    check_choice("backend", want, get_args(BackendName))


def attention_backends(q: Tensor | None = None, segments: Segments | None = None) -> dict[str, list[str]]:
    """Every backend and the reasons it cannot run, [] where it can.

    Args:
        q: (N, H, D) queries to ask about; without, bfloat16 queries with head_dim 64 on the GPU if
            there is one, else float32 on the CPU.
        segments: who sees whom; one segment if omitted.
    """
    check_type("q", q, Tensor, "a tensor", optional=True)
    check_type("segments", segments, Segments, "a Segments", optional=True)
    if q is None:
        on_gpu = torch.cuda.is_available()
        dtype = torch.bfloat16 if on_gpu else torch.float32
        q = torch.empty(1, 1, 64, dtype=dtype, device="cuda" if on_gpu else "cpu")
    segments = segments or Segments.from_lengths([len(q)], q.device)
    return {backend.name: backend.why_not(q, segments) for backend in BACKENDS}
