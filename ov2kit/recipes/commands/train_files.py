"""Shipped configs and data by their names alone: `--config debug.yaml`, `path: sample.jsonl`."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError

from ov2kit.recipes.commands.flat_options import sectioned_config
from ov2kit.recipes.commands.train_help import CONFIGS, config_names


def with_known_configs(arguments: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Arguments with the names of shipped configs made paths.

    Args:
        arguments: of a training command.
        say: reports what is deprecated.

    Raises:
        ArgumentError: there is no such config, neither here nor among the shipped ones.
    """
    found = []
    follows = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if follows:
            found.append(_config(argument, say))
        elif option in ("--config", "-c") and equals:
            found.append(f"{option}={_config(value, say)}")
        else:
            found.append(argument)
        follows = argument in ("--config", "-c")
    return found


def _config(name: str, say: Callable[[str], None]) -> str:
    if Path(name).exists() or Path(name).name != name:
        if not Path(name).is_file():
            raise ArgumentError(None, f"{name}: no such config file; shipped: {', '.join(config_names())}")
        return sectioned_config(name, say)
    for shipped in (CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if shipped.is_file():
            return str(shipped)
    close = difflib.get_close_matches(name, config_names(), 1)
    hint = f"did you mean {close[0]}?" if close else f"shipped: {', '.join(config_names())}"
    raise ArgumentError(None, f"{name}: no such config; {hint}")


def beside_configs(paths: Any) -> Any:
    """Shipped data by its name alone, unless there is such a file where the command runs."""
    if isinstance(paths, list):
        return [beside_configs(path) for path in paths]
    if paths is None or Path(paths).exists() or Path(paths).name != paths or not (CONFIGS / paths).exists():
        return paths
    return str(CONFIGS / paths)
