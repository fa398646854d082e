"""Pictures and videos that people can look at: masks in color over the frames, points with their ids.

Letters: H x W pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ov2kit.errors import DataError
from ov2kit.files import write_file
from ov2kit.recipes.spatial.frames import Frames, Picture
from ov2kit.recipes.spatial.rle import Mask
from ov2kit.recipes.spatial.segmenter import MaskTracks, Prompts

#: RGB of objects, by id; distinguishable also for most color-blind people (Okabe and Ito)
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_OPACITY = 0.5


def paint(picture: Picture, masks: Mapping[int, Mask], points: Mapping[int, Sequence[tuple[float, float]]]) -> Picture:
    """A picture with masks, their outlines, and points.

    Args:
        picture: (H, W, 3) uint8.
        masks: object id -> (H, W) bool.
        points: object id -> places (x, y) in pixels.
    """
    painted = picture.astype(np.float32)
    for object_id, mask in sorted(masks.items()):
        color = np.array(PALETTE[object_id % len(PALETTE)], dtype=np.float32)
        painted[mask] = (1 - _OPACITY) * painted[mask] + _OPACITY * color
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        painted[mask & ~inner] = color
    image = Image.fromarray(painted.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    radius = max(2, round(min(picture.shape[:2]) / 60))
    for object_id, places in sorted(points.items()):
        color_of = PALETTE[object_id % len(PALETTE)]
        for x, y in places:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color_of, outline=(255, 255, 255))
            draw.text(
                (x + radius + 1, y - radius - 1),
                str(object_id),
                fill=(255, 255, 255),
                stroke_width=1,
                stroke_fill=(0, 0, 0),
            )
    return np.asarray(image)


def painted_frame(frames: Frames, masks: MaskTracks, prompts: Prompts, number: int) -> Picture:
    """Frame `number` with everything that is known of it."""
    shown = {object_id: masks.mask(object_id, number) for object_id in masks.objects}
    return paint(frames[number], shown, prompts.get(number, {}))


def write_clip(path: Path, pictures: Iterable[Picture], fps: float) -> Path:
    """Encode (H, W, 3) uint8 pictures as H.264, or MPEG-4 where FFmpeg has no H.264 encoder; whole or not at all.

    Raises:
        DataError: no pictures, or several sizes.
        OutputError: it cannot be written.
    """
    import av

    rate = Fraction(fps).limit_denominator(1001)
    size: tuple[int, ...] | None = None
    with write_file(path) as file, av.open(file.name, "w", "mp4") as container:
        stream: Any = None
        for number, picture in enumerate(pictures):
            if stream is None:
                size = picture.shape[:2]
                stream = _video_stream(container, size, rate)
            if picture.shape[:2] != size:
                raise DataError(f"{path.name}: frame {number} is {picture.shape[:2]}, expected {size}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        if stream is None:
            raise DataError(f"{path.name}: a video needs at least one picture")
        container.mux(stream.encode(None))
    return path


def _video_stream(container: Any, size: tuple[int, ...], rate: Fraction) -> Any:
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = size
    even = size[0] % 2 == 0 == size[1] % 2
    stream.pix_fmt = "yuv420p" if even or codec == "mpeg4" else "yuv444p"
    stream.time_base = 1 / rate
    stream.options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
    return stream


def write_overlay(path: Path, frames: Frames, masks: MaskTracks, prompts: Prompts, *, fps: float = 6.0) -> Path:
    """The video with masks and points over it."""
    return write_clip(path, (painted_frame(frames, masks, prompts, k) for k in range(len(frames))), fps)


def filmstrip(
    pictures: Sequence[Picture], captions: Sequence[str], *, height: int = 120, columns: int = 6
) -> Image.Image:
    """Pictures side by side, each with a caption under it, in rows."""
    if not pictures:
        raise DataError("a filmstrip needs at least one picture")
    tall, wide = pictures[0].shape[:2]
    width, line = max(1, round(height * wide / tall)), 14
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (min(columns, len(pictures)) * (width + 4), rows * (height + line + 4)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = (number % columns) * (width + 4), (number // columns) * (height + line + 4)
        sheet.paste(Image.fromarray(picture).resize((width, height)), (left, top))
        draw.text((left + 2, top + height + 1), caption, fill=(0, 0, 0))
    return sheet


def contact_sheet(frames: Frames, masks: MaskTracks, prompts: Prompts, *, most: int = 12) -> Image.Image:
    """Frames spread over the video, with masks, points and times."""
    chosen = sorted({round(k) for k in np.linspace(0, len(frames) - 1, min(most, len(frames)))})
    pictures = [painted_frame(frames, masks, prompts, number) for number in chosen]
    return filmstrip(pictures, [f"{frames.seconds[number]:.2f} s" for number in chosen])
