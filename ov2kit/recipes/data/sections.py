"""The sections of `ConversationData` together: options that stand by themselves, and what they say together."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ov2kit.errors import OptionError, check_keys
from ov2kit.recipes.data.options import Loading, Order, Sources, Tokens

SECTIONS: dict[str, Any] = {"sources": Sources, "tokens": Tokens, "order": Order, "loading": Loading}
#: option -> the section it stands in
SECTION_OF = {field.name: section for section, made in SECTIONS.items() for field in fields(made)}


def in_sections(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that stand by themselves, put into their sections; all others stay where they are."""
    found: dict[str, Any] = {name: value for name, value in options.items() if name not in SECTION_OF}
    for name, section in SECTION_OF.items():
        if name in options:
            found[section] = {**(found.get(section) or {}), name: options[name]}
    return found


def with_options(
    sources: Any, tokens: Tokens, order: Order, loading: Loading, options: Mapping[str, Any]
) -> tuple[Sources, Tokens, Order, Loading]:
    """The sections with options that were given by themselves; a path in place of `sources` is one of them.

    Raises:
        OptionError: an option is in no section, or wrong.
    """
    check_keys("ConversationData", options, SECTION_OF)
    made: dict[str, Any] = {
        "sources": sources if isinstance(sources, Sources) else Sources(sources),
        "tokens": tokens,
        "order": order,
        "loading": loading,
    }
    for name, values in in_sections(options).items():
        made[name] = replace(made[name], **values)
    return made["sources"], made["tokens"], made["order"], made["loading"]


def check_together(sources: Sources, tokens: Tokens, order: Order, loading: Loading) -> None:
    """What no section can see by itself.

    Raises:
        OptionError: options of two sections contradict each other.
    """
    if order.pack == "offline" and order.lengths is None and loading.cache is None:
        raise OptionError("pack 'offline' needs lengths (a file of name:count), or a cache to measure them into once")
    if order.pack == "offline" and tokens.mirror:
        raise OptionError("mirror changes how long answers are, which pack 'offline' plans by; use pack 'stream'")
    if sources.shares is not None and (tokens.mix or {}).get("image"):
        raise OptionError("shares of files say how many pictures come: leave image out of mix")
