"""PushedBytes: encoded bytes as they come -> packets, as soon as FFmpeg can tell them apart."""

import threading
from collections import deque

import av
from av.container import InputContainer
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.mp4_index import INDEX_LAST, BoxWalk
from ov2kit.codec.video.source import OPEN_ERRORS, AnyPacket, choose_stream, demux_packets, reason
from ov2kit.errors import VideoError


class _Pipe:
    """A file whose reader waits for what is written, and whose writer can wait for the reader to run dry."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._chunks: deque[memoryview] = deque()
        self._is_closed = self._is_dry = self._is_left = False

    def read(self, size: int) -> bytes:
        with self._ready:
            while not self._chunks and not self._is_closed:
                self._is_dry = True
                self._ready.notify_all()
                self._ready.wait()
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
            return bytes(chunk[:size])

    def write(self, data: bytes) -> None:
        """Returns once all of it has been read, or nobody reads any longer."""
        with self._ready:
            self._chunks.append(memoryview(bytes(data)))
            self._is_dry = False
            self._ready.notify_all()
            self._ready.wait_for(lambda: self._is_dry or self._is_left)

    def close(self) -> None:
        with self._ready:
            self._is_closed = True
            self._ready.notify_all()

    def leave(self) -> None:
        """The reader has gone."""
        with self._ready:
            self._is_left = True
            self._ready.notify_all()


class PushedBytes:
    """Demux bytes that are pushed. What comes out depends on the bytes alone, not on how they are cut.

    Args:
        max_source_pixels: most pixels of a picture.

    Attributes:
        container: once FFmpeg knows what it is.
        stream: the video stream in it.
    """

    label = "<pushed bytes>"

    def __init__(self, max_source_pixels: int) -> None:
        self._pipe, self._most = _Pipe(), max_source_pixels
        self._packets: deque[AnyPacket] = deque()
        self._failure: BaseException | None = None
        self._pushed, self._walk = 0, BoxWalk()
        self.container: InputContainer | None = None
        self.stream: AVStream | None = None
        self._thread = threading.Thread(target=self._demux, name="ov2kit-demux", daemon=True)
        self._thread.start()

    def push(self, data: bytes) -> list[AnyPacket]:
        """The next bytes; packets that are complete with them.

        Raises:
            VideoError: they are no video.
        """
        if data:
            self._pushed += len(data)
            self._walk.feed(data)
            self._pipe.write(data)
        return self._taken()

    def finish(self) -> list[AnyPacket]:
        """There are no more bytes; the last packets.

        Raises:
            VideoError: they were no video.
        """
        self._pipe.close()
        self._thread.join()
        return self._taken()

    def close(self) -> None:
        """Release everything; packets that were given stay."""
        self._pipe.close()
        self._thread.join()
        if self.container is not None:
            self.container.close()

    def _taken(self) -> list[AnyPacket]:
        found = []
        while self._packets:
            found.append(self._packets.popleft())
        if self._failure is not None and not found:
            raise self._failure
        return found

    def _demux(self) -> None:
        try:
            bound = {"max_pixels": str(self._most)}
            self.container = av.open(self._pipe, mode="r", metadata_errors="replace", options=bound)
            self.stream = choose_stream(self.container, self.label, None, self._most)
            for packet in demux_packets(self.container, self.stream):
                self._packets.append(packet)
        except VideoError as error:
            self._failure = error
        except OPEN_ERRORS as error:
            what = "reading stopped" if self.stream is not None else "not a video that can be opened as it comes"
            why = f"{what} ({reason(error)}) after {self._pushed} bytes"
            self._failure = VideoError(f"{self.label}: {INDEX_LAST if self._walk.index_is_last else why}")
        finally:
            self._pipe.leave()
