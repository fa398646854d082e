"""Options of the data as they were spelled before they stood in sections, such as `--data.grouping`.

Flags and config files of that time are read until ov2kit 0.2; checkpoints that name settings so are read for good.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from ov2kit.recipes.data.sections import SECTION_OF, in_sections


def sectioned_flags(arguments: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Arguments with every flag in its section.

    Args:
        arguments: of a training command.
        say: reports what is deprecated.
    """

    def sectioned(flag: re.Match[str]) -> str:
        if flag[1] not in SECTION_OF:
            return flag[0]
        use = f"--{_named(flag[1])}"
        say(f"warning: {flag[0]} is deprecated and will be removed in ov2kit 0.2; use {use}")
        return use

    return [re.sub(r"^--data\.(\w+)", sectioned, argument) for argument in arguments]


def sectioned_config(path: str, say: Callable[[str], None]) -> str:
    """A config file, or where its data are in no sections, its content with them in sections.

    Args:
        path: of a YAML file.
        say: reports what is deprecated.
    """
    try:
        content = get_loader("yaml")(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return path  # the parser words it better
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or not data.keys() & SECTION_OF.keys():
        return path
    moved = in_sections({name: value for name, value in data.items() if name in SECTION_OF})
    moves = "; ".join(f"{', '.join(options)} into data.{section}" for section, options in moved.items())
    say(f"warning: {path}: options of data in no section will not be read by ov2kit 0.2; move {moves}")
    text: str = yaml.safe_dump(content | {"data": in_sections(data)}, sort_keys=False)
    return text


def sectioned_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint by the names of today's flags."""
    return {_named(name.removeprefix("data.")) if name[5:] in SECTION_OF else name: settings[name] for name in settings}


def _named(option: str) -> str:
    return f"data.{SECTION_OF[option]}.{option}"
