"""Attention over a packed sequence: the one function that the modules call.

Letters: N tokens, H heads, D head_dim.
"""

import torch
from torch import Tensor

from ov2kit.encoders.backends.choose import BackendName, choose
from ov2kit.encoders.backends.compiled import attend_opaque
from ov2kit.segments import Segments


def attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments, backend: BackendName = "auto") -> Tensor:
    """softmax(q k^T / sqrt(D)) v, each token over the keys that its segment sees.

    Args:
        q: (N, H, D), packed.
        k: (N, H, D).
        v: (N, H, D).
        segments: who sees whom; covers all N tokens.
        backend: "auto" or a name, see `choose`.

    Returns:
        (N, H, D) of the dtype of `v`.

    Raises:
        ValueError: shapes that do not fit each other or `segments`.
        RuntimeError: the backend asked for cannot run.
    """
    if torch.compiler.is_compiling():
        return attend_opaque(q, k, v, segments, backend)
    if q.ndim != 3 or q.shape != k.shape or q.shape != v.shape:
        raise ValueError(
            "attention needs q, k and v of one shape (N, heads, head_dim), "
            f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if segments.num_tokens != len(q):
        raise ValueError(f"segments cover {segments.num_tokens} tokens, q has {len(q)}")
    return choose(q, segments, backend).backend.run(q, k, v, segments)
