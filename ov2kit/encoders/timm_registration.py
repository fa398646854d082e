"""Register the encoder with timm without importing timm.

timm knows no entry points, so the model registers itself when `timm.models` has loaded: at once where it
has already, else by a finder that waits for it and then leaves.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_WAITED_FOR = "timm.models"


def register_with_timm() -> None:
    """Let timm know `onevision_encoder_large_patch14` and `..._patch16`, now or as soon as it is imported."""
    loaded = sys.modules.get(_WAITED_FOR)
    if loaded is not None and not getattr(loaded.__spec__, "_initializing", False):
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register() -> None:
    importlib.import_module("ov2kit.encoders.timm_model")


class _Waiting(MetaPathFinder):
    """Finds nothing itself; lets the others find timm's models and adds one step to their loading."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _WAITED_FOR:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _AndRegister(spec.loader, self)
                return spec
        return None


class _AndRegister(Loader):
    """Loads as `loader` does, puts it back in its place, and registers the encoder."""

    def __init__(self, loader: Loader, waiting: _Waiting) -> None:
        self._loader, self._waiting = loader, waiting

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._waiting in sys.meta_path:
            sys.meta_path.remove(self._waiting)
        _register()
