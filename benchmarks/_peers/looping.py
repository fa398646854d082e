"""A long video made from a short one, by copying its packets again and again."""

from pathlib import Path

import av


def loop_clip(clip: Path, out: Path, seconds: float, stream_index: int | None = None) -> tuple[int, float]:
    """Write the clip's packets in turn until `seconds` are reached, without decoding.

    Args:
        clip: the short video; its (chosen) video stream must start with a keyframe.
        out: the long one; its suffix names the container.
        seconds: length to reach; the last repetition is written whole.
        stream_index: position among the video streams; the best one when None.

    Returns:
        Packets and seconds written.

    Raises:
        ValueError: a packet has no time, so it cannot be shifted.
    """
    with av.open(str(clip), metadata_errors="replace") as source:
        stream = source.streams.best("video") if stream_index is None else source.streams.video[stream_index]
        packets = [p for p in source.demux(stream) if p.size]
        times = [(p.pts, p.dts, p.duration or 0) for p in packets]
        if any(pts is None or dts is None for pts, dts, _ in times):
            raise ValueError(f"{clip}: a packet has no time, so the clip cannot be looped by copying")
        step = max(d for _, _, d in times) or round(1 / (stream.average_rate * stream.time_base))
        # one repetition lasts from the first picture to the end of the last, and dts must go on rising
        period = (
            max(
                max(t[0] for t in times) - min(t[0] for t in times), max(t[1] for t in times) - min(t[1] for t in times)
            )
            + step
        )
        base = stream.time_base
        repeats = max(1, -int(-seconds // float(period * base)))
        with av.open(str(out), "w") as target:
            copy = target.add_stream_from_template(stream)
            for n in range(repeats):
                for packet, (pts, dts, _) in zip(packets, times, strict=True):
                    packet.stream = copy
                    packet.pts, packet.dts, packet.time_base = pts + n * period, dts + n * period, base
                    target.mux_one(packet)
    return repeats * len(packets), repeats * float(period * base)
