"""Read events out of the encoder itself: probes among its patches, whose one clue to a time is their position.

`TimeReadout` is given the exact time of each token, so that it cannot show what positions in the encoder are worth.
Probes are given none. They are patches that hold one learned picture and nothing else; each stands at the source frame
of a time asked about, in the middle of the picture, and looks at all patches of its clip in every block of the
encoder. Whether a patch is of that moment follows from the encoder's positions alone. Patches do not see the probes:
who sees whom among patches is as without them.
Letters: N patches, B clips, Q queries, C channels of the encoder.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from ov2kit.recipes.evidence.runs.clip_batch import ClipBatch
from ov2kit.recipes.evidence.runs.readout import Rhythm
from ov2kit.segments import Segments


class ProbeReadout(nn.Module):
    """Probes to put beside the patches, and logits from what the encoder makes of them.

    Args:
        width: C.
        patch_values: numbers of a patch.
        hidden: channels of the convolutions over the queries.
    """

    def __init__(self, width: int, patch_values: int, hidden: int = 48) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.randn(patch_values))
        self.norm = nn.LayerNorm(width)
        self.value = nn.Linear(width, hidden)
        self.rhythm = Rhythm(hidden)

    def beside(self, pixels: Tensor, batch: ClipBatch, query_seconds: Tensor) -> tuple[Tensor, Tensor, Segments]:
        """Pixels (N + B*Q, ...), positions (N + B*Q, 3) float32 and segments: of the patches, then of the probes.

        Args:
            pixels: (N, ...) of the batch, normalized.
            batch: its clips.
            query_seconds: (Q,) times asked about.
        """
        probes = self.picture.to(pixels.dtype).expand(len(batch.grids) * len(query_seconds), -1)
        frames = query_seconds * batch.frame_rates[:, :1] + batch.frame_rates[:, 1:]  # (B, Q)
        row, column = (torch.full_like(frames, (edge - 1) / 2) for edge in batch.grids[0][1:])
        positions = torch.stack([frames, row, column], dim=-1).flatten(0, 1)
        everywhere = torch.cat([batch.positions.float(), positions])
        return torch.cat([pixels, probes]), everywhere, self.segments(batch, len(query_seconds))

    def segments(self, batch: ClipBatch, queries: int) -> Segments:
        """Patches see what they see without probes; the probes of a clip see all of its patches."""
        clips = pairwise(accumulate((t * h * w for t, h, w in batch.grids), initial=0))
        patches = batch.segments
        lengths = (*patches.lengths, *[queries] * len(batch.grids))
        sums = torch.tensor((0, *lengths)).cumsum(0).to(patches.cu_seqlens)
        return Segments(lengths, sums, (*(patches.keys or patches.runs), *clips))

    def forward(self, read: Tensor) -> Tensor:
        """Logits (B, Q) of (B, Q, C), what the encoder and the connector made of the probes."""
        logits: Tensor = self.rhythm(self.value(self.norm(read)))
        return logits
