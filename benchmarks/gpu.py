"""Every attention backend on a GPU: right first, then fast, as one table.

    python -m benchmarks.gpu [--out gpu.md]     # needs CUDA; takes a few minutes
    python -m benchmarks.gpu --dry-run          # the same script on a CPU, tiny shapes

Each backend is checked against `eager` in float64, forward and backward, for every kind of
visibility; one wrong number ends the script with status 1. Then each is timed beside xformers' own
dense-mask call, torch's varlen kernel called directly, SDPA with a dense mask, and the roofline of
a large matrix product measured in the same run. The encoder follows, beside the release's
arithmetic at equal weights. Backends that cannot run are listed with their reasons.

Letters: N tokens, H heads, D head_dim, L tokens of one group.
"""

import argparse
import copy
import datetime
import importlib.metadata
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

from benchmarks.measure import call_per_segment, dense_mask_call, plain_encoder
from ov2kit import Segments
from ov2kit.encoders import OneVisionEncoder, attention_backends
from ov2kit.encoders.backends import BACKENDS, TOLERANCE, choose, varlen, xformers

EAGER = next(backend for backend in BACKENDS if backend.name == "eager")


def main():
    arguments = parse()
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no CUDA device; run with --dry-run to exercise the script on a CPU")
    dtype = torch.float32 if arguments.dry_run else getattr(torch, arguments.dtype)
    torch.manual_seed(0)
    report = [f"# Attention and encoder on {name_of(device)}", "", *versions(device, dtype), ""]
    correct, lines = check_backends(device, dtype, arguments)
    report += lines
    if correct:
        peak = matmul_peak(device, dtype, arguments)
        report += time_attention(device, dtype, arguments, peak)
        report += time_encoder(device, dtype, arguments)
    text = "\n".join(report) + "\n"
    print(text)
    if arguments.out and not arguments.dry_run:
        Path(arguments.out).write_text(text, encoding="utf-8")
    sys.exit(0 if correct else 1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="run everything on a CPU with tiny shapes")
    parser.add_argument("--out", default=None, help="also write the table to this file")
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--group-tokens", type=int, default=784, help="L, a multiple of 8; 4 canvases of 14 x 14")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--without-flex", action="store_true", help="skip FlexAttention, which compiles first")
    arguments = parser.parse_args()
    arguments.heads, arguments.head_dim, arguments.groups = 16, 64, (1, 4, 8, 16, 32)
    if arguments.dry_run:
        arguments.heads, arguments.groups, arguments.group_tokens, arguments.repeats = 2, (1, 4), 32, 3
    return arguments


def name_of(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"a CPU ({platform.machine()}, dry run)"


def versions(device, dtype):
    packages = []
    for package in ("torch", "xformers", "mslk-cuda", "triton"):
        try:
            packages.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            packages.append(f"{package} absent")
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    cuda = f", CUDA {torch.version.cuda}" if device.type == "cuda" else ""
    return [f"{when}, {', '.join(packages)}{cuda}, {dtype}. Medians; memory is the peak beyond inputs."]


# Right first --------------------------------------------------------------------------------------


def visibilities(device):
    mixed = Segments.from_lengths([200, 64, 200, 136, 8, 264], device)
    return {
        "one": Segments.from_lengths([256], device),
        "equal": Segments.from_lengths([128] * 4, device),
        "mixed": mixed,
        "causal": mixed.causal([4, 2]),
    }


def check_backends(device, dtype, arguments):
    """Forward and backward of every backend against eager in float64."""
    lines = ["## Against eager in float64", "", "| backend | visibility | forward | dq | dk | dv |", "| --- " * 6 + "|"]
    notes, correct = [], True
    for name, segments in visibilities(device).items():
        shape = (segments.num_tokens, 3, arguments.heads, arguments.head_dim)
        q, k, v = (x.detach().requires_grad_() for x in torch.randn(shape, device=device).to(dtype).unbind(1))
        exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
        want = EAGER.run(*exact, segments)
        direction = torch.randn_like(want)
        want_grads = torch.autograd.grad((want * direction).sum(), exact)
        for backend in BACKENDS:
            if backend is EAGER or (backend.name == "flex" and arguments.without_flex):
                continue
            if reasons := backend.why_not(q, segments):
                notes.append(f"- {backend.name}, {name}: {'; '.join(reasons)}")
                continue
            try:
                got = backend.run(q, k, v, segments)
                grads = torch.autograd.grad((got.double() * direction).sum(), (q, k, v))
            except Exception as error:  # a backend that says it can run, and cannot, is a finding
                correct = False
                notes.append(f"- {backend.name}, {name}: FAILED with {type(error).__name__}: {error}")
                continue
            errors = [(got - want).abs().max().item()]
            errors += [(a - b).abs().max().item() for a, b in zip(grads, want_grads, strict=True)]
            right = all(error <= TOLERANCE[dtype] for error in errors)
            correct &= right
            verdict = "" if right else f" WRONG, allowed {TOLERANCE[dtype]:.0e}"
            lines.append(f"| {backend.name}{verdict} | {name} | " + " | ".join(f"{e:.1e}" for e in errors) + " |")
    return correct, [*lines, "", *(["Cannot run:", "", *notes, ""] if notes else [])]


# Then fast ----------------------------------------------------------------------------------------


def timed(step, device, repeats):
    """(median milliseconds, peak MiB) of one step."""
    for _ in range(3 if device.type == "cuda" else 1):
        step()
    if device.type != "cuda":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times), float("nan")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    events = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return statistics.median(start.elapsed_time(end) for start, end in events), peak


def matmul_peak(device, dtype, arguments):
    """Floating point operations per second of a large matrix product: the roof."""
    n = 8192 if device.type == "cuda" else 256
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    milliseconds, _ = timed(lambda: a @ b, device, arguments.repeats)
    return 2 * n**3 / (milliseconds / 1e3)


def ways(q, segments, arguments):
    """Name -> function of (q, k, v) for everything that can run here."""
    found = {}
    for backend in BACKENDS:
        if backend is EAGER or (backend.name == "flex" and arguments.without_flex) or backend.why_not(q, segments):
            continue
        found[f"ov2kit {backend.name}"] = lambda q, k, v, run=backend.run: run(q, k, v, segments)
    if segments.keys is not None:  # the others below know block-diagonal visibility only
        return found
    if not attention_backends(q, segments)["xformers"]:
        n = segments.num_tokens
        bias = torch.zeros(n, n, dtype=q.dtype, device=q.device).masked_fill_(~segments.dense(), -torch.inf)
        bias = bias[None, None].expand(1, q.shape[1], n, n)
        memory_efficient = xformers._kernels().attention
        found["xformers, dense mask"] = lambda q, k, v: memory_efficient(q[None], k[None], v[None], attn_bias=bias)[0]
    if not attention_backends(q, segments)["varlen"]:
        direct, sums, longest = varlen._kernel(), segments.cu_seqlens, segments.max_length
        found["torch varlen, called directly"] = lambda q, k, v: direct(q, k, v, sums, sums, longest, longest)
    mask = segments.dense()
    found["SDPA, dense mask"] = lambda q, k, v: dense_mask_call(q, k, v, mask)
    found["SDPA, call per segment"] = lambda q, k, v: call_per_segment(q, k, v, list(segments.lengths))
    return found


def layouts(unit, groups, device):
    """Name -> Segments to time: equal groups, mixed lengths of the same sum, and one causal."""
    found = {f"{many} groups": Segments.from_lengths([unit] * many, device) for many in groups}
    for many in groups[2:]:
        mixed = [unit * (1 + index % 3) // 2 // 8 * 8 for index in range(many)]
        found[f"{many} mixed"] = Segments.from_lengths(mixed, device)
    causal = Segments.from_lengths([unit] * groups[1], device).causal()
    return {**found, f"{groups[1]} causal": causal}


def time_attention(device, dtype, arguments, peak):
    lines = [
        "## Attention",
        "",
        f"{arguments.heads} heads of {arguments.head_dim}, groups of {arguments.group_tokens} tokens; mixed ones have "
        f"half of that to one and a half times as many. A matrix product "
        f"runs at {peak / 1e12:.2f} TFLOP/s here; the share of it counts 4 L^2 D operations per head and group "
        "forward and 3.5 times that with backward. An asterisk marks what `auto` takes.",
        "",
        "| input | way | forward ms | share of roof | forward + backward ms | share of roof | peak MiB |",
        "| --- " * 7 + "|",
    ]
    ratios = []
    for name, segments in layouts(arguments.group_tokens, arguments.groups, device).items():
        shape = (segments.num_tokens, 3, arguments.heads, arguments.head_dim)
        q, k, v = torch.randn(shape, device=device).to(dtype).unbind(1)
        pairs = sum(
            (end - start) * (last - first)
            for (start, end), (first, last) in zip(segments.runs, segments.keys or segments.runs, strict=True)
        )
        work = 4 * pairs * arguments.head_dim * arguments.heads
        taken, median = f"ov2kit {choose(q, segments).name}", {}
        for way, run in ways(q, segments, arguments).items():
            try:
                row, median[way] = time_way(run, (q, k, v), work, peak, device, arguments.repeats)
            except torch.OutOfMemoryError:
                row = "out of memory | | | | |"
            lines.append(f"| {name} | {way}{' *' if way == taken else ''} | {row}")
        ratios += compare(name, taken, median)
    return [*lines, "", *ratios, ""]


def time_way(run, qkv, work, peak, device, repeats):
    with torch.no_grad():
        forward, _ = timed(lambda: run(*qkv), device, repeats)
    leaves = [x.detach().requires_grad_() for x in qkv]

    def both():
        out = run(*leaves)
        torch.autograd.grad(out, leaves, out.detach())

    try:
        through, memory = timed(both, device, repeats)
        backward = f"{through:.3f} | {work * 3.5 / (through / 1e3) / peak:.0%} | {memory:.0f} |"
    except RuntimeError as error:  # FlexAttention has no backward on a CPU
        if isinstance(error, torch.OutOfMemoryError):
            raise
        backward = f"cannot: {str(error).splitlines()[0][:60]} | | |"
    return f"{forward:.3f} | {work / (forward / 1e3) / peak:.0%} | {backward}", forward


def compare(name, taken, median):
    """The ratios the project promises, where both sides ran."""
    lines = []
    ours = median.get("ov2kit xformers")
    if ours and (dense := median.get("xformers, dense mask")):
        lines.append(f"- {name}: xformers block-diagonal is {dense / ours:.1f} times as fast as its dense-mask call")
    if direct := median.get("torch varlen, called directly"):
        lines.append(f"- {name}: {taken} takes {median[taken] / direct:.2f} times torch's varlen kernel")
    best = min((way for way in median if way.startswith("ov2kit")), key=median.get)
    lines.append(f"- {name}: auto takes {median[taken] / median[best]:.2f} times the fastest backend, {best}")
    return lines


def time_encoder(device, dtype, arguments):
    size = (64, 2, 2, 96) if arguments.dry_run else (1024, 24, 16, 4096)
    encoder = OneVisionEncoder(*size, pairing="release").to(device, dtype).eval()
    exact = copy.deepcopy(encoder).float()
    unit = 8 if arguments.dry_run else 256
    layouts = {
        "image": [unit],
        "8 groups": [4 * unit] * 8,
        "mixed": [4 * unit, unit, unit // 4, 2 * unit, unit // 2, 3 * unit] * 4,
        "32 groups": [4 * unit] * 32,
    }
    lines = [
        "## Encoder",
        "",
        f"{size[1]} blocks of width {size[0]}, forward, against the release's arithmetic in plain torch "
        "(float32 rotation, one SDPA call per segment) at equal weights. Errors are root mean squares of the "
        "difference to the plain arithmetic in float32, whose features have a variance of about one.",
        "",
        "| input | tokens | backend | ov2kit ms | plain ms | ratio | ov2kit MiB | plain MiB "
        "| ov2kit error | plain error |",
        "| --- " * 10 + "|",
    ]
    for name, lengths in layouts.items():
        segments = Segments.from_lengths(lengths, device)
        n = segments.num_tokens
        pixels, positions = torch.randn(n, 588, device=device), torch.randint(0, 60, (n, 3), device=device)

        def ours(call=(pixels, positions, segments)):
            return encoder(*call)

        def plain(call=(pixels, positions, lengths)):
            return plain_encoder(encoder, *call)

        with torch.no_grad():
            want = plain_encoder(exact, pixels, positions, lengths)
            errors = [(got() - want).square().mean().sqrt().item() for got in (ours, plain)]
            our_time, our_peak = timed(ours, device, arguments.repeats)
            plain_time, plain_peak = timed(plain, device, arguments.repeats)
        backend = encoder.blocks[0].self_attn.choice(segments).name
        lines.append(
            f"| {name} | {n} | {backend} | {our_time:.2f} | {plain_time:.2f} | {plain_time / our_time:.2f} "
            f"| {our_peak:.0f} | {plain_peak:.0f} | {errors[0]:.1e} | {errors[1]:.1e} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
