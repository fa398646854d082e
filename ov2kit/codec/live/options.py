"""Options of `LiveTokenizer` beyond those of the tokenizer it is built on."""

from dataclasses import dataclass

from ov2kit.codec.grouping import ContainerGrouping
from ov2kit.codec.tokenizers.options import CodecOptions
from ov2kit.errors import OptionError, check_number


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """Arguments of `LiveTokenizer`, see there.

    Raises:
        OptionError: a number is out of range.
    """

    delay_seconds: float | None
    tokens_per_second: float
    burst_tokens: float | None
    silence_seconds: float
    max_gap_seconds: float
    half_life_seconds: float

    def __post_init__(self) -> None:
        check_number("delay_seconds", self.delay_seconds, low=0, optional=True)
        for name in ("tokens_per_second", "silence_seconds", "max_gap_seconds", "half_life_seconds"):
            check_number(name, getattr(self, name), above=0)
        check_number("burst_tokens", self.burst_tokens, above=0, optional=True)

    @property
    def is_bounded(self) -> bool:
        """Whether groups come before the stream has ended."""
        return self.delay_seconds is not None

    def burst(self, group_tokens: int) -> float:
        """Tokens of the bucket; by default those of two ordinary groups, or of 16 seconds if they are more."""
        return self.burst_tokens or max(2 * group_tokens, 16 * self.tokens_per_second)


def check_causal(options: CodecOptions) -> None:
    """Refuse a grouping that looks at a whole clip: by scores of frames spread over it, or into a number of parts.

    Raises:
        OptionError: it is neither "bitcost", "container" nor "fixed".
    """
    if options.grouping not in ("bitcost", "container", "fixed") and not isinstance(
        options.grouping, ContainerGrouping
    ):
        raise OptionError(
            f"grouping={options.described()['grouping']!r} looks at a whole clip; a stream with a bounded delay takes "
            "grouping='bitcost', 'container' or 'fixed', or use delay_seconds=None"
        )
