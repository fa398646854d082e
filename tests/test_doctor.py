"""`ov2kit doctor` and the extras: every package that an extra brings is known wherever extras are named."""

import tomllib

import pytest
from packaging.requirements import Requirement

from ov2kit.doctor import examine
from ov2kit.errors import EXTRAS
from tests.paths import ROOT

OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OWN_ENVIRONMENT = {"vllm", "eval"}
FOR_US = {"dev", "all"}


@pytest.fixture(scope="module")
def shown():
    return {name: extra for extra, packages in examine()["extras"].items() for name in packages}


@pytest.mark.parametrize("extra", sorted(OPTIONAL.keys() - OWN_ENVIRONMENT - FOR_US))
def test_what_an_extra_brings_is_shown_and_named_where_it_is_missing(extra, shown):
    for name in (Requirement(line).name for line in OPTIONAL[extra]):
        for known in (shown, EXTRAS):
            brings = [Requirement(line).name for line in OPTIONAL[known[name]]]
            assert name in brings


@pytest.mark.parametrize("extra", sorted(OPTIONAL.keys() - FOR_US))
def test_readme_says_what_an_extra_is_for(extra):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`{extra}`" in readme or f"[{extra}]" in readme
