"""A checksum of tensors and a text, kept in a file beside them: what has changed since is not read as if it had not."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

_BYTES = 16


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Hexadecimal digest (BLAKE2b) of names, dtypes, shapes and values of tensors, and of a text.

    Args:
        tensors: on the host.
        text: such as the facts stored beside them.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
