"""LoRA on one GPU: memory added up (results/finetuning_8b.json), and measured (results/finetuning_GPU.json)."""

import json

from benchmarks._tables.markdown import RESULTS, table

_BASES = {"bf16": "bfloat16", "int8": "8 bits (`int8`)", "nf4": "4 bits (`nf4`)"}
_PARTS = {
    "weights": "frozen weights",
    "adapters": "adapters, their gradients and moments",
    "inputs": "inputs of all layers, the rest recomputed",
    "sum": "in all, beside the layer at work",
}


def memory() -> str:
    """What it should take, and below that what each GPU measured."""
    computed = _read("8b")
    rows = [[said, *(f"{computed['bases'][base][part]:.1f} GB" for base in _BASES)] for part, said in _PARTS.items()]
    for place in sorted(RESULTS.glob("finetuning_*.json")):
        name = place.stem.removeprefix("finetuning_")
        if name != "8b":
            rows += _measured(name.upper(), _read(name)["bases"])
    return table(["", *_BASES.values()], rows)


def _measured(gpu, bases):
    """Rows of one GPU; what it did not run is a dash."""

    def cells(say):
        return [say(bases[base]) if "peak_gb" in bases.get(base, {}) else "-" for base in _BASES]

    return [
        [f"weights on an {gpu}", *cells(lambda found: f"{found['weights_gb']:.1f} GB")],
        ["peak", *cells(lambda found: f"{found['peak_gb']:.1f} GB")],
        ["of it beyond the sum", *cells(lambda found: f"{found['peak_gb'] - found['computed']['sum']:.1f} GB")],
        ["seconds per step", *cells(lambda found: f"{found['seconds_per_step']:.2f}")],
        ["tokens per second", *cells(lambda found: f"{found['tokens_per_second']:.0f}")],
        ["loss, five steps", *cells(lambda found: f"{found['losses'][0]:.2f} to {found['losses'][-1]:.2f}")],
    ]


def _read(name):
    return json.loads((RESULTS / f"finetuning_{name}.json").read_text(encoding="utf-8"))
