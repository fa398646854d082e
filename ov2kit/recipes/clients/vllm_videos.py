"""Videos on their way into vLLM: the bytes as they came, because the codec stream is what is read."""

import hashlib
from typing import Any, ClassVar

import numpy as np

#: where the metadata of a video holds its bytes, and the options of its request
BYTES, OPTIONS = "ov2kit_bytes", "ov2kit_options"
#: what vLLM itself puts beside the options of a request
_OF_VLLM = {"frame_recovery", "backend"}
#: `num_frames` where nobody asked: vLLM's default, and its word for all frames
_NOT_ASKED = (32, -1)


class VideoBytes:
    """vLLM's video loader: decodes nothing, the processor does."""

    #: what every request gets that chose this loader by name
    chosen: ClassVar[dict[str, str]] = {}

    @classmethod
    def load_bytes(cls, data: bytes, num_frames: int = -1, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """A digest in the place of frames, so that equal names with other contents differ.

        Args:
            data: of the file.
            num_frames: of vLLM, which puts its default where nobody asked; handed on where it differs.
            options: `media_io_kwargs` of server and request under "video"; see `vllm_processing.REQUEST_OPTIONS`.

        Returns:
            (32,) uint8, and metadata with the bytes and the options.
        """
        digest = np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
        asked = {name: value for name, value in options.items() if name not in _OF_VLLM and value is not None}
        if num_frames not in _NOT_ASKED:
            asked["num_frames"] = num_frames
        return digest, {BYTES: data, OPTIONS: asked | cls.chosen}


class CodecBytes(VideoBytes):
    """The loader that `"video_backend": "codec"` names; vLLM takes that option for a loader's name."""

    chosen: ClassVar[dict[str, str]] = {"video_backend": "codec"}


class HybridBytes(VideoBytes):
    """The loader that `"video_backend": "hybrid"` names."""

    chosen: ClassVar[dict[str, str]] = {"video_backend": "hybrid"}


class RouteBytes(VideoBytes):
    """The loader that `"video_backend": "route"` names."""

    chosen: ClassVar[dict[str, str]] = {"video_backend": "route"}


class FrameBytes(VideoBytes):
    """The loader that `"video_backend": "frame"` names."""

    chosen: ClassVar[dict[str, str]] = {"video_backend": "frame"}
