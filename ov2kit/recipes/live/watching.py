"""From the groups of a stream to questions: what is kept, when the model is called."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ov2kit.codec import BitCostGate, Gated, LiveGroup
from ov2kit.recipes.live.asking import Asking
from ov2kit.recipes.live.context import RollingContext


@dataclass(frozen=True)
class Watched:
    """One group, and what came of it.

    Args:
        group: of the stream.
        gated: whether the model was to be called.
        is_asked: whether it is called; the answer comes later, see `Asking`.
        kept_groups: in the context with this one.
        kept_tokens: of them.
    """

    group: LiveGroup
    gated: Gated
    is_asked: bool
    kept_groups: int
    kept_tokens: int

    def facts(self) -> dict[str, Any]:
        """Plain values, as one line of JSON."""
        group = self.group
        return {
            "group": group.number,
            "start_seconds": round(group.start_seconds, 3),
            "end_seconds": round(group.end_seconds, 3),
            "reason": group.reason,
            "canvases": len(group.canvases),
            "tokens": group.tokens,
            "spent": round(group.spent, 3),
            "waited_seconds": round(group.waited_seconds, 3),
            "latency_seconds": round(group.latency_seconds, 3),
            "shed_seconds": round(group.shed_seconds, 3),
            "gate": self.gated.decision,
            "gate_rate": round(self.gated.rate, 4),
            "gate_threshold": round(self.gated.threshold, 4),
            "kept_groups": self.kept_groups,
            "kept_tokens": self.kept_tokens,
            "is_asked": self.is_asked,
        }


def watch(
    groups: Iterable[LiveGroup], context: RollingContext, gate: BitCostGate, asking: Asking | None
) -> Iterator[Watched]:
    """Go through the groups of a stream; the model is asked about those that the gate lets through.

    Each group is given before it is asked about. Ends when the last answer has come.

    Args:
        groups: as they come.
        context: what the model is shown; counted on.
        gate: decides of each group.
        asking: asks the model; None to ask none.

    Raises:
        Exception: what the model raised.
    """
    for group in groups:
        context.add(group)
        gated = gate(group)
        is_asked = asking is not None and gated.is_open
        yield Watched(group, gated, is_asked, len(context), context.tokens)
        if asking is not None:
            if is_asked:
                asking.ask(list(context))
            asking.settle()
    if asking is not None:
        asking.finish()
