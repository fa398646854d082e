"""TokenRate: how many tokens a stream may take, second by second."""

from ov2kit.errors import OptionError, check_number

_MOST_SHARE = 4  # ordinary groups that one may take the canvases of
_ROUNDING = 1e-6  # tokens


class TokenRate:
    """So many tokens per second of stream, with a burst: a bucket that fills and is drawn from.

    Over any stretch of T seconds at most ``burst_tokens + tokens_per_second * T`` tokens are taken.

    Args:
        tokens_per_second: mean rate.
        burst_tokens: what may be saved up; the bucket begins full.

    Raises:
        OptionError: a number is not positive.
    """

    def __init__(self, tokens_per_second: float, burst_tokens: float) -> None:
        check_number("tokens_per_second", tokens_per_second, above=0)
        check_number("burst_tokens", burst_tokens, above=0)
        self.tokens_per_second, self.burst_tokens = tokens_per_second, burst_tokens
        self._level, self._at = burst_tokens, 0.0

    def level(self, seconds: float) -> float:
        """Tokens that may be taken at a time of the stream; times do not go back."""
        return min(self.burst_tokens, self._level + max(0.0, seconds - self._at) * self.tokens_per_second)

    def take(self, tokens: int, seconds: float) -> None:
        """Take tokens at a time of the stream.

        Raises:
            OptionError: there are not so many.
        """
        level = self.level(seconds)
        if tokens > level + _ROUNDING:
            raise OptionError(f"{tokens} tokens are more than the {level:.1f} that the rate allows at {seconds:.3f} s")
        self._level, self._at = max(0.0, level - tokens), max(self._at, seconds)


def canvases_of_group(
    level: float, rate: TokenRate, per_canvas: int, ordinary: int, share: float, seconds: float
) -> int:
    """Canvases of a group that closes now.

    As many more or fewer than an ordinary group has as it spent more or less than its quota, at least an
    I and a P canvas; and what the bucket would spill before a group as long as this one comes next.

    Args:
        level: tokens in the bucket.
        rate: of the bucket.
        per_canvas: tokens of a canvas.
        ordinary: canvases of an ordinary group.
        share: what the group spent over its quota.
        seconds: length of the group.

    Returns:
        At least 1, never more than the level allows but for that 1.
    """
    wanted = min(_MOST_SHARE * ordinary, max(2, round(ordinary * share)))
    spilled = level + rate.tokens_per_second * seconds - rate.burst_tokens
    wanted = max(wanted, min(_MOST_SHARE * ordinary, int(spilled // per_canvas)))
    return max(1, min(wanted, int((level + _ROUNDING) // per_canvas)))
