"""Connectors over one image to 128 canvases: one packed call beside one call per item.

    python -m pytest benchmarks/bench_connectors.py --benchmark-only [-k "perceiver and canvases8"]

Shapes: 784 patches per canvas (392 x 392 pixels, patch 14); on a GPU the release's widths 1024 -> 4096 in
bfloat16, on a CPU 256 -> 1024 in float32. `mixed` cycles through four canvas sizes. The extra columns
hold peak memory beyond inputs and weights in MiB, tokens, and the machine.
"""

import pytest
import torch

from benchmarks.measure import CUDA, DEVICE, DTYPE, machine, peak_mib
from ov2kit.connectors import (
    AttentionPool,
    AveragePool,
    ConvAbstractor,
    EVSPruner,
    MLPConnector,
    PatchMerger,
    PerceiverResampler,
    QueryTransformer,
    TokenMerger,
    UniquenessPruner,
)

WIDTH, OUT = (1024, 4096) if CUDA else (256, 1024)
HEADS = WIDTH // 64
BUILD = {  # a budget of 196 tokens per canvas is what the merger gives, so that the rows compare
    "patch_merger": lambda: PatchMerger(WIDTH, OUT),
    "mlp": lambda: MLPConnector(WIDTH, OUT),
    "average_pool": lambda: AveragePool(WIDTH, OUT, tokens=196),
    "attention_pool": lambda: AttentionPool(WIDTH, OUT, tokens=196, heads=HEADS),
    "perceiver": lambda: PerceiverResampler(WIDTH, OUT, tokens=64, depth=2, heads=HEADS),
    "query_transformer": lambda: QueryTransformer(WIDTH, OUT, tokens=32, hidden=WIDTH, depth=4, heads=HEADS),
    "conv_abstractor": lambda: ConvAbstractor(WIDTH, OUT, depth=1),
    "token_merger": lambda: TokenMerger(WIDTH, tokens=196),
    "evs_pruner": lambda: EVSPruner(WIDTH, tokens=196),
    "uniqueness_pruner": lambda: UniquenessPruner(WIDTH, tokens=196),
}
SIZES = {"equal": [(1, 28, 28)], "mixed": [(1, 28, 28), (1, 20, 36), (1, 34, 22), (1, 16, 16)]}
LAYOUTS = [(1, "equal")] + [(canvases, sizes) for canvases in (8, 32, 128) for sizes in SIZES]


def packed(connector, features, grids):
    return connector(features, grids=grids)


def per_item(connector, features, grids):
    """The naive way: a Python call per item."""
    parts = features.split([t * h * w for t, h, w in grids])
    return torch.cat([connector(part, grids=[grid]) for part, grid in zip(parts, grids, strict=True)])


@pytest.mark.parametrize("way", [packed, per_item], ids=lambda way: way.__name__)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"canvases{layout[0]}-{layout[1]}")
@pytest.mark.parametrize("name", BUILD)
def bench_connector(benchmark, name, layout, direction, way):
    canvases, sizes = layout
    torch.manual_seed(0)
    connector = BUILD[name]().to(DEVICE, DTYPE)
    grids = [SIZES[sizes][i % len(SIZES[sizes])] for i in range(canvases)]
    n = sum(t * h * w for t, h, w in grids)
    features = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(0)).to(DEVICE, DTYPE)
    features.requires_grad_(direction == "backward")

    def step():
        with torch.set_grad_enabled(direction == "backward"):
            tokens = way(connector, features, grids)
        if direction == "backward":
            tokens.float().square().mean().backward()
        if CUDA:
            torch.cuda.synchronize()  # inside the timed region: launching is not finishing
        return tokens.detach()

    benchmark.group = f"{name} canvases={canvases} {sizes} {direction}"
    tokens = benchmark.pedantic(step, rounds=5 if canvases < 32 else 3, warmup_rounds=1)
    benchmark.extra_info.update(
        peak_mib=peak_mib(step),
        tokens_in=n,
        tokens_out=len(tokens),
        **machine(),
    )
    assert tokens.shape == (sum(connector.tokens_out(t * h * w) for t, h, w in grids), connector.out_width)
    if name != "token_merger" or not CUDA:  # near ties may fall differently in bfloat16
        with torch.no_grad():
            error = (tokens - per_item(connector, features, grids)).float().abs().max().item()
        assert error <= (0.1 if CUDA else 1e-4), error
