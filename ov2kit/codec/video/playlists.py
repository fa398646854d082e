"""Files that name other files or addresses to open: playlists, concat scripts, session descriptions.

A video comes from anywhere, and what is opened with it must be that video alone.
"""

import functools
from typing import BinaryIO

import av

from ov2kit.errors import VideoError

#: demuxers that open what a file names
_OPENS_OTHERS = {
    "applehttp", "avisynth", "concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vapoursynth",
    "vobsub",
}  # fmt: skip
_SCRIPTS = (b"#extm3u", b"ffconcat", b"[playlist]", b"v=0", b"<?xml", b"<mpd", b"# vobsub")
_HEAD = 512


class ReferencesError(VideoError):
    """A file is no video, but names others to open."""


@functools.cache
def self_contained_formats() -> str:
    """Demuxers that open nothing but their file, in the form of FFmpeg's option `format_whitelist`."""
    names = {name for each in av.formats_available for name in each.split(",")}
    return ",".join(sorted(names - _OPENS_OTHERS))


def names_other_files(target: str | BinaryIO) -> bool:
    """Whether a file begins like one that names others.

    Args:
        target: a path, or a binary file that is read from its start.
    """
    try:
        if isinstance(target, str):
            with open(target, "rb") as file:
                head = file.read(_HEAD)
        else:
            target.seek(0)
            head = target.read(_HEAD)
    except (OSError, ValueError):
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_SCRIPTS)
