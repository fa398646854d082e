"""Read events out of visual tokens with exact times: one query per step of a clip's time line.

Every variant uses this read-out with the same parameters, whatever its tokens are. A query attends to all
tokens of its clip by what they hold and by how far away in time they are; the logit is a sum of
the two, so tokens of one source frame are pooled first and time is attended over frames.
Letters: B clips, M tokens, F frames (distinct times), Q queries, H heads, C channels of a token, D per head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

PLACE_WAVES = 3  # cosines per axis; half a wave distinguishes the two sides


class Rhythm(nn.Module):
    """Convolutions over the queries of a clip, and a logit for each.

    Args:
        hidden: channels, C.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden, hidden, 7, padding=3 * dilation, dilation=dilation) for dilation in (1, 2, 4)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.out = nn.Linear(hidden, 1)
        nn.init.constant_(self.out.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, C) -> logits (B, Q)."""
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = x + convolution(F.gelu(norm(x)).transpose(1, 2)).transpose(1, 2)
        logit: Tensor = self.out(F.gelu(x))
        return logit.squeeze(-1)


class TimeReadout(nn.Module):
    """Tokens of a clip -> one logit per time step: does an event start here?

    Head h weighs a token by score_h(token) - hypot(distance - offset_h, width_h) / width_h: it looks at a moment
    some tenths of a second before or after the query, and at the nearest tokens where there are
    none. Convolutions over the queries see the rhythm.

    Args:
        width: C.
        heads: H.
        channels: D.
        hidden: channels of the convolutions.
        reach_seconds: offsets of the heads are spread over this much before and after.
    """

    def __init__(
        self, width: int, heads: int = 8, channels: int = 16, hidden: int = 48, *, reach_seconds: float = 0.6
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width + 2 * PLACE_WAVES, heads)
        self.value = nn.Linear(width + 2 * PLACE_WAVES, heads * channels)
        self.offsets = nn.Parameter(torch.linspace(-reach_seconds, reach_seconds, heads))
        self.log_widths = nn.Parameter(torch.full((heads,), reach_seconds / heads).log())
        self.mix = nn.Linear(heads * (channels + 2), hidden)
        self.rhythm = Rhythm(hidden)

    def forward(
        self, tokens: Tensor, place: Tensor, frame: Tensor, frame_seconds: Tensor, query_seconds: Tensor
    ) -> Tensor:
        """Logits (B, Q).

        Args:
            tokens: (M, C).
            place: (M, 2) center of each token in its source frame, (row, column) as shares of the edges.
            frame: (M,) int64, which entry of `frame_seconds`, flattened, a token belongs to.
            frame_seconds: (B, F) times of the distinct frames of each clip; NaN where a clip has fewer.
            query_seconds: (Q,) times asked about.
        """
        x = torch.cat([self.norm(tokens), place_waves(place)], dim=-1)
        clips, frames = frame_seconds.shape
        weight = (8 * torch.tanh(self.score(x) / 8)).exp()  # (M, H); bounded, so that sums need no shift
        value = rearrange(self.value(x), "m (h d) -> m h d", h=self.heads)
        mass = weight.new_zeros(clips * frames, self.heads).index_add(0, frame, weight)
        pooled = value.new_zeros(clips * frames, *value.shape[1:]).index_add(0, frame, weight[..., None] * value)
        pooled = pooled / mass.clamp(min=1e-6)[..., None]

        missing = frame_seconds.isnan()
        distance = query_seconds[None, :, None] - frame_seconds.nan_to_num(0.0)[:, None, :]  # (B, Q, F)
        width = self.log_widths.exp()[:, None, None]
        near = torch.hypot(
            (distance[:, None] - self.offsets[:, None, None]) / width, width.new_ones(())
        )  # (B, H, Q, F)
        logits = rearrange(mass.clamp(min=1e-6).log(), "(b f) h -> b h 1 f", b=clips) - near
        logits = logits.masked_fill(missing[:, None, None], -torch.inf)
        total = logits.logsumexp(dim=-1, keepdim=True)
        attention = logits.softmax(dim=-1)
        read = attention @ rearrange(pooled, "(b f) h d -> b h f d", b=clips)  # (B, H, Q, D)
        how_far = torch.einsum("bhqf,bqf->bhq", attention, distance)[..., None]
        y = self.mix(rearrange(torch.cat([read, how_far, total / 4], dim=-1), "b h q d -> b q (h d)"))
        answer: Tensor = self.rhythm(y)
        return answer


def place_waves(place: Tensor) -> Tensor:
    """(M, 2) shares of the edges -> (M, 2 * PLACE_WAVES) smooth functions of them."""
    halves = torch.pi * torch.arange(1, PLACE_WAVES + 1, device=place.device, dtype=place.dtype)
    return (place[..., None] * halves).cos().flatten(-2)


def event_targets(starts: list[tuple[float, ...]], query_seconds: Tensor, spread_seconds: float = 0.08) -> Tensor:
    """(B, Q) in [0, 1]: 1 at a start, falling off as a Gaussian."""
    rows = []
    for own in starts:
        distance = query_seconds[:, None] - query_seconds.new_tensor(own or (1e6,))
        rows.append(torch.exp(-0.5 * (distance / spread_seconds) ** 2).amax(dim=1))
    return torch.stack(rows)


def peaks(probability: Tensor, step_seconds: float, threshold: float, apart_seconds: float = 0.25) -> list[float]:
    """Start times in seconds, increasing: maxima of (Q,) above a threshold, the higher of two that are too near."""
    found: list[float] = []
    values = probability.tolist()
    for at in sorted(range(len(values)), key=values.__getitem__, reverse=True):
        if values[at] < threshold:
            break
        before, here, after = values[max(at - 1, 0)], values[at], values[min(at + 1, len(values) - 1)]
        if here < max(before, after):
            continue
        bend = before - 2 * here + after
        seconds = (at + (0.5 * (before - after) / bend if bend < -1e-9 else 0.0)) * step_seconds
        if all(abs(seconds - other) >= apart_seconds for other in found):
            found.append(max(seconds, 0.0))
    return sorted(found)
