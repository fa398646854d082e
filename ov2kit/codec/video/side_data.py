"""What a decoder puts beside a picture: vectors, quantizers, the matrix by which it is turned."""

from typing import Any

from av.sidedata.sidedata import SideDataContainer


def side_data(frame: Any, name: str) -> Any:
    """A buffer of one kind of side data of a PyAV frame, None where it has none; it keeps the picture.

    `frame.side_data` would do the same, but refers to its frame, and the frame to it: pictures would stay in memory,
    and out of the decoder's reach, until Python looks for cycles. Both raise where one of the kinds is newer than PyAV
    (EXIF data, views of a stereo video): then None as well, since none of them can be read.
    """
    try:
        return SideDataContainer(frame).get(name)  # type: ignore[call-arg] # the stub lacks its constructor
    except ValueError:
        return None
