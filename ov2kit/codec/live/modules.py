"""What a stream is tokenized with, built once for all of its stretches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from ov2kit.codec.live.bins import EnergyBins
from ov2kit.codec.live.grouping import RunningGrouping
from ov2kit.codec.live.options import LiveOptions
from ov2kit.codec.live.plain_cuts import PlainCuts
from ov2kit.codec.live.rate import TokenRate
from ov2kit.codec.scoring.scorer import Scorer
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.codec.tokenizers.options import CodecOptions
from ov2kit.errors import BudgetError

Cuts: TypeAlias = EnergyBins | PlainCuts


@dataclass(frozen=True)
class Modules:
    """Parts of a tokenizer, and options.

    Args:
        options: of the tokenizer.
        live: of the stream.
        scorer: of blocks, causal.
        selector: of blocks.
        packer: of canvases.
    """

    options: CodecOptions
    live: LiveOptions
    scorer: Scorer
    selector: nn.Module
    packer: CanvasPacker

    def seconds_per_group(self, tokens_per_canvas: int) -> float:
        """Length of an ordinary group at the rate."""
        return self.options.canvases_per_group * tokens_per_canvas / self.live.tokens_per_second

    def cuts(self, tokens_per_canvas: int, begin_seconds: float, may_cut: Callable[[float], bool]) -> Cuts:
        """Where the groups of a stretch end that begins at a time; as its grouping says, from what has been seen."""
        grouping = running_grouping(self, tokens_per_canvas)
        if self.options.grouping == "bitcost":
            return EnergyBins(grouping, self.options.cost, begin_seconds, may_cut)
        return PlainCuts(
            at_keyframes=self.options.grouping != "fixed",
            seconds_per_group=grouping.seconds_per_group,
            longest_seconds=grouping.max_bins * grouping.bin_seconds,
            half_life_seconds=self.live.half_life_seconds,
            cost=self.options.cost, begin_seconds=begin_seconds, may_cut=may_cut,
        )  # fmt: skip

    def rate(self, tokens_per_canvas: int) -> TokenRate:
        """The rate of a stream with canvases of this size.

        Raises:
            BudgetError: the burst has no room for two canvases.
        """
        burst = self.live.burst(self.options.canvases_per_group * tokens_per_canvas)
        if burst < 2 * tokens_per_canvas:
            raise BudgetError(
                f"burst_tokens={burst:g} has no room for two canvases of {tokens_per_canvas} tokens; raise it, or make "
                "the canvas smaller (max_pixels)"
            )
        return TokenRate(self.live.tokens_per_second, burst)


def running_grouping(modules: Modules, tokens_per_canvas: int) -> RunningGrouping:
    """The grouping of a stream; both span limits stretch until the longest group has tokens for two canvases."""
    options, live = modules.options, modules.live
    stretch = max(1.0, 2 * tokens_per_canvas / (live.tokens_per_second * options.max_seconds))
    assert live.delay_seconds is not None
    return RunningGrouping(
        modules.seconds_per_group(tokens_per_canvas),
        delay_seconds=live.delay_seconds,
        bin_seconds=options.bin_seconds,
        min_seconds=options.min_seconds * stretch,
        max_seconds=options.max_seconds * stretch,
        smooth_bins=options.smooth_bins,
        half_life_seconds=live.half_life_seconds,
    )
