"""The source "route": canvases of a video from the source that a `Router` takes for a question."""

from ov2kit.canvases import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, VideoStream
from ov2kit.codec.video.source import VideoSource
from ov2kit.recipes.routing.router import Router


def routed(
    question: str, video: VideoSource | VideoStream, *, codec: CodecTokenizer, frames: FrameTokenizer
) -> Canvases:
    """Canvases as planned; provenance has the plan.

    They are those of the source that is taken with the same options: of `codec`, of `codec` with the plan's share of
    whole frames, or of `frames` with the budget of `codec`, which is that of every plan.

    Args:
        question: English text.
        video: path, bytes, binary file object, or a `VideoStream`.
        codec: makes codec canvases and hybrids.
        frames: samples frames.

    Raises:
        OptionError: the question is no text, or has no word.
        BudgetError: the budget is too small for one canvas.
        VideoError: the video cannot be opened or decoded.
    """
    if not isinstance(video, VideoStream):
        options = codec.settings
        video = VideoStream(video, threads=options.threads, max_source_pixels=options.max_source_pixels)
    budget = codec.settings.budget(video.info.display_size)
    plan = Router(budget.canvases, preset=codec.preset)(question, video)
    if plan.route.source == "frames":
        same = frames.with_budget(codec.budget_canvases, codec.budget_tokens)
        return plan.noted(same(video))
    return plan.noted(codec.with_frame_share(plan.route.frame_share)(video))
