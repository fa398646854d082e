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
    against: {source: frames}     # a row is compared with itself with these fields replaced: another row
  - name: presets
    choices:                      # an axis of names, each of several fields at once
      tokens: {paper: {}, event: {saliency: event, candidates: uniform}, frames: {source: frames}}
    grid: {tokens: [paper, event, frames], budget: [8, 16]}
    against: {tokens: frames}
```
"""

from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ov2kit.errors import check_choice, check_keys, check_number, check_type, shorten
from ov2kit.files import check_file, is_safe_name
from ov2kit.recipes.evidence.runs.variant import SweepError, Variant

CONFIGS = Path(__file__).parent / "configs"
_KEYS = ("name", "title", "seeds", "base", "choices", "grid", "also", "against")


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
        SweepError: no such file, not YAML, a field or a value that is unknown or out of range, a row that stands
            twice, or one compared with a row that is not there.
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
    try:
        check_keys("a sweep", given, ("base", "experiments"), SweepError)
        experiments = [_experiment(entry, given.get("base") or {}) for entry in given["experiments"]]
    except (SweepError, TypeError, AttributeError) as error:
        raise SweepError(f"{path}: {error}") from error
    names = [experiment.name.casefold() for experiment in experiments]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SweepError(f"{path}: two experiments are called {twice[0]!r}; each has files of that name")
    return given, experiments


def _experiment(entry: dict[str, Any], base: dict[str, Any]) -> Experiment:
    check_keys("an experiment", entry, _KEYS, SweepError)
    if missing := [key for key in ("name", "grid") if not entry.get(key)]:
        raise SweepError(f"an experiment needs {missing[0]!r}, got {entry}")
    own = {**base, **(entry.get("base") or {})}
    if not isinstance(entry["grid"], dict) or not all(isinstance(v, list) and v for v in entry["grid"].values()):
        raise SweepError(f"grid of {entry['name']!r} must map fields to lists of values, got {shorten(entry['grid'])}")
    labels = [dict(zip(entry["grid"], values, strict=True)) for values in product(*entry["grid"].values())]
    labels += entry.get("also") or []
    if odd := [label for label in labels if set(label) != set(entry["grid"])]:
        raise SweepError(f"a row beside the grid of {entry['name']!r} needs {', '.join(entry['grid'])}, got {odd[0]}")
    choices = _choices(entry)
    rows = []
    for label in labels:
        variant = Variant.of({**own, **_fields(label, choices)})
        rival = Variant.of({**own, **_fields({**label, **(entry.get("against") or {})}, choices)})
        rows.append(Row(label, variant, None if rival == variant else rival))
    if not is_safe_name(str(entry["name"])):
        raise SweepError(
            f"the name of an experiment names files: expected one without / and the like, got "
            f"{str(entry['name'])!r:.60}"
        )
    variants = [row.variant for row in rows]
    for row in rows:
        if variants.count(row.variant) > 1:
            raise SweepError(f"two rows of {entry['name']!r} are the same variant: {row.label}")
        if row.rival is not None and row.rival not in variants:
            against = entry.get("against")
            raise SweepError(
                f"{entry['name']!r} compares {row.label} against {against}, which is no row of it; add one"
            )
    seeds = entry.get("seeds", 3)
    check_number(f"seeds of {entry['name']!r}", seeds, low=1, integer=True, error=SweepError)
    return Experiment(str(entry["name"]), str(entry.get("title") or entry["name"]), seeds, tuple(rows))


def _choices(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Axes whose values are names of several fields at once."""
    choices: dict[str, dict[str, Any]] = entry.get("choices") or {}
    check_type(f"choices of {entry['name']!r}", choices, dict, "axes, each with names of fields", error=SweepError)
    known = {field.name for field in fields(Variant)}
    for axis, names in choices.items():
        if axis in known or axis not in entry["grid"]:
            raise SweepError(
                f"choices of {entry['name']!r}: expected axes of the grid that are no field of a variant, got {axis!r}"
            )
        if not isinstance(names, dict) or not all(isinstance(given, dict) for given in names.values()):
            raise SweepError(f"choices of {entry['name']!r}: {axis} must map names to fields, got {shorten(names)}")
    return choices


def _fields(label: dict[str, Any], choices: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for axis, value in label.items():
        if axis in choices:
            check_choice(axis, value, choices[axis], SweepError)
            found |= choices[axis][value]
        else:
            found[axis] = value
    return found
