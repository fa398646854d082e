"""FrameMaker: from a decoded picture to the frame that was asked for."""

import threading
from typing import Any

import torch
from torch import Tensor

from ov2kit.codec.video.frame import Frame, FrameKind, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.pictures import HeldPicture, PictureScaler
from ov2kit.codec.video.quantizer import quantizer_map
from ov2kit.codec.video.references import DecodedFrame
from ov2kit.codec.video.vectors import motion_vectors

_KINDS: dict[int, FrameKind] = {1: "I", 2: "P", 3: "B"}
_LUMAS_KEPT = 16


class FrameMaker:
    """Makes frames; may be called from several threads at a time.

    Args:
        request: what the frames carry.
        table: their times and bytes.
        info: their display size and orientation.
    """

    def __init__(self, request: FrameRequest, table: PacketTable, info: StreamInfo) -> None:
        self._request, self._table, self._info = request, table, info
        self._scaler = PictureScaler()
        self._turn_of_luma = Orientation() if request.as_coded else info.orientation
        # Of the last few pictures, by run and index: a candidate is often the next one's reference. The pictures
        # themselves are not kept: those of 1080p are 3 MB each.
        self._lumas: dict[tuple[int, int], Tensor] = {}
        self._keep = threading.Lock()

    def frame(self, decoded: DecodedFrame) -> Frame:
        """The frame of a decoded picture."""
        request, picture, index = self._request, decoded.picture, decoded.index
        return Frame(
            index=index,
            seconds=float(self._table.frame_seconds[index]),
            kind=_KINDS.get(picture.pict_type, "?"),
            is_key=bool(picture.key_frame),
            nbytes=int(self._table.frame_bytes[index]),
            rgb=self._rgb(picture) if request.rgb else None,
            luma=self._luma((decoded.run, index), picture),
            reference=(
                self._luma((decoded.run, decoded.reference_index), decoded.reference) if request.reference else None
            ),
            reference_index=decoded.reference_index,
            motion=motion_vectors(picture, keep=request.picture) if request.motion else None,
            coded_size=(picture.height, picture.width),
            corrupt=bool(picture.is_corrupt),
            quantizer=quantizer_map(picture) if request.quantizer else None,
            picture=self._held(picture) if request.picture else None,
        )

    def _rgb(self, picture: Any) -> Tensor:
        return self._held(picture).rgb()

    def _held(self, picture: Any) -> HeldPicture:
        return HeldPicture(picture, self._request.size or self._info.display_size, self._info.orientation, self._scaler)

    def _luma(self, key: tuple[int, int], picture: Any) -> Tensor | None:
        size = self._request.luma_size
        if size is None or picture is None:
            return None
        found = self._lumas.get(key)
        if found is None:
            found = torch.from_numpy(self._scaler.luma(picture, size, self._turn_of_luma))
            with self._keep:
                self._lumas[key] = found
                if len(self._lumas) > _LUMAS_KEPT:
                    del self._lumas[next(iter(self._lumas))]
        return found
