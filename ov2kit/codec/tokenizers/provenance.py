"""What made a result: preset, signal, codec, options, versions, seconds per stage, what was lost."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import torch

import ov2kit
from ov2kit.codec.provenance.provenance import Provenance, SignalRecord, SourceRecord
from ov2kit.codec.tokenizers.interface import Video
from ov2kit.codec.video.frame import StreamLosses


@dataclass
class StageClock:
    """Wall seconds per named stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin


def add_seconds(*parts: Mapping[str, float]) -> dict[str, float]:
    """Wall seconds per stage, summed over parts of the work."""
    total: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def versions() -> dict[str, str]:
    """Versions that decide what comes out."""
    libraries = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    return {
        "ov2kit": ov2kit.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "av": av.__version__,
        "libavcodec": libraries.get("libavcodec", "?"),
        "libavformat": libraries.get("libavformat", "?"),
    }


def describe(
    stream: Video,
    *,
    preset: str,
    signal: dict[str, Any],
    options: dict[str, Any],
    losses: StreamLosses | None,
    seconds: Mapping[str, float],
    **more: Any,
) -> Provenance:
    """How canvases of a video were made.

    Args:
        losses: None as long as decoding goes on.
        more: further entries of `Provenance`.
    """
    info, table = stream.info, stream.packets
    return Provenance(
        preset=preset,
        signal=SignalRecord.from_dict(signal),
        codec=info.codec,
        source=SourceRecord(
            name=stream.label,
            container=info.container,
            stream=info.stream_index,
            frames=table.num_frames,
            seconds=table.duration_seconds,
            start_seconds=info.start_seconds,
            delay_seconds=info.delay_seconds,
            fps=table.fps,
            coded_size=info.coded_size,
            display_size=info.display_size,
            pix_fmt=info.pix_fmt,
            interlaced=info.interlaced,
            times_from=table.times_from,
        ),
        options=options,
        lost=losses,
        seconds={stage: round(value, 6) for stage, value in seconds.items()},
        versions=versions(),
        **more,
    )
