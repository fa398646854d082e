"""LoRA on one GPU beside an 8B model in bfloat16, 8 bits and 4 bits: memory, speed, and that it learns.

    python -m benchmarks.finetuning                      # needs CUDA and bitsandbytes; about a minute and a half
    python -m benchmarks.finetuning --bases bf16 nf4     # some of them
    python -m benchmarks.finetuning --compute-only       # the memory that it should take, without a GPU
    python -m benchmarks.finetuning --dry-run            # the whole script on a CPU, with the tiny model

The weights are random, drawn on the GPU one tensor at a time, and quantized by transformers as it would quantize
those of a directory. Adapters of every linear layer of tower, connector and language model learn one row of a video
by heart for five steps under bfloat16 autocast, with recomputation. Every adapter must get a gradient and the loss
must fall, or the script ends with status 1. Results go to benchmarks/results/finetuning_GPU.json after each base;
`python -m benchmarks.tables` puts them into docs/finetuning.md. Nothing of a video is decoded.
"""

import time

BEGAN = time.monotonic()

import argparse  # noqa: E402 - importing what follows takes a good part of the time
import functools  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

from benchmarks._finetuning.drawn import plain, quantized  # noqa: E402
from benchmarks._finetuning.memory import BYTES, GB, computed, linear_shapes  # noqa: E402
from benchmarks._finetuning.row import row  # noqa: E402
from benchmarks.run_info import run_info  # noqa: E402
from ov2kit.files import write_text  # noqa: E402
from ov2kit.recipes.architecture.sizes import release_config  # noqa: E402
from ov2kit.recipes.model.adapters import add_adapters, check_lora  # noqa: E402
from ov2kit.recipes.model.quantized import check_quantization  # noqa: E402
from ov2kit.recipes.training.learning_rates import freeze_all_but, learns  # noqa: E402
from ov2kit.recipes.training.optim import adamw  # noqa: E402

RESULTS = Path(__file__).parent / "results"
RATES = dict.fromkeys(("encoder", "connector", "language_model"), 2e-4)
STEPS, WARM = 5, 3


def main():
    arguments = parse()
    transformers_logging.disable_progress_bar()
    config = release_config(arguments.size)
    lora = check_lora({"r": arguments.rank})
    if arguments.compute_only:
        write(arguments, "8b", {"row": facts(arguments), "bases": {b: compute(config, b, arguments) for b in BYTES}})
        return
    device = torch.device("cpu" if arguments.dry_run else "cuda", None if arguments.dry_run else 0)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no CUDA device; --dry-run goes through the script on a CPU, --compute-only adds memory up")
    said = {"run": run_info(device.type), "row": facts(arguments), "lora": lora, "bases": {}}
    place = "dry" if arguments.dry_run else said["run"]["device"].lower().replace("nvidia", "").split()[0]
    for base in arguments.bases:
        if (left := arguments.seconds - (time.monotonic() - BEGAN)) < 0:
            print(f"{base}: left out, {-left:.0f} s after the limit", flush=True)
            continue
        try:
            found = measure(base, config, lora, arguments, device)
        except Exception as error:  # the other bases are worth having
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:300], "learns": False}
        said["bases"][base] = found | {"computed": compute(config, base, arguments)}
        write(arguments, place, said)
        print(f"{base}, after {time.monotonic() - BEGAN:.0f} s: {json.dumps(said['bases'][base])}", flush=True)
    wrong = [base for base, found in said["bases"].items() if not found["learns"]]
    sys.exit(
        f"error: {', '.join(wrong)}: failed, or an adapter got no gradient, or the loss did not fall" if wrong else 0
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", choices=list(BYTES), default=["bf16", "nf4", "int8"])
    parser.add_argument("--size", default="8b")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--canvases", type=int, default=32, help="of 28 x 32 patches, which are 224 tokens")
    parser.add_argument("--text", type=int, default=512, help="tokens beside the visual ones")
    parser.add_argument("--answer", type=int, default=128, help="of these, supervised")
    parser.add_argument("--seconds", type=float, default=65.0, help="begin no other base after this long")
    parser.add_argument("--out", type=Path, default=None, help="folder for the results, instead of benchmarks/results")
    parser.add_argument("--compute-only", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    arguments.height, arguments.width = 28, 32
    if arguments.dry_run:
        arguments.size, arguments.canvases, arguments.height, arguments.width = "tiny", 5, 4, 6
        arguments.text, arguments.answer = 24, 8
    return arguments


def facts(arguments):
    patches = arguments.canvases * arguments.height * arguments.width
    return {
        "size": arguments.size,
        "canvases": arguments.canvases,
        "patches": patches,
        "visual_tokens": patches // 4,
        "tokens": patches // 4 + arguments.text,
        "supervised_tokens": arguments.answer,
        "rank": arguments.rank,
    }


def compute(config, base, arguments):
    row_facts = facts(arguments)
    return computed(config, shapes(arguments.size), base, arguments.rank, row_facts["tokens"], row_facts["patches"])


@functools.cache
def shapes(size):
    return linear_shapes(release_config(size))


def write(arguments, name, found):
    """Where it belongs; a dry run writes only where it was asked to."""
    if arguments.dry_run and arguments.out is None:
        return
    folder = arguments.out or RESULTS
    write_text(folder / f"finetuning_{name}.json", json.dumps(found, indent=1) + "\n")


def measure(base, config, lora, arguments, device):
    """Build, learn, and let go of everything again."""
    clear(device)
    before = allocated(device)
    begin = time.monotonic()
    named = None if base == "bf16" else check_quantization(base)
    model = plain(config, device) if named is None else quantized(config, named, device)
    clear(device)
    found = {
        "build_seconds": time.monotonic() - begin,
        "weights_gb": (allocated(device) - before) / GB,
        "before_gb": before / GB,
        "linear": type(model.model.language_model.layers[0].mlp.up_proj).__name__,
    }
    freeze_all_but(model, RATES)
    add_adapters(model, lora, lambda name: learns(model.part_name(name), RATES))
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for parameter in adapters.values():
        parameter.data = parameter.data.to(device)
    model.set_gradient_checkpointing(True)
    model.train()
    optimizer = adamw(model, RATES, weight_decay=0.0)
    batch = row(config, arguments.canvases, arguments.height, arguments.width, arguments.text, arguments.answer, device)
    clear(device)
    losses, seconds, without = [], [], []
    for _ in range(STEPS):
        synchronize(device)
        begin = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        synchronize(device)
        seconds.append(time.monotonic() - begin)
        losses.append(loss.item())
        del loss  # and its graph, as a trainer does
        # the first gradients of A are 0, because B is: what the last step says counts
        without = [
            name for name, p in adapters.items() if p.grad is None or not bool(p.grad.isfinite().all() & p.grad.any())
        ]
        optimizer.zero_grad()
    middle = statistics.median(seconds[-WARM:])
    return found | {
        "peak_gb": peak(device) / GB,
        "seconds_per_step": middle,
        "seconds": seconds,
        "tokens_per_second": batch["input_ids"].numel() / middle,
        "losses": losses,
        "adapters": len(adapters),
        "adapters_without_gradient": without[:5],
        "learns": not without and losses[-1] < losses[0],
    }


def clear(device):
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def allocated(device):
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else float("nan")


def peak(device):
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else float("nan")


if __name__ == "__main__":
    main()
