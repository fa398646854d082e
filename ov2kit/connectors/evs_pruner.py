"""Training-free pruning of what stays the same: rows that equal the same place of the frame before are dropped.

Source: Efficient Video Sampling (EVS, arXiv 2510.14624), as its public implementations have it: cosines of the
encoder's output, the first frame kept whole, the share that is kept counted over the whole clip.
Letters: B clips, t frames, n rows of a frame, C width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ov2kit.connectors.pruner import Pruner


class EVSPruner(Pruner):
    """Keep the first frame and the rows that are least like the same place of the frame before.

    A row is worth 1 - cosine with the row at its place one frame earlier; those of the first frame are worth more than
    any. With fewer `tokens` than rows of a frame, only the first rows of the first frame are left.

    Arguments and errors as in `Pruner`.
    """

    def worth(self, x: Tensor) -> Tensor:
        """(B, t, n, C) -> (B, t, n), between 0 and 2, infinite for the first frame."""
        unit = F.normalize(x, dim=-1)
        change = 1 - (unit[:, 1:] * unit[:, :-1]).sum(dim=-1)
        return torch.cat([torch.full_like(unit[:, :1, :, 0], torch.inf), change], dim=1)
