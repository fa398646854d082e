"""A small RTSP server on the loopback device: RFC 2326, one H.264 track, RTP packets between the messages.

FFmpeg's own muxer makes the RTP packets, so what its client is sent is what a camera sends.
"""

import contextlib
import io
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import av

from tests.codec.live.senders import free_port, running
from tests.patience import PATIENCE


def rtp_of(data: bytes) -> tuple[str, list[tuple[float, bytes]]]:
    """The SDP of a clip, and its RTP packets with the time at which each is due, in seconds."""
    found: list[tuple[float, bytes]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind(("127.0.0.1", 0))
        inbox.settimeout(PATIENCE)
        port = inbox.getsockname()[1]
        with av.open(io.BytesIO(data)) as clip:
            video = clip.streams.video[0]
            target = f"rtp://127.0.0.1:{port}?pkt_size=1200&rtcpport={free_port(socket.SOCK_DGRAM)}"
            with av.open(target, "w", format="rtp") as out:
                stream = out.add_stream_from_template(video)
                out.start_encoding()
                begin = None
                for packet in clip.demux(video):
                    if packet.dts is None:
                        continue
                    begin = packet.dts if begin is None else begin
                    due = float((packet.dts - begin) * packet.time_base)
                    packet.stream = stream
                    out.mux(packet)
                    inbox.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            found.append((due, inbox.recv(2048)))
        return _sdp(video.codec_context.extradata), found


def _sdp(extradata: bytes | None) -> str:
    import base64

    units = [unit for unit in re.split(b"\x00\x00\x00?\x01", extradata or b"") if unit]
    sets = ",".join(base64.b64encode(unit).decode() for unit in units if unit[0] & 31 in (7, 8))
    lines = [
        "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=test", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000", f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={sets}", "a=control:track1",
    ]  # fmt: skip
    return "".join(f"{line}\r\n" for line in lines)


class _Session:
    """One connection: answers requests, and sends once it is asked to play."""

    def __init__(self, peer: socket.socket, sdp: str, packets: list[tuple[float, bytes]], speed: float) -> None:
        self.peer, self.sdp, self.packets, self.speed = peer, sdp, packets, speed
        self.sending, self.left = threading.Lock(), threading.Event()
        self.sender: threading.Thread | None = None

    def serve(self) -> list[str]:
        """The methods that were asked for, in order; ends with the connection or with TEARDOWN."""
        asked, buffer = [], b""
        while "TEARDOWN" not in asked:
            while b"\r\n\r\n" not in buffer:
                data = self.peer.recv(4096)
                if not data:
                    return self._end(asked)
                buffer += data
                while buffer[:1] == b"$":  # reports of the receiver
                    size = 4 + int.from_bytes(buffer[2:4].ljust(2, b"\0"))
                    if len(buffer) < max(4, size):
                        break
                    buffer = buffer[size:]
            head, buffer = buffer.split(b"\r\n\r\n", 1)
            text = head.decode()
            asked.append(text.split(" ", 1)[0])
            sequence = re.search(r"(?i)CSeq: *(\d+)", text)
            assert sequence is not None
            with self.sending:
                self.peer.sendall(self._answer(asked[-1], text, sequence[1]).encode())
            if asked[-1] == "PLAY":
                self.sender = threading.Thread(target=self._play, daemon=True)
                self.sender.start()
        return self._end(asked)

    def _answer(self, method: str, text: str, sequence: str) -> str:
        head = [f"RTSP/1.0 200 OK\r\nCSeq: {sequence}"]
        if method == "OPTIONS":
            head.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        if method == "DESCRIBE":
            url = text.split(" ", 2)[1]
            head += [f"Content-Base: {url}/", "Content-Type: application/sdp", f"Content-Length: {len(self.sdp)}"]
        if method == "SETUP":
            if "RTP/AVP/TCP" not in text:
                return f"RTSP/1.0 461 Unsupported Transport\r\nCSeq: {sequence}\r\n\r\n"
            head += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 7"]
        if method == "PLAY":
            head += ["Session: 7", "Range: npt=0.000-"]
        return "\r\n".join(head) + "\r\n\r\n" + (self.sdp if method == "DESCRIBE" else "")

    def _play(self) -> None:
        begin = time.monotonic()
        with contextlib.suppress(OSError):
            for due, packet in self.packets:
                if self.left.wait(max(0.0, begin + due / self.speed - time.monotonic())):
                    return
                with self.sending:
                    self.peer.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
            self.peer.shutdown(socket.SHUT_RDWR)

    def _end(self, asked: list[str]) -> list[str]:
        self.left.set()
        if self.sender is not None:
            self.sender.join(PATIENCE)
        return asked


@contextlib.contextmanager
def rtsp_server(
    data: bytes,
    speed: float,
    asked: list[list[str]],
    turns: int = 1,
    called: Callable[[int], None] = lambda turn: None,
) -> Iterator[str]:
    """An address that plays a clip, so many times as fast, for so many connections; what each asked for is noted.

    `called` is called with the number of each connection before anything is sent.
    """
    sdp, packets = rtp_of(data)
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(PATIENCE)

    def work() -> None:
        with server:
            for turn in range(turns):
                peer, _ = server.accept()
                called(turn)
                with peer:
                    peer.settimeout(PATIENCE)
                    asked.append(_Session(peer, sdp, packets, speed).serve())

    with running(work):
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
