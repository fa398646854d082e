"""What the tests promise about themselves: the same random numbers in any order, and no skip that nobody sees."""

import pytest

from tests import needs
from tests.fresh import python
from tests.paths import ROOT

DRAWS = """
import random
import numpy as np, pytest, torch

@pytest.fixture(scope="module")
def seeded():
    torch.manual_seed(5), np.random.seed(5), random.seed(5)

def draw():
    return torch.rand(1).item(), np.random.rand(), random.random()

IMPORTED = draw()  # which must not show in any test
FIRST = []

def test_a(seeded):
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    draw()

def test_b():
    FIRST.append(draw())

def test_c():
    FIRST.append(draw())
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    assert FIRST == [draw()] * 2
"""
SKIPS = """
import pytest
from tests.clips import shared_clip

def test_clip(monkeypatch, tmp_path):
    monkeypatch.setattr("tests.clips.SHARED", tmp_path)
    shared_clip("none.mp4")

def test_gpu():
    pytest.skip("no CUDA device")

def test_module():
    pytest.importorskip("no_such_module")
"""
COLLECTED = 'import pytest\npytest.importorskip("no_such_module")\n'


@pytest.fixture
def suite(tmp_path):
    """Runs files beside the conftest of this suite; status and text."""

    def run(*options, **files):
        (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
        code = f"import sys, pytest; sys.path.insert(0, {str(ROOT)!r}); sys.exit(pytest.main({arguments!r}))"
        done = python(code, tmp_path)
        return done.returncode, done.stdout + done.stderr

    return run


def test_random_state_is_the_same_in_any_order_and_skips_are_counted(suite):
    status, said = suite(test_draws=DRAWS, test_skips=SKIPS, test_collected=COLLECTED)
    assert status == 0, said
    assert "skipped: 1 clips, 1 cuda, 2 extras\n" in said


def test_skips_for_what_is_required_fail(suite):
    options = ("--continue-on-collection-errors", "--require", "clips,extras")
    status, said = suite(*options, test_skips=SKIPS, test_collected=COLLECTED)
    assert status == 1
    assert "required, but none.mp4 is not in" in said
    assert "required, but could not import 'no_such_module'" in said
    assert "2 failed, 1 skipped, 1 error" in said  # the GPU is not required


def test_unknown_needs_are_refused():
    assert needs.required("clips,other") == {"clips", "other"}
    with pytest.raises(ValueError, match=r"expected some of clips, cuda, browser, .* got clip$"):
        needs.required("clip,cuda")


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("bbb.mp4 is not in x; set OV2KIT_CLIPS to the folder that has it", "clips"),
        ("tensors are on cpu, the kernel needs cuda", "cuda"),
        ("no Chromium (chromium, chromium-browser, google-chrome) on the path", "browser"),
        ("needs transformers: pip install 'ov2kit[recipes]'", "extras"),
        ("needs vllm: make clients", "vllm"),
        ("needs lmms-eval and lmms-video-utils: make clients", "lmms_eval"),
        ("needs lmms-engine, see docs/assets.md", "lmms_engine"),
        ("lmms-eval is not installed; the stored numbers are its own", "references"),
        ("no make on the path", "system"),
        ("it rains", "other"),
    ],
)
def test_reasons_name_what_is_missing(reason, name):
    assert needs.need(reason) == name
