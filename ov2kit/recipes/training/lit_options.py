"""What the options of `LitLlavaOneVision2` may be, one by one."""

import os
from collections.abc import Mapping
from typing import Any, get_args

from ov2kit.errors import check_choice, check_flag, check_number, check_numbers, check_type
from ov2kit.recipes.architecture.parts import PositionsName
from ov2kit.recipes.model.starting import check_connector
from ov2kit.recipes.prompt.layout import Visibility


def check_options(options: Mapping[str, Any]) -> None:
    """Check them before anything is built; `train`, `lora` and `quantization` have checks of their own.

    Args:
        options: the arguments of the constructor, by name.

    Raises:
        OptionError: one is unknown, of a wrong type or out of range.
    """
    check_type("size", options["size"], (str, dict), "a name or a config")
    for name in ("start", "tokenizer"):
        check_type(name, options[name], (str, os.PathLike), "a path", optional=True)
    check_connector(options["connector"])
    check_type("connector_options", options["connector_options"], Mapping, "a mapping", optional=True)
    if options["positions"] is not None:
        check_choice("positions", options["positions"], get_args(PositionsName))
    check_choice("visibility", options["visibility"], get_args(Visibility))
    check_number("window", options["window"], low=1, integer=True)
    check_numbers("betas", options["betas"], length=2, low=0, below=1)
    check_number("eps", options["eps"], above=0)
    check_number("weight_decay", options["weight_decay"], low=0)
    check_number("warmup_share", options["warmup_share"], low=0, below=1)
    check_number("min_lr", options["min_lr"], low=0)
    check_flag("recompute", options["recompute"])
    check_flag("compile", options["compile"])
    check_number("answer_tokens", options["answer_tokens"], low=1, integer=True)
    check_number("answer_batches", options["answer_batches"], low=0, integer=True)
