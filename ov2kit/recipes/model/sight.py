"""What a token of the text sees, as a language model of transformers takes it.

Letters: B rows, S text length.
"""

from typing import Any

import torch
from torch import Tensor


def sight(attention: str | None, mask: Tensor | None, position_ids: Tensor | None) -> dict[str, Any]:
    """What a language model of transformers takes so that tokens see what they should.

    Rows with padding take the mask, and positions counted without it. Packed rows take the positions
    alone: transformers makes a block-diagonal causal mask of them, of the kind its attention wants;
    flash attention gets the lengths of the samples, ready made.

    Args:
        attention: its attention implementation.
        mask: (B, S), 0 where padded.
        position_ids: (B, S) of packed rows.
    """
    if position_ids is None:
        return {} if mask is None else {"attention_mask": mask, "position_ids": positions_from_mask(mask)}
    if mask is not None:  # out of step with what is beside it, so every padding token is a sample of its own
        position_ids = position_ids.masked_fill(mask == 0, _OUT_OF_STEP)
    seeing: dict[str, Any] = {"position_ids": position_ids}
    if attention is not None and "flash" in attention:
        jumps = position_ids.diff(prepend=position_ids[:, :1] - 2, dim=1) != 1
        starts = jumps.flatten().nonzero().flatten()
        ends = torch.cat([starts, starts.new_tensor([jumps.numel()])]).to(torch.int32)
        longest = int(ends.diff().max())
        seeing |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return seeing


#: a position that neither follows nor precedes another of a row
_OUT_OF_STEP = -3


def positions_from_mask(attention_mask: Tensor) -> Tensor:
    """(B, S) mask -> (B, S) int64 places among the tokens of the row; 1 where padded."""
    return (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 1)
