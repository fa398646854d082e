"""Operations of torch as they run: how many, and how large what they make."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Dispatched(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns, and how many operations and attention calls ran."""

    def __init__(self):
        super().__init__()
        self.elements = self.operations = self.attention_calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        self.operations += 1
        self.attention_calls += "attention" in str(func)
        return out
