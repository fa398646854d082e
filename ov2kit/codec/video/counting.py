"""The pictures of a stream by decoding it once, where neither packets nor time stamps say."""

import contextlib
from collections.abc import Iterable

import av
from av.video.codeccontext import VideoCodecContext

from ov2kit.codec.video.marks import mark, marked
from ov2kit.codec.video.source import AnyPacket, Source, choose_stream, demux_packets


def count_pictures(source: Source, stream_index: int) -> list[int]:
    """Decode a whole stream in one thread, see `pictures_of`."""
    with source.open() as container:
        stream = choose_stream(container, source.label, stream_index, source.max_source_pixels)
        decoder = stream.codec_context
        decoder.thread_type, decoder.thread_count, decoder.copy_opaque = "NONE", 1, True
        return pictures_of(demux_packets(container, stream), decoder)


def pictures_of(packets: Iterable[AnyPacket], decoder: VideoCodecContext) -> list[int]:
    """Decode all packets of a stream.

    Args:
        packets: all of them.
        decoder: with one thread; it is at its end afterwards.

    Returns:
        For each picture, in the order in which they are shown, the decode index of its packet; -1
        where the decoder does not say.
    """
    given: list[int] = []
    for index, packet in enumerate(packets):
        if packet.size == 0:
            continue
        mark(packet, index)
        try:
            given += [marked(frame) for frame in decoder.decode(packet)]
        except (av.error.FFmpegError, EOFError):
            continue
    with contextlib.suppress(av.error.FFmpegError, EOFError):
        given += [marked(frame) for frame in decoder.decode(None)]
    return given
