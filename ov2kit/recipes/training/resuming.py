"""What a checkpoint was made with, against what a run is set to now."""

from collections.abc import Mapping
from typing import Any

#: options of the model that decide what is learned, beside its architecture
_LEARNING = (
    "visibility", "window", "train", "betas", "eps", "weight_decay", "warmup_share", "min_lr",
    "quantization",
)  # fmt: skip
_TRAINER = ("accumulate_grad_batches", "gradient_clip_val", "precision")
_SHOWN = 6


def architecture(options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the names and shapes of the weights, by name.

    Args:
        options: hyperparameters of `LitLlavaOneVision2`.
    """
    config = dict(options["size"])
    swapped = dict(config.pop("ov2kit", {}))
    connector = options.get("connector")
    if connector is None or "." not in connector:  # one by class path is not in the config
        chosen = dict(swapped.pop("connector", {"name": "merger"}))
        connector, more = chosen.pop("name"), chosen
    else:
        more = dict(options.get("connector_options") or {})
    swapped.pop("positions", None)
    swapped.pop("connector", None)
    facts = {"connector": connector}
    adapters = dict(options.get("lora") or {})
    for part, values in (("connector_options", more), ("lora", adapters), ("", config), ("ov2kit", swapped)):
        facts |= _flat(values, part)
    return facts


def learning(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the model that weights do not show and that decide what is learned, by their flags."""
    config = options["size"]
    facts = {"model.positions": (config.get("ov2kit") or {}).get("positions", "release")}
    for name in _LEARNING:
        if name in options and (name != "window" or options.get("visibility") == "window"):
            facts |= _flat({name: options[name]}, "model")
    return facts


def trainer_settings(trainer: Any) -> dict[str, Any]:
    """The same of a trainer, by their flags; none of None."""
    return {f"trainer.{name}": getattr(trainer, name) for name in _TRAINER if hasattr(trainer, name)}


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One text for each setting that changed, in the order of the checkpoint; a setting that is not there is None."""
    changed = []
    for name in [*was, *(name for name in now if name not in was)]:
        before, after = was.get(name), now.get(name)
        if before != after:
            changed.append(f"{name} {before!r} -> {after!r}")
    return changed


def listed(changed: list[str]) -> str:
    """The first of them in one line, and how many more there are."""
    more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return "; ".join(changed[:_SHOWN]) + more


def _flat(values: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Nested mappings as dotted names; tuples as lists, as a checkpoint brings them back."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{part}.{key}" if part else str(key)
        if isinstance(value, Mapping):
            found |= _flat(value, name)
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found
