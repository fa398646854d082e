"""From a picture or a video in a message, whatever it is given as, to canvases.

A directory is read as canvases on disk: our own file or the public asset layout.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from ov2kit.canvases import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, Tokenizer, load_assets
from ov2kit.codec.provenance.provenance import Provenance
from ov2kit.errors import DataError, check_choice, check_type
from ov2kit.recipes.inputs.sources import local_source
from ov2kit.recipes.prompt.chat import Media
from ov2kit.recipes.prompt.prompts import MediaKind, SourceKind
from ov2kit.recipes.prompt.subtitles import Subtitle, on_picture_clock, read_subtitles
from ov2kit.recipes.routing.routed import routed

Clip = tuple[MediaKind, Canvases]
_PICTURES = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, torch.Tensor)


def open_media(
    media: Media,
    *,
    videos: Mapping[SourceKind, Callable[[Any], Canvases]],
    image: Tokenizer[Any],
    source: SourceKind,
) -> list[Clip]:
    """Canvases of one picture or video, with what they are, clip by clip.

    Args:
        media: from a message. A video part may name its own "source".
        videos: make canvases of a video, see `video_tokenizers`.
        image: makes a canvas of a picture.
        source: how a video is tokenized whose part does not say.

    Raises:
        Ov2kitError: it cannot be opened.
        DataError: an unknown source, an address on a network, or a kind of object that is neither.
    """
    given = local_source(media.source)
    wanted = media.options.get("source")
    if wanted is not None:
        check_choice("source", wanted, get_args(SourceKind), DataError)
    if isinstance(given, Canvases):
        canvases = given if given.images.device.type == "cpu" else given.to("cpu")
    elif media.kind == "image":
        if not (isinstance(given, _PICTURES) or hasattr(given, "read")):
            raise DataError(
                f"an image must be a path, bytes, a PIL image, an array or Canvases, got {type(given).__name__}"
            )
        canvases = image(given)
    elif isinstance(given, str | os.PathLike) and Path(given).expanduser().is_dir():
        canvases = load_canvases(given)
    else:
        canvases = videos[wanted or source](given)
    if len(canvases) == 0:
        raise DataError(f"the {media.kind} has no canvas")
    return [(_kind(media.kind, wanted, clip), clip) for clip in canvases.split()]


def video_tokenizers(
    codec: CodecTokenizer, frames: FrameTokenizer, hybrid: CodecTokenizer, question: Callable[[], str]
) -> dict[SourceKind, Callable[[Any], Canvases]]:
    """What makes canvases of a video, by source.

    Args:
        codec: makes codec canvases.
        frames: samples frames.
        hybrid: makes codec canvases of which a share is whole frames.
        question: finds what is asked, for "route" alone; may raise DataError.
    """
    return {
        "codec": codec,
        "frames": frames,
        "hybrid": hybrid,
        "route": lambda video: routed(question(), video, codec=codec, frames=frames),
    }


def tokenizers_of(
    codec: CodecTokenizer | None, frames: FrameTokenizer | None, image: ImageTokenizer | None
) -> tuple[CodecTokenizer, FrameTokenizer, ImageTokenizer]:
    """The three as given, those that are None with their defaults.

    Raises:
        OptionError: one of them is something else.
    """
    check_type("codec", codec, CodecTokenizer, "a CodecTokenizer", optional=True)
    check_type("frames", frames, FrameTokenizer, "a FrameTokenizer", optional=True)
    check_type("image", image, ImageTokenizer, "an ImageTokenizer", optional=True)
    return (
        CodecTokenizer() if codec is None else codec,
        FrameTokenizer() if frames is None else frames,
        ImageTokenizer() if image is None else image,
    )


def load_canvases(directory: str | os.PathLike[str]) -> Canvases:
    """Canvases of a directory: what `Canvases.save` wrote, or the public asset layout.

    Raises:
        AssetError: it is neither, or incomplete.
    """
    folder = Path(directory).expanduser()
    if (folder / "canvases.safetensors").exists():
        return Canvases.load(folder)
    return load_assets(folder)


def _kind(kind: str, wanted: str | None, clip: Canvases) -> MediaKind:
    """What canvases are, by what was asked for, else by themselves: sampled frames are all anchors."""
    if kind == "image":
        return "image"
    if wanted == "frames":
        return "frames"
    if wanted in ("codec", "hybrid"):
        return "codec"
    return "frames" if clip.signal == "none" and bool(clip.is_anchor.all()) else "codec"


def part_subtitles(media: Media, clips: Sequence[Clip]) -> list[Subtitle]:
    """Subtitles of a video part, on the clock of its picture.

    A subtitle's times are those of the file; the picture may start later than its sound.

    Raises:
        DataError: they cannot be read, or there is no one video for them.
    """
    given = media.options.get("subtitles")
    if given is None:
        return []
    if media.kind == "image" or len(clips) != 1:
        raise DataError(f"subtitles need one video to belong to, got {len(clips)} clip(s) of an {media.kind} part")
    source = Provenance.of(clips[0][1]).source
    delay = (source.delay_seconds if source is not None else None) or 0.0
    return on_picture_clock(read_subtitles(local_source(given)), delay)


def known_seconds(canvases: Canvases) -> float | None:
    """Length of the video that canvases of one clip came from, None if they do not know it."""
    source = Provenance.of(canvases).source
    return None if source is None else source.seconds
