"""An MP4 whose index comes after its pictures cannot be read as it comes: found by its boxes.

Source: ISO/IEC 14496-12, section 4.2: a box begins with its size, 4 bytes or 8 more, and 4 letters of a type.
"""

_WHAT = "an MP4 with its index (moov) after its pictures cannot be read as it comes"
_HOW = "have it written with the index in front (ffmpeg -movflags faststart) or in fragments (frag_keyframe+empty_moov)"
#: what is wrong with such a stream, and what to do
INDEX_LAST = f"{_WHAT}: give the path of the finished file, or {_HOW}"
#: the same of one at an address whose server gives no parts of it
INDEX_LAST_AT_ADDRESS = f"{_WHAT}: download it and give its path, or {_HOW}"
_BEFORE = (b"ftyp", b"free", b"skip", b"wide", b"uuid", b"pnot", b"pdin", b"styp")  # boxes that may stand in front
_HEAD = 16  # bytes of the longest header of a box


class BoxWalk:
    """Looks at the headers of the boxes of a stream, up to the first that holds pictures or an index.

    Attributes:
        index_is_last: pictures came before an index. Never true of what is no MP4.
        is_done: that is settled.
    """

    def __init__(self) -> None:
        self.index_is_last = self.is_done = False
        self._head = b""
        self._skip = 0  # bytes to the next box

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream, cut anywhere."""
        at = 0
        while not self.is_done and at < len(data):
            passed = min(self._skip, len(data) - at)
            self._skip, at = self._skip - passed, at + passed
            taken = data[at : at + _HEAD - len(self._head)]
            self._head, at = self._head + taken, at + len(taken)
            if len(self._head) == _HEAD:
                self._box()

    def _box(self) -> None:
        size, kind = int.from_bytes(self._head[:4], "big"), self._head[4:8]
        if size == 1:
            size = int.from_bytes(self._head[8:], "big")
        self.index_is_last = kind == b"mdat"
        self.is_done = kind not in _BEFORE or size < 8
        # What was read of the box counts too; a box shorter than a header leaves the start of the next one.
        self._head, self._skip = self._head[size:], max(0, size - _HEAD)
