"""The Auto classes of transformers learn our classes as soon as they are loaded themselves.

transformers takes seconds to import and most of `ov2kit.recipes` can do without it, so nothing is registered
before somebody imports it: whichever comes first, `AutoConfig`, `AutoModelForImageTextToText` and
`AutoProcessor` know `llava_onevision2`. A class that is registered wins over Python files in a directory.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

#: module of transformers -> ours, which registers its class with it when it is imported
_REGISTER = {
    "transformers.models.auto.configuration_auto": "ov2kit.recipes.architecture.released_config",
    "transformers.models.auto.modeling_auto": "ov2kit.recipes.model.model",
    "transformers.models.auto.processing_auto": "ov2kit.recipes.prompt.released_processor",
}


class _Watched(Loader):
    """Loads a module of transformers as usual, then imports ours."""

    def __init__(self, loader: Loader, ours: str) -> None:
        self.loader, self.ours = loader, ours

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        importlib.import_module(self.ours)


class _Watch(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _REGISTER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Watched(spec.loader, _REGISTER[name])
        return spec


def watch() -> None:
    """Register now what is loaded already, and the rest when it is. May be called again."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())
    for theirs, ours in _REGISTER.items():
        if theirs in sys.modules:
            importlib.import_module(ours)
