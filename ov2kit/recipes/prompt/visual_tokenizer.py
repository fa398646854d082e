"""Options of the three visual tokenizers as plain JSON, and the tokenizers back from them.

What a constructor takes as a number, a word or a pair is written; a custom module (a grouping,
a saliency) cannot be, and is remembered by name, so that reading says what is missing.
"""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.codec.tokenizers.presets import GroupingName
from ov2kit.errors import CheckpointError, Ov2kitError

VisualTokenizer = CodecTokenizer | FrameTokenizer | ImageTokenizer
CUSTOM = "custom"
GROUPINGS: tuple[GroupingName, ...] = get_args(GroupingName)


def describe_tokenizer(tokenizer: VisualTokenizer) -> dict[str, Any]:
    """Constructor arguments; of a codec tokenizer those that its preset would not give it.

    Modules that were passed in are listed under "custom" by their names.
    """
    found = dict(tokenizer.options())
    parameters = inspect.signature(type(tokenizer).__init__).parameters
    if not isinstance(tokenizer, CodecTokenizer):
        return {name: found[name] for name in parameters if name in found}
    # what the preset decides is compared with a tokenizer of that preset
    plain = CodecTokenizer(preset=tokenizer.preset, canvases_per_group=tokenizer.canvases_per_group)
    usual = plain.options() | {"canvases_per_group": 4}
    modules = ("grouping", "saliency")
    different = {name: found[name] for name in parameters if name in found and found[name] != usual[name]}
    wanted = {"preset": tokenizer.preset} | {k: v for k, v in different.items() if k not in modules}
    custom = [name for name in modules if name in different]
    for name in GROUPINGS if "grouping" in custom else ():
        named = CodecTokenizer(grouping=name, canvases_per_group=tokenizer.canvases_per_group)
        if named.options()["grouping"] == found["grouping"]:
            wanted["grouping"] = name
            custom.remove("grouping")
    return wanted | ({CUSTOM: custom} if custom else {})


def build_tokenizer(kind: type[Any], given: Any, saved: Mapping[str, Any], where: str) -> Any:
    """A tokenizer from what a caller gave over what was saved.

    Args:
        kind: the class.
        given: a tokenizer, which is taken as it is; or a mapping of options; or None.
        saved: options of a directory.
        where: how the argument is called, for errors.

    Raises:
        CheckpointError: an option is unknown or out of range, or a custom module is missing.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise CheckpointError(f"{where} must be a {kind.__name__} or a mapping of its options, got {given!r}")
    options = dict(saved) | dict(given or {})
    own = [name for name in options.pop(CUSTOM, []) if name not in (given or {})]
    if own:
        raise CheckpointError(f"{where} was saved with a {' and a '.join(own)} of its own; pass {where}=")
    if given and "budget_tokens" in given and "budget_canvases" not in given:
        options.pop("budget_canvases", None)
    if given and "budget_canvases" in given and "budget_tokens" not in given:
        options.pop("budget_tokens", None)
    if isinstance(options.get("canvas_size"), list):
        options["canvas_size"] = tuple(options["canvas_size"])
    try:
        return kind(**options)
    except (TypeError, ValueError, Ov2kitError) as error:
        raise CheckpointError(f"{where}: {error}") from error
