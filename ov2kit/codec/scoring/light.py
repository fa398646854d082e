"""The difference of two pictures, less what the light does: fades, exposure, the hum of lamps in bands of rows.

Letters: N pairs of pictures, h x w pixels, b bands.
"""

from torch import Tensor

from ov2kit.codec.scoring.maps import lower_median

_STIFF = 20.0  # variance of gray levels below which a band says little about the gain
_GAIN = (0.5, 2.0)
_SAMPLED = 5  # every n-th pixel decides a median


def difference_but_light(luma: Tensor, reference: Tensor, bands: int = 1) -> Tensor:
    """luma - (gain * reference + offset), gain and offset fitted per band of rows.

    The fit is least squares, once more with pixels of large errors counting little: what changes in a small part of a
    band does not pull it.

    Args:
        luma: (N, h, w) float32 gray levels.
        reference: (N, h, w).
        bands: b, a divisor of h.

    Returns:
        (N, h, w) float32 gray levels with sign.
    """
    mine, other = (x.reshape(len(luma), bands, -1) for x in (luma, reference))
    error = _left(mine, other, None)
    typical = lower_median(error[:, :, ::_SAMPLED].abs(), 2, keepdim=True)
    weight = error.div_(2 * typical + 1).square_().add_(1).square_().reciprocal_()
    return _left(mine, other, weight).view_as(luma)


def _left(mine: Tensor, other: Tensor, weight: Tensor | None) -> Tensor:
    """(N, b, n) of a weighted fit, all weights 1 where there are none."""
    count = mine.shape[2]
    total = count if weight is None else weight.sum(2, keepdim=True)
    x, y = (each - (each if weight is None else weight * each).sum(2, keepdim=True) / total for each in (other, mine))
    weighed, stiff = x if weight is None else weight * x, _STIFF * total
    gain = ((weighed * y).sum(2, keepdim=True) + stiff) / ((weighed * x).sum(2, keepdim=True) + stiff)
    return y.sub_(x.mul_(gain.clamp_(*_GAIN)))
