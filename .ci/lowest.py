"""Print constraints that hold every dependency of the package, its recipes and its tests at its lowest version.

python .ci/lowest.py pyproject.toml > constraints.txt
"""

import re
import sys
import tomllib
from pathlib import Path

_EXTRAS = ("recipes", "dev")
_BOUND = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)")


def lowest(pyproject: Path) -> dict[str, str]:
    """Name -> lowest version. Raises ValueError for a dependency that says none, or more than that."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = [line for extra in _EXTRAS for line in project["optional-dependencies"][extra]]
    found = {}
    for line in [*project["dependencies"], *extras]:
        match = _BOUND.fullmatch(line)
        if match is None:
            raise ValueError(f"{pyproject}: expected 'name>=version', got {line!r}")
        found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    for name, version in lowest(Path(sys.argv[1])).items():
        print(f"{name}=={version}")
