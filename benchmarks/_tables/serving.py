"""A served model under load: from results/serving.json."""

import json

from benchmarks._tables.markdown import RESULTS, table

_COLUMNS = {
    "visual tokens": ("visual_tokens", "{:.0f}"),
    "tokens of the prompt": ("prompt_tokens", "{:.0f}"),
    "CPU seconds per request": ("cpu_seconds_per_request", "{:.2f}"),
    "per minute of video": ("cpu_seconds_per_minute", "{:.1f}"),
    "first token, median": ("first_token_median", "{:.2f} s"),
    "95 %": ("first_token_p95", "{:.2f} s"),
    "requests per second": ("requests_per_second", "{:.2f}"),
}


def load() -> str:
    """Codec videos beside sampled frames."""
    found = json.loads((RESULTS / "serving.json").read_text(encoding="utf-8"))
    rows = [
        [name, *(form.format(mode[key]) for key, form in _COLUMNS.values())] for name, mode in found["modes"].items()
    ]
    return table(["videos as", *_COLUMNS], rows)


def conditions() -> str:
    """What the numbers hold for."""
    found = json.loads((RESULTS / "serving.json").read_text(encoding="utf-8"))
    run = found["run"]
    facts = {
        "clip": f"{found['clip']}, {found['stream']}",
        "requests": f"{found['requests']}, {found['at_once']} at a time, {found['canvases']} canvases or frames each",
        "machine": f"{run['processor']}, {run['cores']} cores, load {run['load'][0]:.0f} at the end",
        "measured": found["measured"],
    }
    return table(["", ""], [[name, value] for name, value in facts.items()])
