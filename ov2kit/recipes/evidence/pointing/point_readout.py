"""Read places out of visual tokens: where is the object of this kind, at each of these times?

Every variant uses this read-out with the same parameters, whatever its tokens are. A head looks for tokens of the kind
that is asked about and takes the mean of their places; a small correction is read from what they hold.
Letters: B clips, M tokens, F frames (distinct times), Q queries, H heads, C channels of a token, D per head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ov2kit.recipes.evidence.runs.readout import PLACE_WAVES, place_waves


@dataclass(frozen=True)
class PointQuery:
    """What is asked.

    Args:
        seconds: (Q,) times, the same for all clips.
        kinds: (B,) int64, which object of each clip.
    """

    seconds: Tensor
    kinds: Tensor


class PointReadout(nn.Module):
    """Tokens of a clip -> place and visibility of one object at every time asked about.

    Args:
        width: C.
        kinds: how many kinds of objects there are.
        heads: H.
        channels: D.
        hidden: channels of the convolutions over queries.
        reach_seconds: offsets of the heads are spread over this much before and after.
    """

    def __init__(
        self,
        width: int,
        kinds: int,
        heads: int = 8,
        channels: int = 16,
        hidden: int = 64,
        *,
        reach_seconds: float = 0.4,
    ) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels
        self.norm = nn.LayerNorm(width)
        self.key = nn.Linear(width + 2 * PLACE_WAVES, heads * channels)
        self.value = nn.Linear(width + 2 * PLACE_WAVES, heads * channels)
        self.kind = nn.Embedding(kinds, heads * channels)
        self.offsets = nn.Parameter(torch.linspace(-reach_seconds, reach_seconds, heads))
        self.log_widths = nn.Parameter(torch.full((heads,), 0.1).log())
        self.mix = nn.Linear(heads * (channels + 4), hidden)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden, hidden, 5, padding=2 * dilation, dilation=dilation) for dilation in (1, 2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.out = nn.Linear(hidden, heads + 3)

    def forward(self, tokens: Tensor, place: Tensor, frame: Tensor, frame_seconds: Tensor, query: PointQuery) -> Tensor:
        """(B, Q, 3): x, y as shares of the edges, and the logit of being in sight.

        Args:
            tokens: (M, C).
            place: (M, 2) center of each token in its source frame, (row, column) as shares of the edges.
            frame: (M,) int64, which entry of `frame_seconds`, flattened, a token belongs to.
            frame_seconds: (B, F) times of the distinct frames of each clip; NaN where a clip has fewer.
            query: what is asked.
        """
        x = torch.cat([self.norm(tokens), place_waves(place)], dim=-1)
        clips, frames = frame_seconds.shape
        asked = rearrange(self.kind(query.kinds), "b (h d) -> b h d", h=self.heads)[frame // frames]
        key = rearrange(self.key(x), "m (h d) -> m h d", h=self.heads)
        score = (key * asked).sum(-1) * self.channels**-0.5
        weight = (10 * torch.tanh(score / 10)).exp()  # (M, H); bounded, so that sums need no shift
        value = rearrange(self.value(x), "m (h d) -> m h d", h=self.heads) * asked
        value = torch.cat([value, place[:, None].expand(-1, self.heads, -1)], dim=-1)
        mass = weight.new_zeros(clips * frames, self.heads).index_add(0, frame, weight)
        pooled = value.new_zeros(clips * frames, *value.shape[1:]).index_add(0, frame, weight[..., None] * value)
        pooled = pooled / mass.clamp(min=1e-6)[..., None]

        distance = query.seconds[None, :, None] - frame_seconds.nan_to_num(0.0)[:, None, :]  # (B, Q, F)
        width = self.log_widths.exp()[:, None, None]
        near = torch.hypot((distance[:, None] - self.offsets[:, None, None]) / width, torch.ones(()))
        logits = rearrange(mass.clamp(min=1e-6).log(), "(b f) h -> b h 1 f", b=clips) - near
        logits = logits.masked_fill(frame_seconds.isnan()[:, None, None], -torch.inf)
        attention = logits.softmax(dim=-1)
        read = attention @ rearrange(pooled, "(b f) h d -> b h f d", b=clips)  # (B, H, Q, D + 2)
        how_far = torch.einsum("bhqf,bqf->bhq", attention, distance)[..., None]
        total = logits.logsumexp(dim=-1, keepdim=True) / 4
        y = self.mix(rearrange(torch.cat([read, how_far, total], dim=-1), "b h q d -> b q (h d)"))
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = y + convolution(F.gelu(norm(y)).transpose(1, 2)).transpose(1, 2)
        out = self.out(F.gelu(y))
        gates = out[..., : self.heads].softmax(-1)
        where = torch.einsum("bqh,bhqd->bqd", gates, read[..., -2:]).flip(-1)  # (row, column) -> (x, y)
        return torch.cat([where + 0.2 * torch.tanh(out[..., -3:-1]), out[..., -1:]], dim=-1)
