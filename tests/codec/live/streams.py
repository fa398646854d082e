"""Streams for the tests of live tokenization: packets of clips, moved and joined."""

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import av
import torch

from ov2kit.codec import LiveGroup
from tests.clips import encode


def packets_of(source: Any, **options: Any) -> Iterator[Any]:
    """Video packets in decode order; the container stays open as long as the loop."""
    container = av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), **options)
    yield from container.demux(container.streams.best("video"))


def pushed(live: Any, parts: Any) -> list[LiveGroup]:
    """All groups of what is pushed part by part."""
    groups = [group for part in parts for group in live.push(part)]
    return groups + live.finish()


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@cache
def ts_clip(**options: Any) -> bytes:
    """A transport stream of a made-up clip; 12 s of 25 frames a second by default."""
    target = io.BytesIO()
    encode(target, container="mpegts", **({"frames": 300, "size": (96, 128), "gop": 25} | options))
    return target.getvalue()


def clip_of_sizes(*sizes: tuple[int, int], frames: int = 100, **options: Any) -> bytes:
    """One stream whose pictures change their size after so many frames, of which its one header says nothing."""
    target, shift = io.BytesIO(), Fraction(0)
    with av.open(target, "w", format="matroska") as out:
        stream: Any = None
        for size in sizes:
            part = io.BytesIO()
            encode(part, container="matroska", size=size, frames=frames, gop=25, **options)
            with av.open(io.BytesIO(part.getvalue())) as clip:
                video = clip.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in clip.demux(video):
                    if packet.dts is not None and packet.time_base:
                        ticks = round(shift / packet.time_base)
                        packet.pts, packet.dts, packet.stream = (packet.pts or 0) + ticks, packet.dts + ticks, stream
                        out.mux(packet)
            shift += Fraction(frames, 25)
    return target.getvalue()


def joined(groups: list[LiveGroup], name: str) -> torch.Tensor:
    return torch.cat([getattr(group.canvases, name) for group in groups])


def frames_of(group: LiveGroup) -> tuple[int, int]:
    return tuple(group.canvases.provenance["groups"][0]["frames"])


def check_chain(groups: list[LiveGroup]) -> None:
    """Groups follow each other without a frame lost or shown twice, and are numbered."""
    assert [group.number for group in groups] == list(range(len(groups)))
    assert frames_of(groups[0])[0] == 0
    for before, after in pairwise(groups):
        assert frames_of(before)[1] == frames_of(after)[0]
        assert before.end_seconds <= after.start_seconds + 1e-6
    for group in groups:
        group.canvases.validate()
        assert int(group.canvases.groups[0]) == group.number
        times = group.canvases.clip_times()[0]
        first, stop = frames_of(group)
        assert all(first <= frame < stop for frame in times)
        assert all(group.start_seconds - 1e-6 <= time < group.end_seconds for time in times.values())
