"""What is read beside a picture must neither keep it nor stop at kinds that PyAV does not know."""

import gc
import io

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from ov2kit.codec import VideoStream
from tests.paths import SAMPLE


def test_pictures_go_with_the_last_reference_to_them():
    """Without a search for cycles: pictures of 1080p, 3 MB each, would pile up until there is one."""
    stream = VideoStream(SAMPLE)
    gc.collect()
    before = pictures_alive()
    gc.disable()
    try:
        frames = list(stream.frames(range(40), rgb=False, motion=True, quantizer=True))
        left = pictures_alive() - before
    finally:
        gc.enable()
    assert sum(frame.motion is not None for frame in frames) >= 30
    assert frames[3].quantizer is not None
    assert left == 0


def pictures_alive():
    return sum(type(each) is av.VideoFrame for each in gc.get_objects())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_jpeg_with_exif_data_is_turned_as_it_says(orientation):
    """PyAV 18 raises ValueError for side data of this kind."""
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:24, :32], pixels[24:, 32:] = (255, 0, 0), (0, 0, 255)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "JPEG", exif=exif.tobytes(), quality=95, subsampling=0)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    rgb = next(VideoStream(file.getvalue()).frames()).rgb.permute(1, 2, 0).numpy()
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).max() <= 2
