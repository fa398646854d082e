"""Blocks of a picture that are scaled alone are pixel for pixel those of the picture that swscale scales whole."""

import itertools

import av
import numpy as np
import pytest

from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.bilinear import bilinear_weights
from ov2kit.codec.video.block_scaler import Layout, chroma_center, rgb_blocks
from ov2kit.codec.video.cut import cut_blocks
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.pictures import HeldPicture, PictureScaler
from tests.kernels import way
from tests.paths import SAMPLE

__all__ = ["way"]  # each test runs both ways
UPRIGHT = Orientation()
FORMATS = [
    "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "yuv420p10le", "yuv422p10le", "yuv444p10le",
]  # fmt: skip
UNSPECIFIED, BT709, BT601, BT2020, YCGCO = 2, 1, 5, 9, 8


def noise(pix_fmt="yuv420p", size=(54, 75), matrix=UNSPECIFIED, color_range=0, seed=0):
    """A picture of random levels, legal or not."""
    frame, rng = av.VideoFrame(size[1], size[0], pix_fmt), np.random.default_rng(seed)
    frame.colorspace, frame.color_range = matrix, color_range
    for plane in frame.planes:
        deep = "10" in pix_fmt
        level = rng.integers(0, 1024 if deep else 256, plane.line_size * plane.height // (2 if deep else 1))
        plane.update(level.astype("<u2" if deep else np.uint8).tobytes())
    return frame


def every_block(frame, size, side, center=(128, 128)):
    """The whole of a scaled picture, block by block: (3, height, width)."""
    layout, grid = Layout.of(frame), (size[0] // side, size[1] // side)
    blocks = np.array([(0, *place) for place in np.ndindex(grid)])
    made = rgb_blocks([frame], layout, center, blocks, size, side)
    return made.reshape(*grid, 3, side, side).transpose(2, 0, 3, 1, 4).reshape(3, *size)


@pytest.mark.parametrize(
    ("pix_fmt", "matrix", "color_range"),
    [
        (pix_fmt, matrix, color_range)
        for number, (pix_fmt, matrix) in enumerate(itertools.product(FORMATS, [1, 2, 4, 5, 6, 7, 9]))
        for color_range in ((0, 1, 2)[number % 3],)
    ],
)
def test_blocks_are_those_of_swscale(pix_fmt, matrix, color_range):
    frame = noise(pix_fmt, matrix=matrix, color_range=color_range)
    for size in ((28, 56), (84, 112), (56, 84)):
        assert np.array_equal(every_block(frame, size, 28), PictureScaler().rgb(frame, size, UPRIGHT))


@pytest.mark.parametrize("seed", range(25))
def test_any_size_to_any_size(seed):
    rng = np.random.default_rng(seed)
    side = (28, 14, 32, 7, 1)[seed % 5]
    frame = noise(FORMATS[seed % 9], tuple(rng.integers(25, 400, 2).tolist()), seed=seed)
    size = tuple((side * rng.integers(2, 30 if side == 1 else 10, 2)).tolist())
    assert np.array_equal(every_block(frame, size, side), PictureScaler().rgb(frame, size, UPRIGHT))


def test_weights_by_hand():
    """Three pixels from two: their centers are a sixth of a pixel before, in the middle, a sixth after."""
    first, weights = bilinear_weights(4, 6, 1 << 12, 2)
    assert first.tolist() == [0, 0, 1, 1, 2, 2]
    thirds = [(6, 0), (3, 3), (5, 1), (1, 5), (3, 3), (0, 6)]
    assert np.abs(weights - np.array(thirds) * 4096 / 6).max() <= 1
    assert (weights.sum(1) == 4096).all()


@pytest.mark.parametrize(
    ("place", "center"), [("left", (128, 64)), ("center", (128, 128)), ("topleft", (64, 64)), ("bottom", (192, 128))]
)
def test_chroma_is_where_the_stream_says(tmp_path, place, center):
    """Nothing but the pixels of swscale tells where it is."""
    path = tmp_path / "clip.mkv"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=5, options={"qp": "0", "chroma_sample_location": place})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(noise(size=(48, 64))))
        out.mux(stream.encode())
    with av.open(path) as opened:
        frame, scaler = next(opened.decode(video=0)), PictureScaler()
    assert scaler.chroma_center(frame, Layout.of(frame)) == center
    assert np.array_equal(every_block(frame, (84, 112), 28, center), scaler.rgb(frame, (84, 112), UPRIGHT))
    others = {(y, x) for y in (64, 128, 192) for x in (64, 128, 192)} - {center}
    assert not any(
        np.array_equal(every_block(frame, (84, 112), 28, other), scaler.rgb(frame, (84, 112), UPRIGHT))
        for other in others
    )


@pytest.mark.parametrize(
    "orientation", [Orientation(*flags) for flags in itertools.product((False, True), repeat=3)], ids=str
)
def test_few_blocks_are_cut_out_and_many_are_left(orientation, way):
    scaler, size = PictureScaler(), (84, 140)
    many = {"plain": 4, "compiled": 7}[way]  # of 15, a few more than are made alone
    held = [HeldPicture(noise(seed=seed), size, orientation, scaler) for seed in range(3)]
    busy = [(1, *divmod(place, 5)) for place in range(many)]
    blocks = np.array([(2, 0, 0), *busy, (0, 2, 4), (2, 1, 3), (0, 1, 0)])
    made, pixels = cut_blocks(held, blocks, 28)
    assert made.tolist() == [True, *[False] * many, True, True, True]
    assert cut_blocks(held, blocks[1:many], 28)[0].all()
    expected = [
        held[which].rgb()[:, row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]
        for which, row, column in blocks[made]
    ]
    assert np.array_equal(pixels, np.stack(expected))


def test_what_is_not_known_to_be_equal_is_left():
    scaler, blocks = PictureScaler(), np.array([(0, 1, 1)])
    size = (140, 168)

    def is_made(frame, size=size):
        return bool(cut_blocks([HeldPicture(frame, size, UPRIGHT, scaler)], blocks, 28)[0].all())

    assert is_made(noise())
    assert is_made(noise(size=(168, 140)))
    assert not is_made(noise(size=(140, 168)))  # its own size
    assert not is_made(noise(matrix=YCGCO))
    assert not is_made(noise(size=(24, 80)))
    assert not is_made(av.VideoFrame(75, 54, "rgb24"))
    assert not is_made(av.VideoFrame(75, 54, "nv12"))
    assert not cut_blocks([None], blocks, 28)[0].any()
    assert cut_blocks([], blocks[:0], 28)[1].shape == (0, 3, 28, 28)


def test_a_scaler_that_does_something_else_is_seen():
    layout = Layout.of(noise())
    assert chroma_center(layout, bytes(3 * 48 * 48)) is None


def test_interlaced_pictures_are_scaled_whole(tmp_path):
    """Field by field, says swscale of FFmpeg 8; blocks of the frame would be others."""
    path = tmp_path / "clip.mkv"
    with av.open(path, "w") as out:
        stream = out.add_stream("mpeg2video", rate=5, options={"flags": "+ildct+ilme", "qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(noise(size=(48, 64))))
        out.mux(stream.encode())
    with av.open(path) as opened:
        frame = next(opened.decode(video=0))
    assert frame.interlaced_frame
    assert Layout.of(frame) is None


def test_frames_of_a_clip_side_by_side():
    """Blocks of several pictures at once, more than fit in one batch, in any order."""
    frames = list(VideoStream(SAMPLE).frames(range(0, 60, 6), size=(280, 504), rgb=False, picture=True))
    rng = np.random.default_rng(3)
    blocks = np.concatenate(
        [np.stack([np.full(20, t), *np.divmod(rng.choice(180, 20, replace=False), 18)], 1) for t in range(10)]
    )
    blocks = blocks[rng.permutation(len(blocks))]
    made, pixels = cut_blocks([frame.picture for frame in frames], blocks, 28)
    assert made.all()
    whole = [frame.picture.rgb().numpy() for frame in frames]
    for (which, row, column), block in zip(blocks, pixels, strict=True):
        assert np.array_equal(block, whole[which][:, row * 28 : row * 28 + 28, column * 28 : column * 28 + 28])
