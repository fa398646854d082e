"""Each connector against its definition, written out item by item without the connector's helpers."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ov2kit.connectors import (
    AttentionPool,
    AveragePool,
    ConvAbstractor,
    MLPConnector,
    PatchMerger,
    PerceiverResampler,
    QueryTransformer,
)
from ov2kit.geometry import to_block_layout

WIDTH, OUT = 16, 12
COUNTS = [24, 8, 24, 3, 17]


def build(cls, *args, **kwargs):
    """A float64 connector with every parameter drawn, so that no bias of 0 or scale of 1 hides a fault."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = cls(*args, **kwargs).double()
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return module


def rows(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def same(connector, expected, x=None, **items):
    x = rows(sum(COUNTS), WIDTH) if x is None else x
    tokens = connector(x, **(items or {"counts": COUNTS}))
    torch.testing.assert_close(tokens, torch.cat(expected), rtol=1e-10, atol=1e-10)


def items():
    return rows(sum(COUNTS), WIDTH).split(COUNTS)


def runs(n, tokens):
    """numpy's own rule for nearly equal parts: the longer ones first."""
    return [part.tolist() for part in np.array_split(np.arange(n), min(n, tokens))]


def attention(q, k, v, heads):
    """(T, D), (n, D), (n, D) -> (T, D), by the formula."""
    out = []
    for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        out.append((qh @ kh.T / qh.shape[-1] ** 0.5).softmax(-1) @ vh)
    return torch.cat(out, -1)


def block_neighbors(raster, merge):
    """(t, h, w, C) -> the merge x merge patches of each block, row by row, blocks in raster order."""
    t, h, w, _ = raster.shape
    for frame in range(t):
        for row in range(0, h, merge):
            for col in range(0, w, merge):
                yield raster[frame, row : row + merge, col : col + merge].flatten(0, 1)


def test_block_connectors_merge_neighbors_on_the_canvas():
    raster = rows(2, 4, 6, WIDTH)
    merger, mlp = build(PatchMerger, WIDTH, OUT), build(MLPConnector, WIDTH, OUT)
    norm, first, second = mlp.mlp[0], mlp.mlp[1], mlp.mlp[3]
    merged, shuffled = [], []
    for block in block_neighbors(raster, 2):
        normed = torch.cat([F.layer_norm(p, (WIDTH,), merger.ln_q.weight, merger.ln_q.bias, 1e-6) for p in block])
        merged.append(merger.mlp[2](F.gelu(merger.mlp[0](normed))))
        shuffled.append(second(F.gelu(first(norm(torch.cat(list(block)))))))
    packed = to_block_layout(raster, 2)
    same(merger, [torch.stack(merged)], packed, grids=[(2, 4, 6)])
    same(mlp, [torch.stack(shuffled)], packed, grids=[(2, 4, 6)])


def test_average_pool():
    pool = build(AveragePool, WIDTH, OUT, tokens=7)
    expected = [
        torch.stack([pool.proj(sum(pool.norm(x[i]) for i in run) / len(run)) for run in runs(len(x), 7)])
        for x in items()
    ]
    same(pool, expected)


def test_attention_pool():
    pool = build(AttentionPool, WIDTH, OUT, tokens=7, heads=4)
    expected = []
    for x in map(pool.norm, items()):
        parts = []
        for run in runs(len(x), 7):
            k, v = pool.key_value(x[run]).chunk(2, -1)
            parts.append(attention(pool.query(x[run].mean(0, keepdim=True)), k, v, 4))
        expected.append(pool.proj(torch.cat(parts)))
    same(pool, expected)


def test_perceiver_resampler():
    resampler = build(PerceiverResampler, WIDTH, OUT, tokens=5, depth=2, heads=4)
    expected = []
    for x in items():
        latents = resampler.latents
        for layer in resampler.layers:
            normed = layer.norm_latents(latents)
            k, v = layer.key_value(torch.cat([layer.norm_features(x), normed])).chunk(2, -1)
            latents = latents + layer.out(attention(layer.query(normed), k, v, 4))
            latents = latents + layer.mlp(latents)
        expected.append(resampler.proj(resampler.norm(latents)))
    same(resampler, expected)


def test_query_transformer():
    former = build(QueryTransformer, WIDTH, OUT, tokens=5, hidden=8, depth=3, heads=2)
    assert [layer.cross is not None for layer in former.layers] == [True, False, True]
    expected = []
    for x in map(former.norm_features, items()):
        queries = former.queries
        for layer in former.layers:
            q, k, v = layer.qkv(layer.norm_self(queries)).chunk(3, -1)
            queries = queries + layer.out_self(attention(q, k, v, 2))
            if layer.cross is not None:
                k, v = layer.cross.key_value(x).chunk(2, -1)
                q = layer.cross.query(layer.cross.norm(queries))
                queries = queries + layer.cross.out(attention(q, k, v, 2))
            queries = queries + layer.mlp(queries)
        expected.append(former.proj(former.norm(queries)))
    same(former, expected)


def conv_block(block, x):
    """(h, w, D), the 3 x 3 neighborhood summed by hand with zeros outside."""
    y = F.silu(block.enter(block.norm(x)))
    h, w, _ = y.shape
    around = torch.zeros_like(y) + block.local.bias
    for row in range(h):
        for col in range(w):
            for dr in (-1, 0, 1):
                for dc in (-1, 0, 1):
                    if 0 <= row + dr < h and 0 <= col + dc < w:
                        around[row, col] += y[row + dr, col + dc] * block.local.weight[:, 0, dr + 1, dc + 1]
    y = F.silu(around)
    return x + block.leave(y * block.gate(y.mean((0, 1))))


@torch.no_grad()
def conv_expected(abstractor, raster, pool):
    canvases = []
    for canvas in raster:
        x = abstractor.enter(canvas)
        for block in abstractor.before:
            x = conv_block(block, x)
        x = pool(x)
        for block in abstractor.after:
            x = conv_block(block, x)
        canvases.append(abstractor.leave(x).flatten(0, 1))
    return torch.cat(canvases)


def test_conv_abstractor_by_merge():
    abstractor = build(ConvAbstractor, WIDTH, OUT, hidden=8, depth=1)
    rasters = [rows(2, 4, 6, WIDTH), rows(1, 6, 4, WIDTH), rows(1, 4, 6, WIDTH)]  # same area, other shape
    expected = [
        conv_expected(
            abstractor,
            raster,
            lambda x: torch.stack([b.mean(0) for b in block_neighbors(x[None], 2)]).view(
                x.shape[0] // 2, x.shape[1] // 2, -1
            ),
        )
        for raster in rasters
    ]
    packed = torch.cat([to_block_layout(raster, 2) for raster in rasters])
    same(abstractor, expected, packed, grids=[raster.shape[:3] for raster in rasters])


def test_conv_abstractor_to_a_grid():
    abstractor = build(ConvAbstractor, WIDTH, OUT, out_grid=(2, 3), hidden=8, depth=1)
    rasters = [rows(1, 4, 6, WIDTH), rows(1, 8, 12, WIDTH)]
    expected = [
        conv_expected(
            abstractor,
            raster,
            lambda x: x.view(2, x.shape[0] // 2, 3, x.shape[1] // 3, -1).mean((1, 3)),
        )
        for raster in rasters
    ]
    packed = torch.cat([to_block_layout(raster, 2) for raster in rasters])
    same(abstractor, expected, packed, grids=[raster.shape[:3] for raster in rasters])


def test_mlp_layers():
    plain = build(MLPConnector, WIDTH, OUT, merge=1, depth=1)
    assert [type(layer) for layer in plain.mlp] == [nn.LayerNorm, nn.Linear]
    deep = build(MLPConnector, WIDTH, OUT, merge=1, depth=3, hidden=9)
    shapes = [tuple(layer.weight.shape) for layer in deep.mlp if isinstance(layer, nn.Linear)]
    assert shapes == [(9, WIDTH), (9, 9), (OUT, 9)]
