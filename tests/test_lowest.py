"""Lower bounds of pyproject.toml: `make lowest` installs them all, and what is pinned and installed here lies above."""

import subprocess
import sys
import tomllib
from importlib.metadata import version

from packaging.requirements import Requirement
from packaging.version import Version

from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def needed():
    extras = PROJECT["optional-dependencies"]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *extras["recipes"], *extras["dev"]]]


def lowest(pyproject):
    return subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "lowest.py"), str(pyproject)], capture_output=True, text=True, check=False
    )


def test_every_dependency_is_held_at_its_lower_bound():
    held = dict(line.split("==") for line in lowest(ROOT / "pyproject.toml").stdout.splitlines())
    assert held.keys() == {each.name for each in needed()}
    for each in needed():
        (bound,) = each.specifier
        assert bound.operator == ">="
        assert Version(held[each.name]) == Version(bound.version)
        assert each.specifier.contains(version(each.name), prereleases=True)


def test_pins_lie_within_the_bounds():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pins = {name.lower().replace("_", "-"): pin for name, _, pin in (line.partition("==") for line in lines)}
    for each in needed():
        assert each.specifier.contains(pins[each.name]), each


def test_the_decoder_is_one_whose_pictures_are_right():
    """16.0.1 to 17.1.0 raise in every picture."""
    (av,) = [each for each in needed() if each.name == "av"]
    assert not any(av.specifier.contains(old) for old in ("16.0.1", "16.1.0", "17.0.0", "17.1.0"))


def test_a_dependency_without_a_bound_is_refused(tmp_path):
    text = (ROOT / "pyproject.toml").read_text()
    assert '"einops>=0.8"' in text
    for wrong in ('"einops"', '"einops>=0.8,<2"'):
        (tmp_path / "pyproject.toml").write_text(text.replace('"einops>=0.8"', wrong))
        done = lowest(tmp_path / "pyproject.toml")
        assert done.returncode == 1
        assert f"expected 'name>=version', got {wrong}".replace('"', "'") in done.stderr
