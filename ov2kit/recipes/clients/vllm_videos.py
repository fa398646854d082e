"""Videos on their way into vLLM: the bytes as they came, because the codec stream is what is read."""

import hashlib
from typing import Any

import numpy as np

#: where the metadata of a video holds its bytes, and the options of its request
BYTES, OPTIONS = "ov2kit_bytes", "ov2kit_options"
#: what vLLM itself puts beside the options of a request
_OF_VLLM = {"num_frames", "fps", "frame_recovery", "backend"}


class VideoBytes:
    """vLLM's video loader: decodes nothing, the processor does."""

    @classmethod
    def load_bytes(cls, data: bytes, num_frames: int = -1, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """A digest in the place of frames, so that equal names with other contents differ.

        Args:
            data: of the file.
            num_frames: the default of vLLM; not used.
            options: `media_io_kwargs` of server and request under "video"; see `vllm_processing.REQUEST_OPTIONS`.

        Returns:
            (32,) uint8, and metadata with the bytes and the options.
        """
        digest = np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
        asked = {name: value for name, value in options.items() if name not in _OF_VLLM and value is not None}
        return digest, {BYTES: data, OPTIONS: asked}
