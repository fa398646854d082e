"""A virtual environment per peer, made once in a cache folder with plain pip."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {"codec-video-prep": "codec-video-prep==0.2.5", "lmms-video-utils": "lmms-video-utils==0.1.0"}
# numpy < 2, which codec-video-prep pins, has wheels up to Python 3.12
_NEWEST = {"codec-video-prep": (3, 12)}
_MARKER = "installed.json"


class PeerUnavailableError(RuntimeError):
    """A peer cannot run on this machine; the message says why and what to do."""


def check_machine(peer: str) -> None:
    """Raise before anything is installed when the peer cannot work here.

    Raises:
        PeerUnavailableError: wrong system, or a program that the peer calls is missing.
    """
    if peer != "codec-video-prep":
        return
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PeerUnavailableError(f"{peer} ships for x86-64 Linux only; this is {platform.machine()} {sys.platform}")
    missing = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
    if missing:
        raise PeerUnavailableError(
            f"{peer} calls {' and '.join(missing)}, not found on PATH; install it (Debian: apt-get install ffmpeg)"
        )


def _base_python(peer: str) -> str:
    newest = _NEWEST.get(peer)
    if newest is None or sys.version_info[:2] <= newest:
        return sys.executable
    for minor in range(newest[1], 9, -1):
        if found := shutil.which(f"python3.{minor}"):
            return found
    raise PeerUnavailableError(
        f"{peer} needs Python 3.10 to {newest[0]}.{newest[1]}; this is {platform.python_version()} and no other "
        "python3.x was found on PATH"
    )


def prepare(peer: str, cache: Path) -> Path:
    """Make the environment of `peer` unless it is there; returns its Python.

    lmms-video-utils brings torch: about 6 GB in the cache folder.

    Raises:
        PeerUnavailableError: the machine does not fit, or pip failed.
    """
    check_machine(peer)
    folder = cache / peer
    python = folder / "bin" / "python"
    marker = folder / _MARKER
    wanted = REQUIREMENTS[peer]
    if (
        marker.is_file()
        and json.loads(marker.read_text(encoding="utf-8")).get("requirement") == wanted
        and python.exists()
    ):
        return python
    print(f"installing {wanted} into {folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [_base_python(peer), "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted],
    ):
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerUnavailableError(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    marker.write_text(json.dumps({"requirement": wanted, "packages": versions(python)}), encoding="utf-8")
    return python


def versions(python: Path) -> dict[str, str]:
    """Installed distributions of an environment: name -> version."""
    code = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run(
        [str(python), "-c", code], env=clean_environment(), capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def clean_environment() -> dict[str, str]:
    """The environment variables without those that would mix one Python's packages into another's."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
