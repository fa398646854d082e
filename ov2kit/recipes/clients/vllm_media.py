"""Requests that name a file or a loader that is not there, or bytes in no form known: answered with status 400.

They are the client's fault, but vLLM's own connector lets the errors of the file system, a failed assertion and what
it does not implement through, which are status 500 and 501. Written for vLLM 0.32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.multimodal.media import MediaConnector
from vllm.multimodal.video import VIDEO_LOADER_REGISTRY

from ov2kit.errors import DataError, check_choice, shorten


class FileConnector(MediaConnector):  # type: ignore[misc]
    """vLLM's connector with other errors; what may be read, and how, stays its own."""

    def load_from_url(self, url: str, *given: Any, **options: Any) -> Any:
        with _clients_fault(url):
            return super().load_from_url(url, *given, **options)

    async def load_from_url_async(self, url: str, *given: Any, **options: Any) -> Any:
        with _clients_fault(url):
            return await super().load_from_url_async(url, *given, **options)

    def fetch_video(self, video_url: str, **options: Any) -> Any:
        self._check_loader()
        return super().fetch_video(video_url, **options)

    async def fetch_video_async(self, video_url: str, **options: Any) -> Any:
        self._check_loader()
        return await super().fetch_video_async(video_url, **options)

    def _check_loader(self) -> None:
        asked = self.media_io_kwargs.get("video", {}).get("video_backend")
        if asked is not None:
            check_choice("video_backend", asked, sorted(VIDEO_LOADER_REGISTRY.name2class), DataError)


@contextmanager
def _clients_fault(url: str) -> Iterator[None]:
    """Errors of a file, or of bytes in the request, become one line with status 400; those of a network do not."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        scheme, _, rest = url.partition(":")
        if scheme.lower() not in ("file", "data"):
            raise
        if isinstance(error, NotImplementedError):
            said = f"{scheme}:{rest.partition(',')[0]},..."
            raise DataError(f"expected data:TYPE;base64,BYTES, got {shorten(said)}") from error
        reason = getattr(error, "strerror", None) or error
        # vLLM takes paths out of what it answers
        name = "a data URL" if scheme.lower() == "data" else rest.rstrip("/").rpartition("/")[2]
        raise DataError(f"{name}: cannot be read ({' '.join(str(reason).split())})") from error
