"""How attention within segments is computed: one file per backend, `choose` picks one."""

from ov2kit.encoders.backends.attend import attend
from ov2kit.encoders.backends.backend import TOLERANCE, Backend
from ov2kit.encoders.backends.choose import BACKENDS, BackendName, Choice, attention_backends, choose

__all__ = ["BACKENDS", "TOLERANCE", "Backend", "BackendName", "Choice", "attend", "attention_backends", "choose"]
