"""FrameRequest: what the frames of a decoding loop are to carry."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameRequest:
    """What to make of each decoded picture.

    Args:
        size: (height, width) of `Frame.rgb` in pixels; the display size when None.
        rgb: whether to make RGB at all.
        picture: also keep the picture as decoded, to be scaled to `size` if it is asked.
        luma_size: (height, width) of `Frame.luma`; no luma when None.
        reference: also make the luma of the frame it is compared with; needs `luma_size`.
        motion: also give motion vectors, where the codec exports them.
        quantizer: also give the quantizer of each macroblock, where the codec reports it.
        as_coded: luma and reference are neither turned nor mirrored, and `luma_size` is of the
            picture as coded. RGB is always as shown.
    """

    size: tuple[int, int] | None = None
    rgb: bool = True
    luma_size: tuple[int, int] | None = None
    reference: bool = False
    motion: bool = False
    quantizer: bool = False
    as_coded: bool = False
    picture: bool = False
