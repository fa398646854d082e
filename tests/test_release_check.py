"""What a release holds: `make release-check` notices what is missing or too much, and all data is named."""

import importlib.util
import io
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import PurePosixPath

import pytest

from tests.paths import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="no git on the path"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout with /.git"),
]
TEXTS = ["LICENSE", "MANIFEST.in", "NOTICE", "README.md", "pyproject.toml"]


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("release_check", ROOT / ".ci" / "release_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(check):
    return [name for name in check.tracked() if name.startswith("ov2kit/")]


def wheel(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def sdist(path, names):
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"ov2kit-1/{name}"), io.BytesIO())
    return path


def test_data_of_the_package_is_named(check):
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ov2kit"]
    data = [PurePosixPath(name).relative_to("ov2kit") for name in package(check) if not name.endswith(".py")]
    assert len(data) > 10
    for path in data:
        assert any(path.match(pattern) and len(path.parts) == pattern.count("/") + 1 for pattern in patterns), path


def test_every_folder_of_code_is_a_package(check):
    folders = {PurePosixPath(name).parent for name in package(check) if name.endswith(".py")}
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()] == []


def test_wheel(check, tmp_path):
    names = [
        *package(check),
        *(f"ov2kit-1.dist-info/{name}" for name in ("METADATA", "licenses/LICENSE", "licenses/NOTICE")),
    ]
    assert len(check.files_of_wheel(wheel(tmp_path / "right.whl", names))) == len(names)
    with pytest.raises(SystemExit, match=r"lacks \['ov2kit/py.typed'\] and should not hold \[\]"):
        check.files_of_wheel(wheel(tmp_path / "less.whl", [name for name in names if name != "ov2kit/py.typed"]))
    with pytest.raises(SystemExit, match=r"lacks \[\] and should not hold \['tests/a.py'\]"):
        check.files_of_wheel(wheel(tmp_path / "more.whl", [*names, "tests/a.py"]))
    with pytest.raises(SystemExit, match="the wheel lacks NOTICE"):
        check.files_of_wheel(wheel(tmp_path / "notice.whl", names[:-1]))


def test_sdist(check, tmp_path):
    names = [*package(check), *TEXTS, "PKG-INFO", "setup.cfg", "ov2kit.egg-info/SOURCES.txt"]
    assert len(check.files_of_sdist(sdist(tmp_path / "right.tar.gz", names))) == len(names)
    with pytest.raises(SystemExit, match=r"should not hold \['tests/test_x.py'\]"):
        check.files_of_sdist(sdist(tmp_path / "more.tar.gz", [*names, "tests/test_x.py"]))
    with pytest.raises(SystemExit, match=r"lacks \['LICENSE'\]"):
        check.files_of_sdist(sdist(tmp_path / "less.tar.gz", [name for name in names if name != "LICENSE"]))


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on the path")
def test_make_runs_it(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = ["make", "-n", "release-check"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ".venv/bin/python .ci/release_check.py\n" in shown
