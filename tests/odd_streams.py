"""Streams in which a packet is not a shown picture, written by hand or with FFmpeg's encoders and filters."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.clips import TIME_BASE, encode, picture


class _Bits:
    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> "_Bits":
        self.bits += format(value, f"0{count}b")
        return self

    def ue(self, *values: int) -> "_Bits":
        for value in values:
            code = format(value + 1, "b")
            self.bits += "0" * (len(code) - 1) + code
        return self

    def align(self, bit: str = "0") -> "_Bits":
        self.bits += bit * (-len(self.bits) % 8)
        return self

    def end(self) -> bytes:
        self.bits += "1"
        self.align()
        return int(self.bits, 2).to_bytes(len(self.bits) // 8, "big")


def _nal(head: int, body: bytes) -> bytes:
    return b"\x00\x00\x00\x01" + bytes([head]) + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", body)


def field_pictures(path: Path, frames: int = 20, *, mixed: bool = False) -> list[int]:
    """H.264 of 32 x 32 PCM fields, a packet each; with `mixed` every third picture is a frame in one packet.

    Returns:
        Gray of each frame.
    """
    sps = _Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 2, 1).u(1, 0).ue(1, 0).u(1, 0).u(1, 0).u(1, 1).u(1, 0).u(1, 0)
    pps = _Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(1, 0).u(2, 0).ue(0, 0, 0).u(1, 1).u(2, 0)
    headers = _nal(0x67, sps.end()) + _nal(0x68, pps.end())
    grays = [40 + 5 * i for i in range(frames)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.max_b_frames = 0
        for number, gray in enumerate(grays):
            whole = mixed and number % 3 == 2
            for bottom in range(1 if whole else 2):
                idr = number == 0 and not bottom
                slice_ = _Bits().ue(0, 7, 0).u(4, number % 16)
                slice_.u(1, 0) if whole else slice_.u(1, 1).u(1, bottom)
                if idr:
                    slice_.ue(0).u(2, 0)
                else:
                    slice_.u(1, 0)
                slice_.ue(0).ue(1)  # quantizer offset 0, no deblocking
                for _ in range(4 if whole else 2):
                    slice_.ue(25).align()
                    slice_.bits += format(gray, "08b") * 256 + format(128, "08b") * 128
                body = _nal(0x65 if idr else 0x61, slice_.end())
                packet = av.Packet(b"\x00\x00\x00\x01\x09\xf0" + (headers if idr else b"") + body)
                packet.pts = packet.dts = 2 * number + bottom
                packet.time_base, packet.stream = Fraction(1, 50), stream
                packet.is_keyframe = idr
                out.mux(packet)
    return grays


def hidden(path: Path) -> list[int]:
    """VP8 in which every fifth packet but the first is made a hidden one.

    Returns:
        Times of the packets that are shown, in milliseconds.
    """
    whole = encode(path.with_suffix(".whole.webm"), codec="libvpx", frames=40, gop=20)
    times = []
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for place, packet in enumerate(p for p in source.demux(stream) if p.size):
            data = bytearray(bytes(packet))
            if place % 5 == 4:
                data[0] &= 0xEF  # show_frame
            else:
                times.append(packet.pts)
            _copy(packet, bytes(data), packet.pts, copy, out)
    return times


def shown_again(path: Path) -> int:
    """VP9 with a packet after every fourth that only shows an earlier picture again; returns all packets."""
    whole = encode(path.with_suffix(".whole.webm"), codec="libvpx-vp9", frames=24, gop=12)
    count = 0
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for place, packet in enumerate(p for p in source.demux(stream) if p.size):
            _copy(packet, bytes(packet), 40 * count, copy, out)
            count += 1
            if place % 4 == 3:
                _copy(packet, bytes([0x88 | place % 3]), 40 * count, copy, out, key=False)
                count += 1
    return count


def _copy(packet, data, pts, stream, out, key=None) -> None:
    made = av.Packet(data)
    made.pts = made.dts = pts
    made.time_base, made.stream = Fraction(1, 1000), stream
    made.is_keyframe = packet.is_keyframe if key is None else key
    out.mux(made)


def headers_change(path: Path, *, parts: int, frames: int, gop: int) -> Path:
    """H.264 whose parameter sets change from part to part and come with the first picture of a part alone."""
    quantizers = (20, 32)  # with the wrong parameter set a decoder gives wrong pictures and reports nothing
    with av.open(str(path), "w") as out:
        copy = None
        for part in range(parts):
            whole = encode(
                path.with_suffix(f".{part}.ts"), frames=frames, gop=gop, bframes=0,
                options={"x264-params": f"cabac=0:qp={quantizers[part % 2]}:scenecut=0"},
            )  # fmt: skip
            with av.open(str(whole)) as source:
                stream = source.streams.video[0]
                copy = copy or out.add_stream_from_template(stream)
                for place, packet in enumerate(p for p in source.demux(stream) if p.size):
                    units = [unit.rstrip(b"\0") for unit in bytes(packet).split(b"\0\0\1")[1:]]
                    kept = [unit for unit in units if place == 0 or unit[0] & 31 not in (7, 8)]
                    data = b"".join(b"\0\0\0\1" + unit for unit in kept)
                    _copy(packet, data, 40 * (part * frames + place), copy, out)
    return path


def packed(path: Path, frames: int = 31) -> Path:
    """MPEG-4 part 2 with packed B-frames, as DivX wrote them: I, P and B in one packet, an empty one."""
    whole = encode(path.with_suffix(".mp4"), codec="mpeg4", frames=frames, gop=12, bframes=1)
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        packets = [p for p in source.demux(stream) if p.size]
        copy = out.add_stream_from_template(stream)
        copy.codec_context.extradata = stream.codec_context.extradata + b"\x00\x00\x01\xb2DivX503b1393p"
        chunks: list[tuple[bytes, bool]] = []
        for packet in packets:
            data = bytes(packet)
            at = data.find(b"\x00\x00\x01\xb6") + 4
            if data[at] >> 6 == 2:  # B: joins the reference before it
                chunks[-1] = (chunks[-1][0] + data, chunks[-1][1])
                chunks.append((b"\x00\x00\x01\xb6\x50\x00\x4f", False))
            else:
                chunks.append((data, packet.is_keyframe))
        for place, (data, key) in enumerate(chunks):
            packet = av.Packet(data)
            packet.pts = packet.dts = place
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), copy, key
            out.mux(packet)
    return path


def with_sound(path: Path, *, frames: int, late_ms: int = 0, sound_seconds: float) -> Path:
    """Matroska or FLV with sound from 0 s on and pictures from `late_ms` on. FLV has no duration per stream."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        video.codec_context.time_base = TIME_BASE
        sound = out.add_stream("pcm_s16le", rate=11025, layout="mono")
        for start in range(0, int(11025 * sound_seconds), 1000):
            wave = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
            wave.pts, wave.sample_rate, wave.time_base = start, 11025, Fraction(1, 11025)
            out.mux(sound.encode(wave))
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, 64, 96), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = late_ms + 40 * index, TIME_BASE
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path
