"""A sweep file: experiments, each a grid of variants around the default one.

```yaml
base: {steps: 300}                # fields of `Variant` that differ from its defaults, for all experiments
experiments:
  - name: budget
    title: Frames against codec
    seeds: 5
    base: {}                      # for this experiment
    grid: {source: [codec, frames], budget: [4, 8, 16]}
    also: [{source: blank, budget: 8}]   # rows beside the grid, with the same fields
    against: {source: frames}     # a row is compared with itself with these fields replaced
```
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ov2kit.files import check_file, is_safe_name
from ov2kit.recipes.evidence.variant import SweepError, Variant

CONFIGS = Path(__file__).parent / "configs"
_KEYS = {"name", "title", "seeds", "base", "grid", "also", "against"}


@dataclass(frozen=True)
class Row:
    """One variant of an experiment.

    Args:
        label: the fields of the grid, or of a row beside it.
        variant: all fields.
        rival: what it is compared with; None when that is itself.
    """

    label: dict[str, Any]
    variant: Variant
    rival: Variant | None


@dataclass(frozen=True)
class Experiment:
    """A grid of variants, each run with the same seeds."""

    name: str
    title: str
    seeds: int
    rows: tuple[Row, ...]


def read_sweep(config: str | Path) -> tuple[dict[str, Any], list[Experiment]]:
    """The file as it stands, and its experiments. A name that is no file is looked up beside the package's own.

    Raises:
        SweepError: no such file, not YAML, or a field that is unknown or of a wrong kind.
    """
    path = Path(config)
    if not path.exists() and (CONFIGS / path.name).exists():
        path = CONFIGS / path.name
    try:
        given = yaml.safe_load(check_file(path, "a sweep file", SweepError).read_text(encoding="utf-8"))
    except (SweepError, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        known = ", ".join(sorted(p.name for p in CONFIGS.glob("*.yaml")))
        reason = " ".join(str(error).split())
        raise SweepError(f"{config}: cannot be read as a sweep ({reason}); the package has {known}") from error
    if not isinstance(given, dict) or not isinstance(given.get("experiments"), list):
        raise SweepError(f"{path}: expected a mapping with a list of experiments; see {CONFIGS.name}/quick.yaml")
    if extra := sorted(set(given) - {"base", "experiments"}):
        raise SweepError(f"{path}: unknown key {extra[0]!r}; known: base, experiments")
    try:
        experiments = [_experiment(entry, given.get("base") or {}) for entry in given["experiments"]]
    except (SweepError, TypeError, AttributeError) as error:
        raise SweepError(f"{path}: {error}") from error
    names = [experiment.name.casefold() for experiment in experiments]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SweepError(f"{path}: two experiments are called {twice[0]!r}; each has files of that name")
    return given, experiments


def _experiment(entry: dict[str, Any], base: dict[str, Any]) -> Experiment:
    if extra := sorted(set(entry) - _KEYS):
        raise SweepError(f"unknown key {extra[0]!r} of an experiment; known: {', '.join(sorted(_KEYS))}")
    if missing := [key for key in ("name", "grid") if not entry.get(key)]:
        raise SweepError(f"an experiment needs {missing[0]!r}, got {entry}")
    own = {**base, **(entry.get("base") or {})}
    labels = [dict(zip(entry["grid"], values, strict=True)) for values in product(*entry["grid"].values())]
    labels += entry.get("also") or []
    if odd := [label for label in labels if set(label) != set(entry["grid"])]:
        raise SweepError(f"a row beside the grid of {entry['name']!r} needs {', '.join(entry['grid'])}, got {odd[0]}")
    rows = []
    for label in labels:
        variant = Variant.of({**own, **label})
        rival = Variant.of({**own, **label, **(entry.get("against") or {})})
        rows.append(Row(label, variant, None if rival == variant else rival))
    if not is_safe_name(str(entry["name"])):
        raise SweepError(
            f"the name of an experiment names files: expected one without / and the like, got "
            f"{str(entry['name'])!r:.60}"
        )
    seeds = entry.get("seeds", 3)
    if not isinstance(seeds, int) or seeds < 1:
        raise SweepError(f"seeds of {entry['name']!r} must be a number from 1 on, got {seeds!r}")
    return Experiment(str(entry["name"]), str(entry.get("title") or entry["name"]), seeds, tuple(rows))
