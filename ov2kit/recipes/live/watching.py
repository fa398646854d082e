"""From the groups of a stream to answers: what is kept, when the model is called, what it says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ov2kit.codec import BitCostGate, Gated, LiveGroup
from ov2kit.recipes.live.answers import LiveAnswer, LiveAnswers
from ov2kit.recipes.live.context import RollingContext


@dataclass(frozen=True)
class Watched:
    """One group, and what came of it.

    Args:
        group: of the stream.
        gated: whether the model was to be called.
        answer: what it said; None where it was not called.
        kept_groups: in the context with this one.
        kept_tokens: of them.
    """

    group: LiveGroup
    gated: Gated
    answer: LiveAnswer | None
    kept_groups: int
    kept_tokens: int

    def facts(self) -> dict[str, Any]:
        """Plain values, as one line of JSON."""
        group, answer = self.group, self.answer
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
            "gate": self.gated.decision,
            "gate_rate": round(self.gated.rate, 4),
            "gate_threshold": round(self.gated.threshold, 4),
            "kept_groups": self.kept_groups,
            "kept_tokens": self.kept_tokens,
            "answer": None if answer is None else answer.text,
            "prompt_tokens": None if answer is None else answer.prompt_tokens,
            "reused_tokens": None if answer is None else answer.reused_tokens,
            "answer_seconds": None if answer is None else round(answer.seconds, 3),
        }


def watch(
    groups: Iterable[LiveGroup], context: RollingContext, gate: BitCostGate, answers: LiveAnswers | None
) -> Iterator[Watched]:
    """Go through the groups of a stream; the model is called for those that the gate lets through.

    While it answers no group is taken: packets wait in the reader, as far as there is room.

    Args:
        groups: as they come.
        context: what the model is shown; counted on.
        gate: decides of each group.
        answers: calls the model; None to call none.
    """
    for group in groups:
        context.add(group)
        gated = gate(group)
        answer = answers(context) if answers is not None and gated.is_open else None
        yield Watched(group, gated, answer, len(context), context.tokens)
