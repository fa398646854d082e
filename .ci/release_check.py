"""Build the sdist and the wheel, and use the wheel in an environment that has nothing else: `make release-check`.

    python .ci/release_check.py [--keep DIR]

Builds from a copy of the tracked files, so that nothing else gets in and nothing is left behind. The environment gets
the dependencies at the versions of constraints.txt and no extra: every package has to be importable (rooms of recipes
may name a dependency of their extra), and `ov2kit demo` has to tokenize the bundled clip. About 5 GB, mostly torch.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS = """
import importlib, pkgutil, sys
import ov2kit
names = ["ov2kit"] + [m.name for m in pkgutil.walk_packages(ov2kit.__path__, "ov2kit.") if m.ispkg]
for name in names:
    try:
        importlib.import_module(name)
        print(f"  imports: {name}")
    except ModuleNotFoundError as error:
        if not name.startswith("ov2kit.recipes.") or error.name.split(".")[0] not in sys.argv[1:]:
            raise
        print(f"  imports: {name}, once {error.name} is installed")
"""


def tracked() -> list[str]:
    """Files of the project as git knows them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it."""
    source = folder / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (sdist,), (wheel,) = (list((folder / "dist").glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    return sdist, wheel


def files_of_wheel(wheel: Path) -> list[str]:
    """Members of the wheel.

    Raises:
        SystemExit: they are not the tracked files of the package and the metadata.
    """
    with zipfile.ZipFile(wheel) as archive:
        held = sorted(archive.namelist())
    package = {name for name in held if ".dist-info/" not in name}
    wanted = {name for name in tracked() if name.startswith("ov2kit/")}
    if package != wanted:
        sys.exit(f"error: the wheel lacks {sorted(wanted - package)} and should not hold {sorted(package - wanted)}")
    for name in ("LICENSE", "NOTICE"):
        if not any(member.endswith(f".dist-info/licenses/{name}") for member in held):
            sys.exit(f"error: the wheel lacks {name}")
    return held


def files_of_sdist(sdist: Path) -> list[str]:
    """Members of the sdist without its own folder.

    Raises:
        SystemExit: they are not the tracked files of the package, the texts beside it and the metadata.
    """
    with tarfile.open(sdist) as archive:
        held = sorted(member.name.partition("/")[2] for member in archive if member.isfile())
    wanted = {name for name in tracked() if name.startswith("ov2kit/")}
    wanted |= {"LICENSE", "MANIFEST.in", "NOTICE", "README.md", "pyproject.toml"}
    found = {name for name in held if not name.startswith("ov2kit.egg-info/")} - {"PKG-INFO", "setup.cfg"}
    if found != wanted:
        sys.exit(f"error: the sdist lacks {sorted(wanted - found)} and should not hold {sorted(found - wanted)}")
    return held


def empty_environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel and what it depends on; its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    programs = folder / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    return programs


def use(programs: Path, folder: Path) -> None:
    """Import every package and run the commands that need no extra.

    Raises:
        SystemExit: the demo made no canvases or no report, or does not say why no model is trained.
    """
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = [line.partition(">")[0].partition("[")[0] for line in extra["recipes"]]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    folder.mkdir()

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=clean, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    print(run(str(programs / "python"), "-c", IMPORTS, *names), end="")
    run(str(programs / "ov2kit"), "--help")
    said = run(str(programs / "ov2kit"), "demo", "--out", "demo")
    print(said, end="")
    if not (folder / "demo" / "report.html").is_file() or not list((folder / "demo" / "canvases").glob("*.png")):
        sys.exit("error: the demo made no report or no canvases")
    if "ov2kit[recipes]" not in said:
        sys.exit("error: the demo does not name the extra that it lacks")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy the sdist and the wheel there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        folder = Path(name)
        sdist, wheel = build(folder)
        for path, held in ((sdist, files_of_sdist(sdist)), (wheel, files_of_wheel(wheel))):
            print(f"{path.name}: {len(held)} files, {path.stat().st_size / 1e6:.1f} MB")
            print("\n".join(f"  {member}" for member in held))
        use(empty_environment(folder / "environment", wheel), folder / "work")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            for path in (sdist, wheel):
                shutil.copy2(path, options.keep)
    print("release-check: passed")


if __name__ == "__main__":
    main()
