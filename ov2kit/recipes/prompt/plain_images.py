"""Canvases as plain pictures, for any vision-language model of Hugging Face.

The messages that come out hold PIL pictures and text and go to `AutoProcessor.apply_chat_template`.
What another model makes of a canvas, and what it has not been taught, is in docs/in_other_models.md.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

from PIL import Image

from ov2kit.canvases import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.codec.selection.whole_frames import FRAME_SHARE
from ov2kit.errors import DataError, Ov2kitError, check_choice, check_flag, check_number, check_type
from ov2kit.recipes.prompt.asked import asked_question
from ov2kit.recipes.prompt.chat import read_messages
from ov2kit.recipes.prompt.media import known_seconds, open_media, part_subtitles, tokenizers_of, video_tokenizers
from ov2kit.recipes.prompt.prompts import SourceKind
from ov2kit.recipes.prompt.subtitles import Subtitle, interleave
from ov2kit.recipes.prompt.time_stamps import TimeRun, timestamp


def canvas_pictures(canvases: Canvases) -> list[Image.Image]:
    """One RGB picture per canvas, pixel for pixel."""
    return [Image.fromarray(image.permute(1, 2, 0).cpu().numpy()) for image in canvases.images.contiguous()]


def canvas_spans(canvases: Canvases) -> list[tuple[float, float]]:
    """First and last second that each canvas of one clip shows.

    Raises:
        DataError: several clips, a canvas of padding alone, or a frame without a time.
    """
    clips = canvases.clip_times()
    if len(clips) > 1:
        raise DataError(f"expected the canvases of one clip, got {len(clips)}; use canvases.split()")
    spans = []
    for number, positions in enumerate(canvases.positions):
        frames = {frame for frame in positions[..., 0].unique().tolist() if frame >= 0}
        if not frames or frames - set(clips[0]):
            raise DataError(f"canvas {number}: no frame with a time, got frames {sorted(frames)[:5]}")
        seconds = [clips[0][frame] for frame in frames]
        spans.append((min(seconds), max(seconds)))
    return spans


def span_caption(first: float, last: float, decimals: int = 1) -> str:
    """``<3.2 seconds>`` for a whole frame, ``<3.2-5.0 seconds>`` for blocks of several."""
    if first == last:
        return timestamp(first, decimals)
    return f"<{first:.{decimals}f}-{last:.{decimals}f} seconds>"


def plain_image_messages(
    messages: Sequence[Mapping[str, Any]],
    *,
    codec: CodecTokenizer | None = None,
    frames: FrameTokenizer | None = None,
    image: ImageTokenizer | None = None,
    source: SourceKind = "codec",
    timestamps: bool = True,
    decimals: int = 1,
    images: Sequence[Any] | None = None,
    videos: Sequence[Any] | None = None,
) -> list[dict[str, Any]]:
    """Chat messages in which every picture and video is plain pictures.

    Give the tokenizers the patch and merge of the other model, and its processor
    ``do_resize=False``: resizing blends neighboring blocks, which may be of different frames.

    Args:
        messages: as `Processor` takes them, subtitles included.
        codec: makes codec canvases of videos.
        frames: samples frames of videos.
        image: makes canvases of pictures.
        source: how videos are tokenized whose part does not say; "route" chooses by the question, see `Router`:
            the last text of a user before the last answer, or of all where the conversation ends with the user.
        timestamps: write the time (or the span of times) before each canvas of a video.
        decimals: digits of the seconds.
        images: pictures for `<image>` in the texts.
        videos: videos for `<video>` in the texts.

    Returns:
        Messages with "role" and "content", a list of ``{"type": "text", "text"}`` and
        ``{"type": "image", "image": PIL picture}``.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
        DataError: a message is malformed.
        Ov2kitError: a picture or video cannot be opened; says in which message.
    """
    codec, frames, image = tokenizers_of(codec, frames, image)
    check_choice("source", source, get_args(SourceKind))
    check_flag("timestamps", timestamps)
    check_number("decimals", decimals, low=0, high=9, integer=True)
    for name, stock in (("images", images), ("videos", videos)):
        check_type(name, stock, list | tuple, "a list", optional=True)
    read = read_messages(messages, images, videos)
    hybrid = codec.with_frame_share(FRAME_SHARE) if codec.frame_share is None else codec
    shown = video_tokenizers(codec, frames, hybrid, partial(asked_question, read, generate=read[-1].role == "user"))
    plain = []
    for index, message in enumerate(read):
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, str):
                _add(content, part)
                continue
            try:
                clips = open_media(part, videos=shown, image=image, source=source)
                for kind, clip in clips:
                    is_timed = timestamps and kind != "image"
                    _show(content, clip, part_subtitles(part, clips), decimals if is_timed else None)
            except Ov2kitError as error:
                raise type(error)(f"message {index}: {error}") from error
        plain.append({"role": message.role, "content": content})
    return plain


def _show(content: list[dict[str, Any]], clip: Canvases, subtitles: Sequence[Subtitle], decimals: int | None) -> None:
    """Pictures of one clip, with captions if `decimals` is given, and subtitles between them."""
    spans = canvas_spans(clip)
    runs = [TimeRun(1, first, span_caption(first, last, decimals or 0)) for first, last in spans]
    shown, _ = interleave(
        runs, subtitles, decimals=1 if decimals is None else decimals, end_seconds=known_seconds(clip)
    )
    pictures = iter(canvas_pictures(clip))
    for run in shown:
        if isinstance(run, str):
            _add(content, run)
            continue
        if decimals is not None:
            _add(content, run.stamp)
        content.append({"type": "image", "image": next(pictures)})


def _add(content: list[dict[str, Any]], text: str) -> None:
    """Text, in the same part as text before it."""
    if content and content[-1]["type"] == "text":
        content[-1]["text"] += text
    elif text:
        content.append({"type": "text", "text": text})
