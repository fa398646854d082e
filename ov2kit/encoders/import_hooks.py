"""Import a module of ours as soon as another package's module has been imported, and not before.

Some packages keep a register of models (transformers' Auto classes, timm's model names) and know no entry
points, while importing them costs seconds. So the module of ours that registers something waits for theirs.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def import_after(theirs: str, ours: str) -> None:
    """Import module `ours` now where module `theirs` has been imported, else right after it is."""
    loaded = sys.modules.get(theirs)
    if loaded is not None and not getattr(loaded.__spec__, "_initializing", False):
        importlib.import_module(ours)
    elif not any(isinstance(finder, _Waiting) and finder.theirs == theirs for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting(theirs, ours))


class _Waiting(MetaPathFinder):
    """Finds nothing itself; lets the others find `theirs` and adds one step to its loading."""

    def __init__(self, theirs: str, ours: str) -> None:
        self.theirs, self.ours = theirs, ours

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.theirs:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ThenOurs(spec.loader, self)
                return spec
        return None


class _ThenOurs(Loader):
    """Loads as `loader` does, puts it back in its place, and imports ours."""

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
        importlib.import_module(self._waiting.ours)
