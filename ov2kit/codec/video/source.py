"""Where a video comes from: a path, bytes or a file object, opened robustly any number of times.

FFmpeg takes a relative name with a colon for a URL, sound phone clips carry metadata that is not
UTF-8, covers pass for videos: all of that is met here, once, and every failure becomes a VideoError
that names the file.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.video.playlists import ReferencesError, names_other_files, self_contained_formats
from ov2kit.codec.video.still import data_address
from ov2kit.errors import VideoError, check_number
from ov2kit.files import check_file

AnyPacket: TypeAlias = "Packet[Any]"  # generic to the type checker only
#: twice the pixels of 8K video
MAX_SOURCE_PIXELS = 2**26
VideoSource = str | os.PathLike[str] | bytes | BinaryIO

# What opening or reading can raise besides FFmpegError, each seen on a real file: metadata that is
# not UTF-8, an index out of a table of streams, a header FFmpeg answers with a plain EOFError.
OPEN_ERRORS = (av.error.FFmpegError, UnicodeDecodeError, IndexError, EOFError, OSError, ValueError)


class Source:
    """An input that can be opened again from its start.

    Args:
        source: path, encoded bytes, or a binary file object. A file object that cannot seek is
            copied to a temporary file first.
        max_source_pixels: most pixels of a picture as it is coded.

    Raises:
        VideoError: the path does not exist, is no file but a folder, a pipe or a device, or the input is empty.
    """

    def __init__(self, source: VideoSource, max_source_pixels: int = MAX_SOURCE_PIXELS) -> None:
        check_number("max_source_pixels", max_source_pixels, low=1, integer=True)
        self.max_source_pixels = max_source_pixels
        self._path: str | None = None
        self._bytes: bytes | None = None
        self._file: BinaryIO | None = None
        self._busy = False
        self._closed = False
        self._spool: BinaryIO | None = None
        if (held := data_address(source)) is not None:
            source = held
        if isinstance(source, str | os.PathLike):
            _check_no_address(os.fspath(source))
            path = check_file(source, "a video file", VideoError)
            self.label = str(path)
            if path.stat().st_size == 0:
                raise VideoError(f"{path}: the file is empty")
            self._path = os.path.abspath(path)
        elif isinstance(source, bytes | bytearray | memoryview):
            self.label = f"<{len(source)} bytes>"
            if len(source) == 0:
                raise VideoError(f"{self.label}: the video is empty")
            self._bytes = bytes(source)
        elif hasattr(source, "read"):
            self.label = f"<{getattr(source, 'name', type(source).__name__)}>"
            if not _can_seek(source):
                source = self._spool = _spooled(source)
            self._file = source
        else:
            raise VideoError(f"expected a path, bytes or a binary file object, got {type(source).__name__}")

    @property
    def can_share(self) -> bool:
        """Whether it can be open more than once at a time (paths and bytes can, file objects cannot)."""
        return self._file is None

    def close(self) -> None:
        """Release the input: nothing can be opened from it again."""
        self._closed = True
        if self._spool is not None:
            self._spool.close()

    @contextmanager
    def open(self) -> Iterator[InputContainer]:
        """The container, positioned at its start; closed on exit.

        Raises:
            VideoError: the input is not a video FFmpeg can open, a file object is already open, or `close` was called.
            ReferencesError: it names other files to open, none of which was.
        """
        if self._closed:
            raise VideoError(f"{self.label}: this video was closed; open it again")
        target: str | BinaryIO
        if self._path is not None:
            target = self._path
        elif self._bytes is not None:
            target = io.BytesIO(self._bytes)
        else:
            assert self._file is not None
            if self._busy:
                raise VideoError(f"{self.label}: a file object can be read by one loop at a time; pass a path or bytes")
            self._file.seek(0)
            target = self._file
        try:
            # Looking for the streams decodes pictures, so it needs the bound too.
            bounds = {"max_pixels": str(self.max_source_pixels), "format_whitelist": self_contained_formats()}
            container = av.open(target, mode="r", metadata_errors="replace", options=bounds)
        except OPEN_ERRORS as error:
            if names_other_files(target):
                raise ReferencesError(
                    f"{self.label}: names other files to open, as playlists do, which is not done; give those files"
                ) from error
            raise VideoError(f"{self.label}: not a video that can be opened ({reason(error)})") from error
        self._busy = True
        try:
            with container:
                yield container
        finally:
            self._busy = False


def choose_stream(
    container: InputContainer, label: str, index: int | None = None, max_source_pixels: int = MAX_SOURCE_PIXELS
) -> AVStream:
    """The video stream FFmpeg holds for the best one, never a cover picture.

    Args:
        container: where to choose from.
        label: name of the input for messages.
        index: stream index to take instead.
        max_source_pixels: most pixels of a picture; its decoder refuses larger ones that come later.

    Raises:
        VideoError: there is no video stream, only a cover, no decoder, no stream `index`, or the header
            declares larger pictures than that.
    """
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if index is not None:
        chosen = [s for s in videos if s.index == index]
        if not chosen:
            raise VideoError(f"{label}: no video stream {index}; there are {[s.index for s in videos]}")
        stream = chosen[0]
    else:
        if not videos:
            covers = len(container.streams.video)
            found = "only a cover picture" if covers else f"{len(container.streams)} stream(s), none of them video"
            raise VideoError(f"{label}: expected a video stream, got {found}")
        best = container.streams.best("video")
        stream = next((s for s in videos if best is not None and s.index == best.index), videos[0])
    if stream.codec_context is None:
        raise VideoError(f"{label}: FFmpeg knows no decoder for video stream {stream.index}")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_source_pixels:
        raise VideoError(
            f"{label}: pictures of {width} x {height} are {width * height} pixels, more than "
            f"max_source_pixels={max_source_pixels}; allow more if they are meant to be so large"
        )
    stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(max_source_pixels)}
    return stream


def demux_packets(container: InputContainer, stream: AVStream) -> Iterator[AnyPacket]:
    """Packets of one stream in decode order, one coded picture each, without the flush packet at the end.

    DivX and Xvid pack two pictures of MPEG-4 part 2 into one packet and leave the next one empty;
    FFmpeg's filter takes them apart.
    """
    if not _may_pack(stream):
        for packet in container.demux(stream):
            if packet.size or _is_not_flush(packet):  # nearly all have a size, and a call takes longer than to ask
                yield packet
        return
    split = packets_of_pictures(stream)
    for packet in container.demux(stream):
        yield from split(packet if _is_not_flush(packet) else None)


def packets_of_pictures(stream: AVStream) -> "Callable[[AnyPacket | None], Iterable[AnyPacket]]":
    """What makes packets of one coded picture of the next packet; None, after the last, gives what is held back."""
    if not _may_pack(stream):
        return lambda packet: () if packet is None else (packet,)
    return BitStreamFilterContext("mpeg4_unpack_bframes", stream).filter


def _may_pack(stream: AVStream) -> bool:
    """Whether a packet may hold several pictures."""
    return stream.codec_context is not None and stream.codec_context.name == "mpeg4"


def _is_not_flush(packet: AnyPacket) -> bool:
    return packet.size > 0 or packet.pts is not None or packet.dts is not None


def reason(error: BaseException) -> str:
    """What FFmpeg said, without its error number and path."""
    text = getattr(error, "strerror", None) or str(error)
    return text.strip() or type(error).__name__


def _check_no_address(text: str) -> None:
    """Raises VideoError for what stands for something on a network: nothing is fetched."""
    scheme, found, rest = text.partition("://")
    if found and scheme.isalnum() and not os.path.exists(text):
        shown = f"{scheme}://{rest.rsplit('@', 1)[-1]}"  # without a password
        raise VideoError(
            f"{shown}: expected the path of a video file, got an address; download it first, or follow it with "
            "LiveTokenizer.watch ('ov2kit watch')"
        )


def _can_seek(file: BinaryIO) -> bool:
    try:
        return bool(file.seekable())
    except AttributeError:
        return False


def _spooled(file: BinaryIO) -> BinaryIO:
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the Source
    shutil.copyfileobj(file, spool)
    if spool.tell() == 0:
        raise VideoError("the file object is empty")
    return spool
