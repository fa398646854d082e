"""The pages say what is true: their code runs, the values in its comments hold, their links lead somewhere."""

import re
import shutil

import pytest

from ov2kit.codec import CodecTokenizer
from ov2kit.codec.tokenizers.presets import PRESETS
from ov2kit.codec.video.vectors import MOTION_CODECS
from ov2kit.doctor import examine
from tests.fresh import python
from tests.pages import python_blocks, run_page
from tests.paths import ROOT, SAMPLE

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS_A_MODEL = {"in_other_models.md"}  # test_examples.py runs it with one
WITH_CODE = [page for page in PAGES if python_blocks(page) and page.name not in NEEDS_A_MODEL]
PRESET_PAGE = (ROOT / "docs" / "paper_and_release.md").read_text()


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_runs_and_gives_the_values_in_its_comments(page, tmp_path, monkeypatch):
    shutil.copy(SAMPLE, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert run_page(page) > 0, "no value is written beside the code"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_of_the_project(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    ("code", "claims"),
    [
        ("x = torch.zeros(2, 3)  # (2, 3)", 1),
        ("x, y = torch.zeros(2, 3), (4, 5)  # (2, 3), (4, 5)", 2),
        ("x, y = torch.zeros(2, 2, 3)  # each (2, 3) float32", 2),
        ("x = torch.zeros(2, 3)  # (9, 9) -> (2, 3)", 1),
        ("torch.zeros(2).numel()  # 2 numbers", 1),
        ("'motion+residual'  # 'motion...'", 1),
        ("with torch.no_grad():\n    x = torch.zeros(2, 3)  # (2, 3)", 1),
        ("grid = [(4, 5)]  # 4 rows", 0),
    ],
)
def test_claims_are_seen_and_false_ones_fail(code, claims, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"```python\nimport torch\n{code}\n```\n")
    assert run_page(page) == claims
    start = code.index("#")
    wrong = code[:start] + re.sub(r"\d(?=\)|, \d+\)$| numbers)", lambda d: str(int(d[0]) + 1), code[start:])
    wrong = wrong.replace("# 'motion", "# 'luma")
    page.write_text(f"```python\nimport torch\n{wrong}\n```\n")
    if claims:
        with pytest.raises(AssertionError, match="not as written"):
            run_page(page)


def _row(title: str) -> list[str]:
    """Cells of a row of the page on the presets."""
    for line in PRESET_PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and cells[0] == title:
            return cells
    raise AssertionError(f"no row {title!r}")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_table_of_presets_names_what_they_choose(preset):
    cells = {title: _row(title)[1 + list(PRESETS).index(preset)] for title in ("option", "saliency")}
    assert cells["option"] == f'`preset="{preset}"`'
    made = CodecTokenizer(preset=preset, scores="saliency")
    assert f"`{type(made.scorer.saliency).__name__}`" in cells["saliency"]
    for title in ("grouping", "candidates", "selection"):
        assert f'`"{PRESETS[preset][title]}"`' in _row(title)[1 + list(PRESETS).index(preset)]
    for name, value in PRESETS[preset]["saliency"].keywords.items():
        assert getattr(made.scorer.saliency, name) == value
        assert f"`{name}={value!r}`".replace("'", '"') in cells["saliency"]


def test_the_table_of_codecs_agrees_with_the_decoders_here():
    codecs = examine()["codecs"]
    seen = set()
    for line in PRESET_PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) != 6 or not (names := re.findall(r"`(\w+)`", cells[1])):
            continue
        for name in names:
            assert cells[4].startswith("yes") == (name in MOTION_CODECS), name
            if name in codecs:
                assert codecs[name]["decodes"], name
                assert codecs[name]["bytes"] == (cells[2] == "yes"), name
                assert codecs[name]["motion"] == cells[4].startswith("yes"), name
        seen.update(names)
    assert set(codecs) <= seen
    assert seen >= MOTION_CODECS


@pytest.mark.parametrize("package", ["codec", "recipes"])
def test_contributing_names_every_room(package):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition(f"| `ov2kit/{package}/` |")[2].partition("\n\n")[0]
    folders = {path.parent.name for path in (ROOT / "ov2kit" / package).glob("*/__init__.py")}
    assert set(re.findall(r"`(\w+)/`", table)) == folders


def test_pages_do_not_name_this_machine():
    for page in PAGES:
        assert not re.search(r"/(?:work|tmp|home|root)/", page.read_text()), page.name


def test_pages_with_code_are_found():
    names = {page.name for page in WITH_CODE}
    assert names >= {"README.md", "connectors.md", "encoders.md", "paper_and_release.md", "positional.md"}


def test_what_is_said_of_other_tools_is_so(tmp_path):
    """Public tools load what we write once our classes are known, and without them they say what is missing."""
    pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")
    from ov2kit.recipes import build

    build("tiny").save_pretrained(tmp_path / "m")
    ask = "from transformers import AutoConfig; print(type(AutoConfig.from_pretrained('m')).__module__)"
    for imports, said in (("", "llava_onevision2"), ("import ov2kit.recipes; ", "ov2kit.recipes.architecture")):
        done = python(imports + ask, tmp_path)
        assert said in (done.stdout if imports else done.stderr), done.stderr
        assert (done.returncode == 0) == bool(imports)
