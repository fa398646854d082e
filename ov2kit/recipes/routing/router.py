"""Router: a question and a stream -> the source that shows most of the answer."""

from collections.abc import Callable

from ov2kit.codec import VideoStream
from ov2kit.codec.tokenizers.presets import PRESETS, Preset
from ov2kit.codec.video.source import VideoSource
from ov2kit.errors import check_choice, check_number, check_type
from ov2kit.recipes.routing.plan import Plan, explained
from ov2kit.recipes.routing.question_kind import AskedFor, QuestionClassifier
from ov2kit.recipes.routing.stream_facts import stream_facts
from ov2kit.recipes.routing.values import Route, route_values

_PER_GROUP = 4  # canvases of an ordinary group, one of them a whole frame


class Router:
    """Choose between codec canvases, sampled frames and hybrids for one question.

    A classifier says how likely the question asks when, how often, in what order or what happens, which need time, or
    what something says, where it is or what it looks like, which need detail. Measured values say what each source
    shows of such answers, corrected by facts of the stream. The source with the highest expected value is taken.
    Frames of the video are decoded for their vectors at most, none is looked at.

    The values were measured with one canvas per second of small events (docs/routing.md); a budget of far more or fewer
    is routed by the same ones.

    Args:
        budget_canvases: canvases of a plan.
        preset: of codec canvases. Values were measured with "event" and "paper"; "release" takes those of "paper".
        classifier: a question -> `AskedFor`; that of the package by default.

    Raises:
        OptionError: an option is unknown or out of range.

    Example:
        >>> plan = Router(8)("What is written on the sign?", "clip.mp4")
        >>> plan.route.source, plan.budget_canvases, plan.whole_frames
        ('frames', 8, 8)
    """

    def __init__(
        self,
        budget_canvases: int = 32,
        *,
        preset: Preset = "event",
        classifier: Callable[[str], AskedFor] | None = None,
    ) -> None:
        self.budget_canvases = check_number("budget_canvases", budget_canvases, low=1, integer=True)
        self.preset: Preset = check_choice("preset", preset, PRESETS)
        check_type("classifier", classifier, Callable, "a function of a question", optional=True)
        self.classifier = QuestionClassifier() if classifier is None else classifier

    def __call__(self, question: str, video: VideoSource | VideoStream) -> Plan:
        """The plan for a question.

        Args:
            question: English text.
            video: path, bytes, binary file object, or a `VideoStream`.

        Raises:
            OptionError: the question is no text, or has no word.
            VideoError: the video cannot be opened.
        """
        asked = self.classifier(question)
        stream = stream_facts(video if isinstance(video, VideoStream) else VideoStream(video))
        values = route_values(self.preset)
        expected = values.expected(asked.shares, stream)
        best = max(range(len(expected)), key=lambda n: expected[n])
        route = values.routes[best]
        return Plan(
            question=question,
            route=route,
            preset=self.preset,
            budget_canvases=self.budget_canvases,
            whole_frames=_whole_frames(route, self.budget_canvases),
            asked=asked,
            stream=stream,
            values={each.name: round(value, 4) for each, value in zip(values.routes, expected, strict=True)},
            why=explained(asked, stream, values, expected),
        )


def _whole_frames(route: Route, canvases: int) -> int:
    if route.source == "frames":
        return canvases
    least = max(1, canvases // _PER_GROUP)
    return least if route.frame_share is None else max(least, round(route.frame_share * canvases))
