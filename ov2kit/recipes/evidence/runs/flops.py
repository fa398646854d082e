"""What the encoder computes, counted from its sizes: multiplications and additions of matrix products."""

from ov2kit.segments import Segments


def encoder_flops(width: int, depth: int, mlp_width: int, patch_values: int, seen: Segments) -> int:
    """Floating-point operations of one forward pass; a multiplication and an addition are two.

    Args:
        width: channels.
        depth: blocks.
        mlp_width: hidden width of their perceptrons.
        patch_values: numbers of a patch.
        seen: which patches see which.
    """
    patches = seen.num_tokens
    pairs = sum(n * (end - start) for n, (start, end) in zip(seen.lengths, seen.keys or seen.runs, strict=True))
    per_patch = 4 * width * width + 2 * width * mlp_width  # queries, keys, values, projection; perceptron
    return 2 * (patches * patch_values * width + depth * (patches * per_patch + 2 * pairs * width))
