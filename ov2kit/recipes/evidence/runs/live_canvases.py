"""Canvases of clips that come as one stream: what `LiveTokenizer` makes of each, as if it were a clip of its own."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import av
import numpy as np
import torch

from ov2kit.canvases import Canvases
from ov2kit.codec import LiveGroup, LiveTokenizer, Provenance, VideoStream
from ov2kit.recipes.evidence.runs.variant import SweepError


def live_canvases(live: LiveTokenizer, videos: Sequence[VideoStream]) -> Iterator[Canvases]:
    """Follow clips as one stream, the last of them once more in front, and give the canvases of each.

    So none of them begins the stream, where nothing has been seen yet and a whole burst may be spent.

    Args:
        live: what follows the stream.
        videos: files of one canvas size.

    Returns:
        Frames, times and groups of a clip count from its first frame.

    Raises:
        SweepError: no tokens were left for a clip.
    """
    order = [videos[-1], *videos]
    groups: list[LiveGroup] = []
    with ExitStack() as stays:  # a group may end with the first packet of the next clip
        for video in order:
            container = stays.enter_context(av.open(video.label))
            for packet in container.demux(video=0):
                groups += live.push(packet)
        groups += live.finish()
    starts = np.cumsum([0, *(video.num_frames for video in order[:-1])])
    owner = np.searchsorted(starts, [_first_frame(group) for group in groups], side="right") - 1
    for number, video in enumerate(order[1:], 1):
        own = [group.canvases for group, clip in zip(groups, owner, strict=True) if clip == number]
        if not own:
            raise SweepError(f"{video.label}: its stream had no tokens for it; raise budget or tokens_per_second")
        yield _of_clip(own, int(starts[number]), video)


def _first_frame(group: LiveGroup) -> int:
    (record,) = Provenance.of(group.canvases).groups or ()
    assert record.frames is not None  # of a video
    return record.frames[0]


def _of_clip(groups: Sequence[Canvases], start: int, video: VideoStream) -> Canvases:
    joined = Canvases.cat(groups)
    positions = joined.positions.clone()
    positions[..., 0] -= (positions[..., 0] >= 0).int() * start
    shown = torch.unique(positions[..., 0]).tolist()
    seconds = video.packets.frame_seconds
    return Canvases(
        images=joined.images,
        positions=positions,
        groups=joined.clips,  # each part was a group
        is_anchor=joined.is_anchor,
        frame_times={frame: float(seconds[frame]) for frame in shown if frame >= 0},
        patch=joined.patch,
        merge=joined.merge,
        signal=joined.signal,
        fps=video.fps,
    )
