"""Benchmarks are one package: every file can be imported from the root of the checkout, and none changes the path."""

import importlib
import re

import pytest

from tests.paths import ROOT

FOLDER = ROOT / "benchmarks"
#: run by the Python of another tool
ALONE = {"_peers.export_bits", "_bitcost.export_blocks", "_bitcost.released_choice"}
FILES = [path.relative_to(FOLDER) for path in FOLDER.rglob("*.py") if ".peers" not in path.parts]
MODULES = sorted(".".join(path.with_suffix("").parts) for path in FILES if path.name != "__init__.py")


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ALONE])
def test_every_file_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_no_file_changes_the_path_of_imports(name):
    text = (FOLDER / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    assert "sys.path" not in text
    assert not re.search(r"^from (_peers|_bitcost|measure|run_info|codec_inputs|normalization)\b", text, re.MULTILINE)


def test_the_cache_of_features_follows_the_code_that_makes_them():
    from benchmarks._bitcost import samples

    version = samples._version()
    assert re.fullmatch("[0-9a-f]{12}", version)
    samples._FEATURES, before = samples._FEATURES[1:], samples._FEATURES
    try:
        assert samples._version() != version
    finally:
        samples._FEATURES = before


def test_commands_on_pages_name_benchmarks_that_exist():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *FOLDER.rglob("*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"python -m benchmarks\.(\w+)", text)) - {"NAME"}
    assert {"peers", "gpu", "tables"} <= named <= set(MODULES)
    assert set(re.findall(r"benchmarks/(\w+)\.py", text)) <= set(MODULES)
    assert not re.search(r"python benchmarks/", text)
