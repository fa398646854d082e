"""A plan: which source, how the budget is split, and why."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from ov2kit.canvases import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, Provenance, VideoStream
from ov2kit.codec.tokenizers.interface import Progress
from ov2kit.codec.tokenizers.presets import Preset
from ov2kit.codec.video.source import VideoSource
from ov2kit.recipes.routing.question_kind import AskedFor
from ov2kit.recipes.routing.stream_facts import StreamFacts
from ov2kit.recipes.routing.values import FACTS, Route, RouteValues

_SAID = {
    "when": "when something happens", "count": "how many times", "order": "in what order", "happens": "what happens",
    "say": "what something says", "where": "where something is", "look": "what something looks like",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a question about a stream is best answered from.

    Args:
        question: its text.
        route: the source, and its share of whole frames.
        preset: of the codec canvases.
        budget_canvases: canvases in all.
        whole_frames: how many of them are whole frames; at least one in each group is, so a codec plan's are those
            of ordinary groups of four canvases.
        asked: what the question asks for.
        stream: what the stream says of itself.
        values: of each route by name, what of the answer it is expected to show, 0 to 1.
        why: in words and numbers.
    """

    question: str
    route: Route
    preset: Preset
    budget_canvases: int
    whole_frames: int
    asked: AskedFor
    stream: StreamFacts
    values: dict[str, float]
    why: str

    def tokenizer(self, **options: Any) -> CodecTokenizer | FrameTokenizer:
        """The tokenizer of the plan.

        Args:
            options: of `CodecTokenizer` or `FrameTokenizer` that differ from their defaults.
        """
        if self.route.source == "frames":
            return FrameTokenizer(self.budget_canvases, **options)
        share = self.route.frame_share
        return CodecTokenizer(self.budget_canvases, preset=self.preset, frame_share=share, **options)

    def request(self) -> dict[str, Any]:
        """The plan as arguments of `Processor.with_options`."""
        share = {} if self.route.frame_share is None else {"frame_share": self.route.frame_share}
        codec = {"budget_canvases": self.budget_canvases, "preset": self.preset}
        return {"source": self.route.source, "num_frames": self.budget_canvases, "codec_config": codec, **share}

    def __call__(
        self, video: VideoSource | VideoStream, *, progress: Progress | None = None, **options: Any
    ) -> Canvases:
        """Tokenize a video as planned; provenance says why.

        Args:
            video: path, bytes, binary file object, or a `VideoStream`.
            progress: called with the number of frames decoded so far and the number to decode.
            options: see `tokenizer`.

        Raises:
            VideoError: it cannot be opened or decoded.
        """
        return self.noted(self.tokenizer(**options)(video, progress=progress))

    def noted(self, canvases: Canvases) -> Canvases:
        """Canvases that were made by it, with it in their provenance."""
        made = replace(Provenance.of(canvases), plan=self.plain())
        return replace(canvases, provenance=made.to_dict())

    def plain(self) -> dict[str, Any]:
        """As provenance has it."""
        return {
            "question": self.question, "source": self.route.source, "frame_share": self.route.frame_share,
            "preset": None if self.route.source == "frames" else self.preset,
            "canvases": self.budget_canvases, "whole_frames": self.whole_frames, "kind": self.asked.kind,
            "shares": {kind: round(share, 4) for kind, share in self.asked.shares.items()},
            "known": round(self.asked.known, 4),
            "stream": self.stream.plain(), "values": self.values, "why": self.why,
        }  # fmt: skip


def explained(asked: AskedFor, stream: StreamFacts, values: RouteValues, expected: list[float]) -> str:
    """Why the best route is the best, in words and numbers."""
    ranked = sorted(zip(expected, values.routes, strict=True), key=lambda each: -each[0])
    likely = sorted(asked.shares.items(), key=lambda each: -each[1])
    others = [f"{_SAID[kind]} {share:.2f}" for kind, share in likely[1:] if share >= 0.1]
    doubt = f" (or {', '.join(others)})" if others else ""
    told = ", ".join(f"{route.name} {value:.2f}" for value, route in ranked)
    plain = {name: value for name, value in asdict(stream).items() if value is not None}
    facts = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in plain.items())
    usual = [
        f"{name} {'above' if z > 0 else 'below'} the usual ({z:+.1f} deviations)"
        for name, z in zip(FACTS, values.standard(stream), strict=True)
        if abs(z) >= 1.5
    ]
    if asked.kind is None:
        question = f"The question is not understood, {asked.known:.2f} of its words are known: all kinds count alike. "
    else:
        question = f"The question asks {_SAID[asked.kind]}, {likely[0][1]:.2f}{doubt}. "
    return (
        f"{question}"
        f"The stream: {facts}{'; ' + ', '.join(usual) if usual else ''}. "
        f"Expected share of the answer shown, with preset {values.preset}: {told}. So {ranked[0][1].name}."
    )
