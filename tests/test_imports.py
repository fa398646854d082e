"""The house keeps its shape: imports point one way, and nothing heavy comes in unasked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "ov2kit"
GROUND = {"canvases", "segments", "geometry", "errors", "files"}
MAY_IMPORT = {
    "codec": set(),
    "positional": set(),
    "connectors": set(),
    "encoders": {"positional"},
    "recipes": {"codec", "positional", "encoders", "connectors"},
}
HEAVY = {"lightning", "transformers", "timm", "xformers", "matplotlib", "ray", "torchvision"}


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


def test_ground_floor_imports_only_itself():
    for name in GROUND:
        assert imported_parts(ROOT / f"{name}.py") <= GROUND


@pytest.mark.parametrize("module", ["ov2kit", *(f"ov2kit.{p.name}" for p in ROOT.iterdir() if p.name in MAY_IMPORT)])
def test_import_brings_nothing_heavy(module):
    if module == "ov2kit.recipes":
        pytest.skip("recipes is the part that may import everything")
    allowed = {"timm", "torchvision"} if module == "ov2kit.encoders" else set()
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not (HEAVY - allowed) & set(loaded)
