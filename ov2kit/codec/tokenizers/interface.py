"""What every visual tokenizer offers: a video or a picture in, canvases within a budget out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from ov2kit.canvases import Canvases
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.packets import PacketTable

#: called with the number of frames decoded so far and the number to decode
Progress = Callable[[int, int], None]
_Source_contra = TypeVar("_Source_contra", contravariant=True)


class FrameIterator(Protocol):
    """Frames in display order, and what was lost, known once all of them have been given."""

    @property
    def losses(self) -> StreamLosses | None: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __next__(self) -> Frame: ...


class Video(Protocol):
    """A video as the stages take it: packets, and frames by display index. See `VideoStream`."""

    @property
    def label(self) -> str: ...

    @property
    def info(self) -> StreamInfo: ...

    @property
    def packets(self) -> PacketTable: ...

    @property
    def threads(self) -> int: ...

    def requested(self, indices: Iterable[int] | None, request: FrameRequest) -> FrameIterator: ...


class Tokenizer(Protocol[_Source_contra]):
    """A callable that turns one source into canvases.

    Options are checked when it is built, a budget that no canvas can meet included; in the call only
    the source can fail.
    """

    @property
    def budget_tokens(self) -> int | None:
        """Most merged tokens of a result; never exceeded, canvases shrink where they must."""

    @property
    def patch(self) -> int:
        """Patch edge in pixels."""

    @property
    def merge(self) -> int:
        """Patches per block edge."""

    @property
    def min_pixels(self) -> int:
        """Smallest canvas area in pixels, where the budget leaves room for it."""

    @property
    def max_pixels(self) -> int:
        """Largest canvas area in pixels."""

    @property
    def canvas_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that every canvas has; by the areas above where None."""

    def __call__(self, source: _Source_contra, /, *, progress: Progress | None = None) -> Canvases:
        """Tokenize one source.

        Args:
            source: see the tokenizer.
            progress: called with the number of frames decoded so far and the number to decode.

        Raises:
            VideoError: the source cannot be opened or decoded.
        """

    def options(self) -> dict[str, Any]:
        """Arguments as they took effect, for provenance."""
