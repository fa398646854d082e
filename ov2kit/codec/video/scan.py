"""The first look at a stream: all its packets, one picture, and what follows from them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.video.counting import count_pictures
from ov2kit.codec.video.entry_points import starts_at
from ov2kit.codec.video.frame import StreamInfo
from ov2kit.codec.video.kept_packets import KeptPackets
from ov2kit.codec.video.marks import mark, marked
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.packets import PacketTable, read_packets
from ov2kit.codec.video.shown import PictureCounter
from ov2kit.codec.video.sieves import sieves_of
from ov2kit.codec.video.source import OPEN_ERRORS, AnyPacket, Source, choose_stream, demux_packets, reason
from ov2kit.codec.video.vectors import MOTION_CODECS
from ov2kit.errors import VideoError


def scan(source: Source, stream_index: int | None = None) -> tuple[PacketTable, StreamInfo, KeptPackets]:
    """Demux a video stream to its end and decode its first picture.

    Where neither packets nor time stamps say which pictures there are, all of it is decoded once.

    Args:
        source: the file.
        stream_index: of the video stream; FFmpeg's best one when None.

    Raises:
        VideoError: the stream cannot be read, has no packets, or holds no picture that decodes.
    """
    with source.open() as container:
        stream = choose_stream(container, source.label, stream_index, source.max_source_pixels)
        context = stream.codec_context
        context.thread_type, context.thread_count, context.copy_opaque = "NONE", 1, True
        kept = KeptPackets()
        table, info, needs_decode = first_look(
            container, stream, demux_packets(container, stream), source.label, source.max_source_pixels, kept
        )
    given = count_pictures(source, info.stream_index) if needs_decode else None
    return *corrected(table, info, source.label, given), kept


def first_look(
    container: InputContainer,
    stream: AVStream,
    packets: Iterable[AnyPacket],
    label: str,
    max_source_pixels: int,
    kept: KeptPackets | None = None,
) -> tuple[PacketTable, StreamInfo, bool]:
    """What packets, time stamps and the first picture say of a stream, and whether a decode of all of it is needed.

    Args:
        container: of the stream.
        stream: whose decoder is prepared, and has decoded nothing yet.
        packets: all of them, as `demux_packets` gives them.
        label: name of the input for messages.
        max_source_pixels: of its decoder, for messages.
        kept: given all packets.

    Raises:
        VideoError: as `scan`.
    """
    context = stream.codec_context
    first = _FirstPicture(context, label)
    codec = context.codec.canonical_name
    counter, starts = PictureCounter(codec, context.extradata), starts_at(codec, context.extradata)
    try:
        table = read_packets(packets, stream, starts, counter, first, None if kept is None else kept.add)
    except OPEN_ERRORS as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{label}: reading stopped ({reason(error)})") from error
    if len(table) == 0:
        raise VideoError(f"{label}: the video stream holds no packets")
    if first.picture is None:
        raise VideoError(
            f"{label}: no picture could be decoded from {len(table)} packet(s), {first.failed} of them "
            f"refused ({context.name}); the file is damaged or encrypted, or its pictures have more than "
            f"max_source_pixels={max_source_pixels}"
        )
    is_guessed = container.format.name == "avi" and bool(context.has_b_frames)  # AVI has no pts
    needs_decode = counter.doubtful or not table.exact or is_guessed
    if kept is not None:
        kept.sieves = sieves_of(codec, context.extradata, has_fields=counter.may_have_fields)
    if not needs_decode:
        table = table.starting_with(marked(first.picture))
    return table, stream_info(container, stream, table, first.picture), needs_decode


def corrected(
    table: PacketTable, info: StreamInfo, label: str, given: Sequence[int] | None
) -> tuple[PacketTable, StreamInfo]:
    """Table and info as a decode of the whole stream corrects them.

    Args:
        given: the pictures it gave, see `pictures_of`; None where none was needed.

    Raises:
        VideoError: there is no picture.
    """
    if given is not None:
        table = table.counted(given)
        start = _start_seconds(table)
        delay = info.delay_seconds + start - info.start_seconds if table.times_from == "pts" else 0.0
        info = replace(info, start_seconds=start, delay_seconds=max(0.0, delay))
    if table.num_frames == 0:
        raise VideoError(f"{label}: none of {len(table)} packet(s) shows a picture; the file is damaged")
    return table, info


class _FirstPicture:
    """Decodes the packets that it is shown until a picture comes."""

    def __init__(self, context: VideoCodecContext, label: str) -> None:
        self._context, self._label = context, label
        self.picture: Any = None
        self.failed = 0

    def __call__(self, packet: "AnyPacket | None", index: int) -> bool:
        """Whether the picture is there; None, after the last packet, asks for what the decoder holds back."""
        if packet is not None:
            mark(packet, index)
        try:
            self.picture = next(iter(self._context.decode(packet)), None)
        except av.error.DecoderNotFoundError as error:
            raise VideoError(f"{self._label}: this FFmpeg has no decoder for {self._context.name}") from error
        except (av.error.FFmpegError, EOFError):
            self.failed += 1
        return self.picture is not None


def stream_info(container: InputContainer, stream: AVStream, table: PacketTable, frame: Any) -> StreamInfo:
    """What the header, the packets and the first picture say of a stream."""
    orientation = Orientation.from_frame(frame)
    ratio = float(stream.sample_aspect_ratio or 0) or 1.0
    ratio = ratio if 0.1 <= ratio <= 10 else 1.0
    shown = orientation.size(frame.height, max(1, round(frame.width * ratio)))
    start = _start_seconds(table)
    origin = (container.start_time or 0) / av.time_base if container.start_time is not None else start
    name = stream.codec_context.codec.canonical_name
    return StreamInfo(
        codec=name,
        container=container.format.name,
        stream_index=stream.index,
        coded_size=(frame.height, frame.width),
        display_size=shown,
        orientation=orientation,
        sample_aspect_ratio=ratio,
        pix_fmt=frame.format.name,
        interlaced=bool(frame.interlaced_frame),
        exports_motion=stream.codec_context.name in MOTION_CODECS,
        start_seconds=start,
        delay_seconds=max(0.0, start - origin),
        header_seconds=_header_seconds(container, stream, start, origin),
    )


def _start_seconds(table: PacketTable) -> float:
    """Time stamp of the first shown frame."""
    stamps = table.pts[table.order]
    return float(np.nanmin(stamps)) if not np.isnan(stamps).all() else 0.0


def _header_seconds(container: InputContainer, stream: AVStream, start: float, origin: float) -> float | None:
    """How long the header says the picture lasts.

    The container's own duration is that of its longest stream, sound included: it counts only where
    the video is alone.
    """
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d*)?)", stream.metadata.get("DURATION", ""))
    if tag is not None:  # Matroska: the time at which the stream ends
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - start
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base - (start - origin)
    return None
