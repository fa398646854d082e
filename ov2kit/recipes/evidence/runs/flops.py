"""What the encoder computes, counted from its sizes: multiplications and additions of matrix products."""

from collections.abc import Iterable


def encoder_flops(width: int, depth: int, mlp_width: int, patch_values: int, lengths: Iterable[int]) -> int:
    """Floating-point operations of one forward pass; a multiplication and an addition are two.

    Args:
        width: channels.
        depth: blocks.
        mlp_width: hidden width of their perceptrons.
        patch_values: numbers of a patch.
        lengths: patches of each segment, which see one another.
    """
    lengths = tuple(lengths)
    patches, pairs = sum(lengths), sum(n * n for n in lengths)
    per_patch = 4 * width * width + 2 * width * mlp_width  # queries, keys, values, projection; perceptron
    return 2 * (patches * patch_values * width + depth * (patches * per_patch + 2 * pairs * width))
