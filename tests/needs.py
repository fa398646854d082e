"""What tests skip for: counted in one line at the end, and refused by `--require clips,cuda`."""

import re

#: need -> the reasons that name it
NEEDS = {
    "clips": r"OV2KIT_CLIPS",
    "cuda": r"(?i)cuda",
    "browser": r"Chromium",
    "vllm": r"needs vllm",
    "lmms_eval": r"needs lmms-eval",
    "lmms_engine": r"needs lmms-engine",
    "extras": r"pip install|extra\b|could not import",
    "references": r"lmms-eval|opencv-python|scikit-image",
    "system": r"on the path|/proc",
}


def need(reason: str) -> str:
    """What a skipped test lacked, "other" if its reason names none of `NEEDS`."""
    return next((name for name, pattern in NEEDS.items() if re.search(pattern, reason)), "other")


def required(option: str) -> set[str]:
    """Needs that `--require` names.

    Raises:
        ValueError: one is unknown.
    """
    names = {name for name in option.split(",") if name}
    if unknown := names - {*NEEDS, "other"}:
        raise ValueError(
            f"--require: expected some of {', '.join([*NEEDS, 'other'])}; got {', '.join(sorted(unknown))}"
        )
    return names


def count(reasons: list[str]) -> str:
    """One line for the end of the run."""
    found = [need(reason) for reason in reasons]
    return "skipped: " + ", ".join(f"{found.count(name)} {name}" for name in [*NEEDS, "other"] if name in found)
