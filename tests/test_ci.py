"""What continuous integration runs, in which order, and that it fails where a part of it does."""

import os
import shutil
import subprocess

import pytest

from tests.paths import ROOT


def run(tmp_path, failing=""):
    """`.ci/run` with a `make` that notes what it is asked for; the lines it noted, and the exit status."""
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
    done = subprocess.run([tmp_path / ".ci" / "run"], env={**os.environ, "PATH": path}, timeout=60, check=False)
    return noted.read_text().splitlines(), done.returncode


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on the path")
class TestRun:
    def test_style_and_types_come_before_the_suite(self, tmp_path):
        assert run(tmp_path) == (["lint", "test"], 0)

    def test_a_lint_that_fails_ends_it(self, tmp_path):
        noted, status = run(tmp_path, failing="lint")
        assert noted == ["lint"]
        assert status != 0

    def test_a_suite_that_fails_fails_it(self, tmp_path):
        noted, status = run(tmp_path, failing="test")
        assert noted == ["lint", "test"]
        assert status != 0


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on the path")
def test_lint_checks_style_format_and_types(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    shown = subprocess.run(["make", "-n", "lint"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for command in ("ruff check .", "ruff format --check .", "mypy"):
        assert f".venv/bin/{command}\n" in shown
