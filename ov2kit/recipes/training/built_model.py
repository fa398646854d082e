"""The model of a run as its options ask: fresh, from a start, or quantized beside adapters; and where it may run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov2kit.errors import OptionError
from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.model.quantized import quantized_model
from ov2kit.recipes.model.starting import fresh_model, started_model, swap


@dataclass(frozen=True)
class BuiltModel:
    """A model before its first step.

    Args:
        model: with everything in it that a run asked for, adapters excepted.
        fresh_parts: parts whose weights are random until a checkpoint is read.
        base: directory whose weights are not in checkpoints, absolute; None where all of them are.
    """

    model: LlavaOneVision2
    fresh_parts: tuple[str, ...]
    base: str | None = None


def built_model(
    size: str | Mapping[str, Any],
    start: str | None,
    tokenizer: str | None,
    swapped: Mapping[str, Any],
    *,
    adapters: Mapping[str, Any] | None,
    quantization: Mapping[str, Any] | None,
) -> BuiltModel:
    """The model that the options of a run ask for.

    Args:
        size: name or release config; ignored where there is a start.
        start: directory of a model, or a checkpoint.
        tokenizer: directory that a named size is fitted to.
        swapped: connector, connector_options and positions; None for those of the start.
        adapters: what `check_lora` gave.
        quantization: what `check_quantization` gave.

    Raises:
        OptionError: options do not go together.
        CheckpointError: `start` cannot be read.
    """
    if quantization is not None:
        base = _check_quantized(start, adapters, swapped)
        return BuiltModel(quantized_model(base, quantization), (), base)
    if start is None:
        fresh = fresh_model(size, tokenizer=tokenizer, **swapped)
        return BuiltModel(fresh, ("encoder", "connector", "language_model"))
    started = started_model(start)
    model = swap(started, **swapped)
    return BuiltModel(model, ("connector",) if model.connector is not started.connector else ())


def check_place(model: LlavaOneVision2, trainer: Any, *, is_sharded: bool) -> None:
    """Quantized weights stay whole, and where they are.

    Raises:
        OptionError: the trainer would split or move them.
    """
    if is_sharded:
        raise OptionError("quantized weights are not split over processes; leave quantization, or the strategy")
    wanted, there = trainer.strategy.root_device, next(model.parameters()).device
    if wanted != there:
        raise OptionError(
            f"the quantized weights are on {there} and the trainer runs on {wanted}; choose the device by "
            "CUDA_VISIBLE_DEVICES and leave trainer.accelerator and trainer.devices to it"
        )


def _check_quantized(start: str | None, adapters: Any, swapped: Mapping[str, Any]) -> str:
    """The directory to quantize, absolute.

    Raises:
        OptionError: quantization has nothing to start from, nothing would learn, or a part would be in no file.
    """
    if start is None:
        raise OptionError("quantization needs a model to start from: set start (--model.start DIR)")
    if adapters is None:
        raise OptionError("quantized weights do not learn: set lora as well (--model.lora '{r: 16}')")
    if changed := [name for name, value in swapped.items() if value is not None]:
        raise OptionError(
            f"{' and '.join(changed)} cannot be changed beside quantization, whose checkpoints hold adapters alone; "
            "make a directory with it first: a run without quantization, then ov2kit convert"
        )
    return str(Path(start).expanduser().absolute())
