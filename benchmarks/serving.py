"""A served model under load on the loopback address: codec videos beside sampled frames of the same tokens.

    python -m benchmarks.serving                                   # in the environment of `make clients` that has vLLM
    python -m benchmarks.serving --requests 200 --at_once 8 --clip a.mp4 --write

Every request asks one tiny model about the same clip, and nothing is kept between requests: the server's caches are
off. What is measured is the way to the model: reading, decoding, choosing, preprocessing. CPU seconds are those of all
processes of the server; --write stores the result for `benchmarks.tables`.
"""

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av

from benchmarks.run_info import run_info
from tests.paths import SAMPLE
from tests.recipes.clients.served import Own, write_model
from tests.recipes.clients.server import FLAGS, Server

RESULT = Path(__file__).parent / "results" / "serving.json"
MODES = {"codec": {"video_backend": "codec"}, "frames": {"video_backend": "frame"}}
_NO_CACHE = ("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0")
_MOST_REQUESTS, _MOST_AT_ONCE, _TIMEOUT = 1000, 32, 300


def cpu_seconds(server: Server) -> float:
    """Of all processes of the server that live now."""
    import psutil

    main = psutil.Process(server.process.pid)
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def ask(server: Server, clip: Path, options: dict[str, Any]) -> tuple[float, int]:
    """Seconds to the first token, and the tokens of the prompt."""
    content = [
        {"type": "video_url", "video_url": {"url": f"file://{clip}"}},
        {"type": "text", "text": "What happens?"},
    ]
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "temperature": 0,
        "ignore_eos": True,
        "mm_processor_kwargs": options,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    begin = time.perf_counter()
    first, prompt = 0.0, 0
    with urllib.request.urlopen(server.request(body), timeout=_TIMEOUT) as reply:
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if not first and event["choices"] and event["choices"][0].get("token_ids"):
                first = time.perf_counter() - begin
            if event.get("usage"):
                prompt = event["usage"]["prompt_tokens"]
    if not first or not prompt:
        raise RuntimeError("an answer without a token")
    return first, prompt


def load(server: Server, clip: Path, options: dict[str, Any], requests: int, at_once: int) -> dict[str, Any]:
    """One mode under load."""
    ask(server, clip, options)  # what is done once is not counted
    with av.open(str(clip)) as file:
        assert file.duration is not None
        minutes = file.duration / av.time_base / 60
    before, begin = cpu_seconds(server), time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(lambda _: ask(server, clip, options), range(requests)))
    wall, used = time.perf_counter() - begin, cpu_seconds(server) - before
    firsts = sorted(first for first, _ in found)
    (tokens,) = {prompt for _, prompt in found}
    return {
        "prompt_tokens": tokens,
        "cpu_seconds_per_request": used / requests,
        "cpu_seconds_per_minute": used / requests / minutes,
        "first_token_median": statistics.median(firsts),
        "first_token_p95": firsts[int(0.95 * (len(firsts) - 1))],
        "requests_per_second": requests / wall,
    }


def measure(clip: Path, requests: int, at_once: int, canvases: int, pixels: int) -> dict[str, Any]:
    """Both modes, one server."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "tiny", budget=canvases, pixels=pixels)
        flags = (*FLAGS, *_NO_CACHE, "--allowed-local-media-path", str(clip.parent))
        with Server(model, Path(folder) / "log", flags) as server:
            modes = {}
            for name, options in MODES.items():
                budget = {"budget_canvases" if name == "codec" else "num_frames": canvases}
                modes[name] = load(server, clip, options | budget, requests, at_once)
        own = Own(model)
        for name in MODES:
            budget = {"num_frames": canvases} if name == "frames" else {"codec_config": {"budget_canvases": canvases}}
            sample = own.sample([{"type": "video", "video": str(clip)}], source=name, **budget)
            modes[name]["visual_tokens"] = int(sample.stats["visual_tokens"])
    with av.open(str(clip)) as file:
        stream = file.streams.video[0]
        assert file.duration is not None
        said = f"{stream.width}x{stream.height}, {file.duration / av.time_base:.0f} s"
    facts = {"clip": clip.name, "stream": said, "requests": requests, "at_once": at_once, "canvases": canvases}
    return {**facts, "modes": modes, "run": run_info(), "measured": time.strftime("%Y-%m-%d")}


def main() -> None:
    """Measure, print, and store if that is asked for."""
    parser = argparse.ArgumentParser(description="A served model under load on the loopback address.")
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at_once", type=int, default=8)
    parser.add_argument("--canvases", type=int, default=16, help="canvases, and frames of the other mode")
    parser.add_argument("--pixels", type=int, default=100_000, help="area of a canvas and of a frame")
    parser.add_argument("--write", action="store_true", help=f"store the result in {RESULT.name}")
    given = parser.parse_args()
    if not (1 <= given.requests <= _MOST_REQUESTS and 1 <= given.at_once <= _MOST_AT_ONCE):
        parser.error(f"up to {_MOST_REQUESTS} requests, {_MOST_AT_ONCE} at once")
    found = measure(given.clip.resolve(), given.requests, given.at_once, given.canvases, given.pixels)
    text = json.dumps(found, indent=1)
    print(text)
    if given.write:
        RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
