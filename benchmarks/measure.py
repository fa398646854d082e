"""What the benchmarks share: the machine, peak memory, and the release's arithmetic in plain torch."""

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.run_info import run_info

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
DTYPE = torch.bfloat16 if CUDA else torch.float32


def machine():
    """Where this ran, for the extra columns of a benchmark."""
    return {**run_info(DEVICE.type), "dtype": str(DTYPE)}


def synchronized(step):
    """`step`, finished and not only launched."""

    def run():
        out = step()
        if CUDA:
            torch.cuda.synchronize()
        return out

    return run


def peak_mib(step):
    """Most memory that one `step` holds at a time beyond what was there before, in MiB."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    held = most = 0
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return round(most / 2**20, 1)


def turn_neighbors(x):
    """(x0, x1) -> (-x1, x0) for neighboring channels."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def plain_rope(q, k, cos, sin):
    """The release's rotation, in float32 and operation by operation; q, k (N, H, D)."""
    cos, sin = cos.unsqueeze(-2).float(), sin.unsqueeze(-2).float()
    rotated = (x.float() * cos + turn_neighbors(x.float()) * sin for x in (q, k))
    return tuple(x.to(q.dtype) for x in rotated)


def call_per_segment(q, k, v, lengths):
    """One scaled_dot_product_attention per segment; q, k, v (N, H, D)."""
    parts = (x.transpose(0, 1).unsqueeze(0).split(lengths, dim=2) for x in (q, k, v))
    outs = [F.scaled_dot_product_attention(*part) for part in zip(*parts, strict=True)]
    return torch.cat(outs, dim=2)[0].transpose(0, 1)


def dense_mask_call(q, k, v, mask):
    """One scaled_dot_product_attention over everything, with an (N, N) mask."""
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0].transpose(0, 1)


def plain_encoder(encoder, pixel_values, positions, lengths):
    """The release's arithmetic in plain torch, on the weights of an `OneVisionEncoder`."""
    weight = encoder.embeddings.patch_embedding.weight
    x = encoder.layernorm_pre(F.linear(pixel_values.to(weight.dtype), weight.flatten(1)))
    angles = encoder.position.angles(positions)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos(), angles.sin()
    for block in encoder.blocks:
        attention = block.self_attn
        fused = attention.qkv(block.layer_norm1(x)).reshape(len(x), 3, attention.heads, -1)
        q, k, v = fused.permute(1, 0, 2, 3).unbind(0)
        q, k = plain_rope(q, k, cos, sin)
        x = x + attention.proj(call_per_segment(q, k, v, lengths).reshape(len(x), -1))
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.layer_norm2(x))))
    return x
