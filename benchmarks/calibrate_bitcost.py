"""Fit the coefficients of `BitCostMap` against a patched decoder, and say how good they are.

    python -m benchmarks.calibrate_bitcost [CLIP_OR_FOLDER...] [--out FILE] [--report FILE]

Makes an environment for codec-video-prep 0.2.5, whose decoder reports the bits of every block; encodes the
sources again over encoders, presets, rates, GOPs, B-frames and sizes; fits; and tests on footage that was
left out: folds by source, so that no clip is tested by coefficients that saw anything of its footage. The
shipped coefficients are fitted on everything. Some minutes on a quiet machine; the environment, the encodes
and the truth are kept in --cache.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks._bitcost.blocks import agreement, released_choice
from benchmarks._bitcost.encodes import Encode, plan_encodes
from benchmarks._bitcost.encodes import make as make_encode
from benchmarks._bitcost.fit import HIDDEN, estimate, fit
from benchmarks._bitcost.measures import correlation, in_bytes, overlap
from benchmarks._bitcost.report import Row, write_report
from benchmarks._bitcost.samples import NoTruthError, Sample, footage, load_sample
from benchmarks._peers.environments import PeerUnavailableError, prepare
from ov2kit.codec.signals.bit_cost import COEFFICIENTS
from ov2kit.codec.signals.macroblock_inputs import Moved
from ov2kit.errors import VideoError
from tests.clips import SHARED

VERSION = 1  # of this script, in the metadata of what it writes
SUFFIXES = {".mp4", ".mkv", ".mov", ".m4v", ".avi", ".webm", ".ts"}
SIGNALS: tuple[Moved, ...] = ("vectors", "difference", "estimated")
# Clips from other encoders than FFmpeg's are rare: the sources themselves are fitted on as well.
FRAMES = {"vectors": 128, "difference": 64, "estimated": 64}


def find(inputs: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in inputs:
        found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def folds(samples: Sequence[Sample], count: int, seed: int) -> list[set[str]]:
    """Sources dealt out to `count` folds."""
    sources = sorted({s.source for s in samples})
    np.random.default_rng(seed).shuffle(sources)
    return [set(sources[i::count]) for i in range(count)]


def _load(arguments: tuple[Path, Path, int, Path, Moved]) -> str:
    """Why a clip cannot be used, or nothing; what was measured is kept on disk."""
    torch.set_num_threads(1)
    try:
        load_sample(*arguments)
    except (NoTruthError, VideoError) as error:
        return str(error)
    return ""


def _fits(signal: Moved, encode: Encode | None) -> bool:
    """Vectors are fitted on H.264 alone; the other signals on HEVC and VP9, and on the sources with vectors hidden."""
    return encode is None or (encode.encoder == "libx264") == (signal == "vectors")


def measure(name: str, sample: Sample, estimated: torch.Tensor) -> Row:
    moving = sample.kinds != "I"
    return Row(
        clip=sample.name,
        codec=sample.codec,
        signal=name,
        frames=len(sample.bits),
        grid=(sample.bits.shape[1], sample.bits.shape[2]),
        told=float(sample.bits.sum() / sample.packets.sum()),
        correlation=correlation(estimated, sample.bits),
        overlap=overlap(estimated, sample.bits),
        moving_correlation=correlation(estimated[moving], sample.bits[moving]) if moving.any() else float("nan"),
        moving_overlap=overlap(estimated, sample.bits, moving),
        bytes_ceiling=correlation(estimated, in_bytes(estimated)),
    )


def by_residual(sample: Sample) -> torch.Tensor:
    """The baseline: the packet's bits by log(1 + mean residual / 2)."""
    cost = (sample.features[:, 0].float().expm1() / 2).log1p().clamp(min=1e-6)
    return (cost / cost.sum((1, 2), keepdim=True) * sample.packets[:, None, None]).float()


def _kept(
    out: Path, rows: Path, signals: set[str]
) -> tuple[dict[str, torch.Tensor], list[Row], dict[str, list[str]], dict[str, str]]:
    """Coefficients, rows, clips and what was skipped of the signals that are not fitted again."""
    if not signals:
        return {}, [], {}, {}
    with safe_open(str(out), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name.split(".")[0] in signals}  # noqa: SIM118
        used = json.loads(file.metadata()["clips"])
    told = json.loads(rows.read_text(encoding="utf-8"))
    found = [Row(**row) for row in told["rows"] if row["signal"].split(":")[0] in signals]
    return tensors, found, {name: used[name] for name in signals}, told["skipped"]


class Held(NamedTuple):
    """What the processes that fit share."""

    samples: list[Sample]
    signal: Moved
    tested: set[str]
    choices: dict[str, tuple[Path, dict[str, np.ndarray]]]
    seed: int
    steps: int


_held: Held


def _fold(left_out: set[str]) -> tuple[list[Row], dict[str, torch.Tensor]]:
    """Rows of the footage left out, and the coefficients that did not see it."""
    torch.set_num_threads(1)
    samples, signal, tested, choices, seed, steps = _held
    model = fit([s for s in samples if s.source not in left_out], signal, seed, steps)
    rows = []
    for sample in samples:
        if sample.source not in left_out or sample.name not in tested:
            continue
        row = measure(signal, sample, estimate(model, sample))
        if sample.name in choices:
            path, choice = choices[sample.name]
            found, chance = agreement(choice, path, model)
            row = row._replace(blocks=found, blocks_chance=chance, blocks_before=agreement(choice, path, None)[0])
        rows.append(row)
        rows.append(measure(f"{signal}: packet shared out by log(1 + residual / 2)", sample, by_residual(sample)))
    return rows, {name: value.detach().contiguous() for name, value in model.named_parameters()}


def fit_all(held: Held, count: int, jobs: int, keep: Path) -> tuple[list[Row], dict[str, torch.Tensor]]:
    """Cross-validate over `count` folds of sources, and fit on everything; what each fold fitted is kept in `keep`."""
    global _held  # noqa: PLW0603 - forked processes see it without a copy
    _held = held
    work: list[set[str]] = [set(), *folds(held.samples, count, held.seed)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        done = list(pool.map(_fold, work))
    keep.mkdir(parents=True, exist_ok=True)
    for number, (left_out, (_, fitted)) in enumerate(zip(work, done, strict=True)):
        named = {f"{held.signal}.{name}": value for name, value in fitted.items()}
        save_file(named, keep / f"{held.signal}.{number}.safetensors", {"left_out": json.dumps(sorted(left_out))})
    return [row for rows, _ in done[1:] for row in rows], done[0][1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", type=Path, default=[SHARED, SHARED / "calibration"])
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / ".peers")
    parser.add_argument("--out", type=Path, default=COEFFICIENTS)
    parser.add_argument("--report", type=Path, default=Path(__file__).parent / "results" / "bitcost.md")
    parser.add_argument("--folds", type=int, default=4, help="of sources; 0 fits the shipped coefficients only")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=SIGNALS, help="fit these, keep the others")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000, help="of each fit with vectors; a quarter without")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = find(args.inputs)
    if not clips:
        print("error: no clip found; give folders with videos", file=sys.stderr)
        return 2
    cache = args.cache.resolve()
    try:
        python = prepare("codec-video-prep", cache)
    except PeerUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sources = list({footage(path.name): path for path in reversed(clips)}.values())[::-1]  # the first of each footage
    plan = plan_encodes(sources, args.seed)
    encoded = {encode.name(index): encode for index, encode in enumerate(plan)}
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(make_encode, plan, [cache / "encodes" / name for name in encoded]))
    tensors, rows, used, skipped = _kept(args.out, cache / "bitcost.json", set(SIGNALS) - set(args.signals))
    for signal in args.signals:
        paths = [p for p in [*clips, *(cache / "encodes" / n for n in encoded)] if _fits(signal, encoded.get(p.name))]
        with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
            tried = list(pool.map(_load, [(python, path, FRAMES[signal], cache, signal) for path in paths]))
        samples = []
        for path, problem in zip(paths, tried, strict=True):
            if problem:
                skipped[path.name] = problem
                continue
            sample = load_sample(python, path, FRAMES[signal], cache, signal)
            if signal != "vectors" or sample.codec == "h264":
                samples.append(sample)
        used[signal] = [s.name for s in samples]
        print(f"{signal}: {len(samples)} clips", file=sys.stderr, flush=True)

        tested = {s.name for s in samples if s.name not in encoded or (signal != "vectors" and s.codec != "h264")}
        choices = {}
        for path in clips if signal == "vectors" and args.folds else []:
            if path.name in tested:
                try:
                    choices[path.name] = (path, released_choice(python, path, cache))
                except NoTruthError as error:
                    skipped[f"{path.name}, blocks of the released tool"] = str(error)
        steps = args.steps if signal == "vectors" else args.steps // 4
        held = Held(samples, signal, tested, choices, args.seed, steps)
        found, fitted = fit_all(held, args.folds, args.jobs, cache / "folds")
        rows += found
        tensors |= {f"{signal}.{name}": value for name, value in fitted.items()}
    about = {
        "script": {"name": "benchmarks/calibrate_bitcost.py", "version": VERSION},
        "seed": args.seed,
        "steps": {"vectors": args.steps, "difference": args.steps // 4, "estimated": args.steps // 4},
        "hidden": HIDDEN,
        "truth": "codec-video-prep 0.2.5",
        "clips": used,
        "encodes": {name: encode.describe() for name, encode in encoded.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out, metadata={key: json.dumps(value) for key, value in about.items()})
    print(f"{args.out}: {args.out.stat().st_size / 1000:.1f} KB", file=sys.stderr)
    if rows:
        (cache / "bitcost.json").write_text(
            json.dumps({"rows": [r._asdict() for r in rows], "skipped": skipped}), encoding="utf-8"
        )
        write_report(args.report, rows, skipped, plan, about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
