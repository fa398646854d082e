"""The house keeps its shape: imports point one way, and nothing heavy comes in unasked."""

import ast
from pathlib import Path

import pytest

import ov2kit.recipes
from tests.fresh import python

ROOT = Path(__file__).parents[1] / "ov2kit"
GROUND = {"canvases", "segments", "geometry", "errors", "files"}
MAY_IMPORT = {
    "codec": set(),
    "positional": set(),
    "connectors": set(),
    "encoders": {"positional"},
    "recipes": {"codec", "positional", "encoders", "connectors"},
}
#: room by room: who may import whom inside a package. A file beside the rooms is a room of its own.
ROOMS = {
    "codec": {
        "compiled": set(),
        "video": {"compiled"},
        "signals": {"video", "compiled"},
        "stream": {"video", "signals"},
        "scoring": {"video", "signals", "compiled"},
        "grouping": set(),
        "selection": {"video", "compiled"},
        "provenance": {"video"},
        "tokenizers": {"compiled", "video", "signals", "stream", "scoring", "grouping", "selection", "provenance"},
        "live": {"video", "scoring", "grouping", "selection", "provenance", "tokenizers", "signals"},
        "assets": {"video", "provenance"},
        "report": {"video", "stream", "provenance"},
        "commands": {"provenance", "tokenizers", "assets", "report"},
    },
    "recipes": {
        "architecture": set(),
        "metrics": set(),
        "inputs": set(),
        "release": {"architecture"},
        "evaluation": {"metrics", "inputs"},
        "spatial": {"metrics", "evaluation"},
        "datasets": set(),
        "routing": set(),
        "prompt": {"architecture", "release", "inputs", "routing"},
        "model": {"architecture", "release", "prompt"},
        "data": {"datasets", "prompt", "inputs", "spatial"},
        "training": {"architecture", "release", "model", "prompt", "inputs"},
        "generate": {"model", "prompt"},
        "live": {"model", "prompt", "generate"},
        "clients": {"architecture", "model", "prompt", "evaluation", "generate", "metrics"},
        "paired": {"evaluation", "metrics"},
        "evidence": {"architecture", "metrics", "spatial", "datasets", "prompt", "data", "training"},
        "commands": {
            "data",
            "datasets",
            "evaluation",
            "evidence",
            "generate",
            "live",
            "model",
            "paired",
            "prompt",
            "spatial",
            "training",
        },
    },
}
HEAVY = {"lightning", "transformers", "timm", "xformers", "matplotlib", "ray", "torchvision", "numba"}


def imported_parts(path: Path) -> set[str]:
    """Parts of ov2kit that a file imports, anywhere in it, also inside functions."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            names = [node.module] if node.module != "ov2kit" else [f"ov2kit.{alias.name}" for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("ov2kit.")}
    return parts


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_parts_import_only_what_they_may(part):
    for path in (ROOT / part).rglob("*.py"):
        extra = imported_parts(path) - GROUND - MAY_IMPORT[part] - {part}
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}"


def rooms_imported(path: Path, package: str) -> set[str]:
    """Rooms of a package that a file imports, anywhere in it. The package's own face is none."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            parts = module.split(".")
            if parts[:2] == ["ov2kit", package] and len(parts) > 2:
                found.add(parts[2])
    return found & set(ROOMS[package])


@pytest.mark.parametrize(("package", "room"), [(package, room) for package in ROOMS for room in ROOMS[package]])
def test_rooms_import_only_what_they_may(package, room):
    place = ROOT / package / room
    files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for path in files:
        extra = rooms_imported(path, package) - ROOMS[package][room] - {room}
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}"


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_rooms_are_all_in_the_table_and_go_one_way(package):
    there = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} == set(ROOMS[package])
    below: dict[str, int] = {}
    for room, seen in ROOMS[package].items():  # each may import only what stands above it in the table
        assert seen <= set(below), room
        below[room] = len(below)


def test_ground_floor_imports_only_itself():
    for name in GROUND:
        assert imported_parts(ROOT / f"{name}.py") <= GROUND


@pytest.mark.parametrize("module", ["ov2kit", *(f"ov2kit.{p.name}" for p in ROOT.iterdir() if p.name in MAY_IMPORT)])
def test_import_brings_nothing_heavy(module):
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = python(code)
    loaded = set(done.stdout.split())
    assert module in loaded, done.stderr
    assert not HEAVY & loaded


def test_type_checkers_see_the_names_that_recipes_imports_lazily():
    tree = ast.parse((ROOT / "recipes" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == ov2kit.recipes._PLACES
    assert all(hasattr(ov2kit.recipes, name) for name in seen)
