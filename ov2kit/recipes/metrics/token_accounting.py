"""What a video costs the language model: visual tokens per video and second, and where they went."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.provenance import Provenance


@dataclass(frozen=True)
class TokenCount:
    """Visual tokens of one clip.

    Args:
        tokens: merged tokens, as many as image pads in the prompt.
        p_tokens: those on P-canvases (blocks of many frames), not on whole frames.
        seconds: length of the clip, None for a picture.
        canvases: how many.
    """

    tokens: int
    p_tokens: int
    seconds: float | None
    canvases: int


def count_tokens(canvases: Canvases) -> list[TokenCount]:
    """Visual tokens of each clip of some canvases.

    The length is the source's where the tokenizer noted it, else from the first to the last frame
    used and one frame more.
    """
    counts = []
    for clip in canvases.split():
        real = (clip.positions[..., 0] >= 0).sum((1, 2)) // clip.merge**2
        tokens, p_tokens = torch.stack([real.sum(), real[~clip.is_anchor].sum()]).tolist()
        counts.append(TokenCount(tokens, p_tokens, _seconds(clip), len(clip)))
    return counts


def _seconds(clip: Canvases) -> float | None:
    source = Provenance.of(clip).source
    if source is not None and source.seconds:
        return float(source.seconds)
    (times_of_frames,) = clip.clip_times()
    times = list(times_of_frames.values())
    if len(times) < 2:
        return None
    (fps,) = clip.clip_fps()
    return max(times) - min(times) + (1 / fps if fps > 0 else 0.0)


class TokenAccounting(Metric):
    """Visual tokens per video and per second, and the share of them on P-canvases."""

    is_differentiable = False
    full_state_update = False
    tokens: Tensor
    p_tokens: Tensor
    canvases: Tensor
    videos: Tensor
    timed_tokens: Tensor
    seconds: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("tokens", "p_tokens", "canvases", "videos", "timed_tokens"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seconds", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, canvases: Canvases | TokenCount | Sequence[Canvases | TokenCount]) -> None:
        """Add clips: canvases, or what `count_tokens` made of them where they are gone."""
        parts = canvases if isinstance(canvases, Sequence) else [canvases]
        for part in parts:
            for count in [part] if isinstance(part, TokenCount) else count_tokens(part):
                self.tokens += count.tokens
                self.p_tokens += count.p_tokens
                self.canvases += count.canvases
                self.videos += 1
                if count.seconds is not None:
                    self.timed_tokens += count.tokens
                    self.seconds += count.seconds

    def compute(self) -> dict[str, Tensor]:
        """() float64 each; 0 where there is nothing to divide by.

        ``videos``, ``tokens``, ``tokens_per_video``, ``canvases_per_video``, ``tokens_per_second``
        (all tokens over all seconds; pictures, which have none, are left out) and ``p_share``.
        """
        videos = self.videos.clamp(min=1).double()
        per_second = self.timed_tokens / self.seconds
        return {
            "videos": self.videos.double(),
            "tokens": self.tokens.double(),
            "tokens_per_video": self.tokens / videos,
            "canvases_per_video": self.canvases / videos,
            "tokens_per_second": torch.where(self.seconds > 0, per_second, torch.zeros_like(per_second)),
            "p_share": self.p_tokens / self.tokens.clamp(min=1).double(),
        }
