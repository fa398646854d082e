"""Provenance: how canvases were made, as a value with names and types.

`Canvases.provenance` holds it in plain form, as JSON has it: any tool can fill it, and
``canvases.provenance["preset"]`` reads an entry. Code of this package reads it through
`Provenance.of(canvases)`: there an entry that is missing or of another form, as canvases of other
tools may have it, is None, and what came in its place is kept in `other`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.record import Record, entry, flag, mapping, number, pair, text, tuple_of, whole_number
from ov2kit.codec.video.frame import StreamLosses
from ov2kit.errors import CanvasError
from ov2kit.files import check_format, format_name

_KIND, _VERSION = "provenance", 1


@dataclass(frozen=True)
class SignalRecord(Record):
    """What blocks were scored by.

    Args:
        used: the signal of most frames.
        frames: frames scored by each signal.
        asked: motion as the option asked for it.
        decoder_exports_motion: the decoder reports motion vectors of this codec.
        bits_from: what bits were estimated from, where they were.
    """

    used: str | None = entry(text)
    frames: Mapping[str, int] | None = entry(mapping(whole_number))
    asked: str | None = entry(text)
    decoder_exports_motion: bool | None = entry(flag)
    bits_from: str | None = entry(text)


@dataclass(frozen=True)
class SourceRecord(Record):
    """The video or picture.

    Args:
        name: path or label.
        container: FFmpeg's name of the container.
        stream: index of the video stream.
        frames: shown frames.
        seconds: length.
        start_seconds: when the first frame is shown, on the clock of the file.
        delay_seconds: how much later than the file the picture starts.
        fps: average frames per second.
        coded_size: (height, width) as coded, in pixels.
        display_size: (height, width) as shown, in pixels.
        pix_fmt: FFmpeg's name of the pixel format.
        interlaced: coded as fields.
        times_from: where the times of frames are from: "pts", ...
    """

    name: str | None = entry(text)
    container: str | None = entry(text)
    stream: int | None = entry(whole_number)
    frames: int | None = entry(whole_number)
    seconds: float | None = entry(number)
    start_seconds: float | None = entry(number)
    delay_seconds: float | None = entry(number)
    fps: float | None = entry(number)
    coded_size: tuple[int, int] | None = entry(pair(whole_number))
    display_size: tuple[int, int] | None = entry(pair(whole_number))
    pix_fmt: str | None = entry(text)
    interlaced: bool | None = entry(flag)
    times_from: str | None = entry(text)


@dataclass(frozen=True)
class GroupRecord(Record):
    """One group.

    Args:
        frames: first frame, and the one after the last.
        seconds: times of its first and last frame.
        canvases: how many.
        anchor: frame shown whole.
        whole: frames shown whole, where there are others than the anchor.
        candidates: frames looked at.
    """

    frames: tuple[int, int] | None = entry(pair(whole_number))
    seconds: tuple[float, float] | None = entry(pair(number))
    canvases: int | None = entry(whole_number)
    anchor: int | None = entry(whole_number)
    whole: tuple[int, ...] | None = entry(tuple_of(whole_number))
    candidates: int | None = entry(whole_number)


@dataclass(frozen=True)
class BitCostRecord(Record):
    """What bit-cost grouping saw and did.

    Args:
        bin_seconds: width of a bin.
        start_seconds: where bin 0 begins.
        stretch: factor of the span limits.
        threshold: quota of a group, in the unit of `energy`.
        energy: cost of each bin.
        triggers: bins after which a cut was asked for.
        cuts: bins after which it was made.
    """

    bin_seconds: float | None = entry(number)
    start_seconds: float | None = entry(number)
    stretch: float | None = entry(number)
    threshold: float | None = entry(number)
    energy: tuple[float, ...] | None = entry(tuple_of(number))
    triggers: tuple[int, ...] | None = entry(tuple_of(whole_number))
    cuts: tuple[int, ...] | None = entry(tuple_of(whole_number))


@dataclass(frozen=True)
class AssetsRecord(Record):
    """What `load_assets` inferred or changed.

    Args:
        directory: its name.
        order: of the position rows, as found or as asked.
        groups: where groups are from.
        times: where times are from.
        dropped_canvases: how many were all padding.
        lossy: pixels are not as they were written.
    """

    directory: str | None = entry(text)
    order: str | None = entry(text)
    groups: str | None = entry(text)
    times: str | None = entry(text)
    dropped_canvases: int | None = entry(whole_number)
    lossy: bool | None = entry(flag)


def _losses(value: Any) -> StreamLosses:
    found: dict[str, Any] = mapping()(value)
    for name, each in found.items():
        (flag if name == "cut" else whole_number)(each)
    return StreamLosses(**found)


@dataclass(frozen=True)
class Provenance(Record):
    """How canvases of one clip were made.

    Args:
        preset: "paper", "release" or "event"; "frames", "image" or "external" without one.
        signal: what blocks were scored by.
        codec: FFmpeg's name of the codec.
        source: the video or picture.
        options: constructor arguments as they took effect.
        groups: one record per group.
        bit_cost: None without bit-cost grouping.
        frames: what was sampled, of whole frames.
        lost: what a damaged file did not give.
        seconds: wall time per stage.
        versions: of what decides the result.
        assets: how they were read, where something had to be inferred.
        plan: why this source was taken, where a router chose it.
    """

    preset: str | None = entry(text)
    signal: SignalRecord | None = entry(SignalRecord.from_dict)
    codec: str | None = entry(text)
    source: SourceRecord | None = entry(SourceRecord.from_dict)
    options: Mapping[str, Any] | None = entry(mapping())
    groups: tuple[GroupRecord, ...] | None = entry(tuple_of(GroupRecord.from_dict))
    bit_cost: BitCostRecord | None = entry(BitCostRecord.from_dict)
    frames: Mapping[str, Any] | None = entry(mapping())
    lost: StreamLosses | None = entry(_losses)
    seconds: Mapping[str, float] | None = entry(mapping(number))
    versions: Mapping[str, str] | None = entry(mapping(text))
    assets: AssetsRecord | None = entry(AssetsRecord.from_dict)
    plan: Mapping[str, Any] | None = entry(mapping())

    @property
    def cost(self) -> str:
        """What bit-cost grouping counted: "bytes" or "log1p"."""
        return str((self.options or {}).get("cost", "bytes"))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_dict` gave, or another tool.

        Raises:
            TypeError: not a mapping.
            CanvasError: of a newer version.
        """
        entries = mapping()(plain)
        if str(entries.get("format", "")).startswith(f"ov2kit.{_KIND}."):
            check_format(entries.pop("format"), _KIND, _VERSION, "provenance", CanvasError)
        return super().from_dict(entries)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `Canvases.provenance`, with the version of its format."""
        plain = {"format": format_name(_KIND, _VERSION)} | super().to_dict()
        if self.groups is not None:
            plain.setdefault("bit_cost", None)  # says that they were cut by something else
        return plain

    @classmethod
    def of(cls, canvases: Canvases) -> Self:
        """How canvases were made; `Canvases.split` separates those of several clips.

        Raises:
            CanvasError: it is of a newer version.
        """
        return cls.from_dict(canvases.provenance)
