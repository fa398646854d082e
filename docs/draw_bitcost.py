"""Draw docs/images/bitcost.jpg: frames of the bundled clip, the bits really spent, and the estimate.

python docs/draw_bitcost.py [COEFFICIENTS]

The truth is tests/golden/bit_cost_truth.npz. COEFFICIENTS: a file fitted without this footage, as
benchmarks/calibrate_bitcost.py keeps for each fold in its cache; else those of the package, which saw it.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ov2kit.codec import BitCostMap, VideoStream
from ov2kit.codec.signals.macroblock_inputs import macroblock_luma_size
from ov2kit.recipes.commands.demo import SAMPLE

FRAMES = (4, 12, 22, 33)
WIDTH, GAP, CAPTION = 360, 8, 22
TRUTH = Path(__file__).parents[1] / "tests" / "golden" / "bit_cost_truth.npz"


def painted(bits: np.ndarray, most: float) -> Image.Image:
    """(rows, cols) bits -> black over red to yellow and white, by log(1 + bits)."""
    x = np.log1p(bits) / np.log1p(most)
    colors = np.stack([x * 2.2, x * 2.2 - 0.8, x * 4 - 3], axis=-1).clip(0, 1)
    picture = Image.fromarray((255 * colors).astype(np.uint8))
    return picture.resize((WIDTH, WIDTH * bits.shape[0] // bits.shape[1]), Image.Resampling.NEAREST)


def main() -> None:
    """Three rows: pictures, truth, estimate."""
    with np.load(TRUTH) as data:
        truth = data["bits"].astype(np.float32)
    stream = VideoStream(SAMPLE)
    model = BitCostMap(path=sys.argv[1]) if len(sys.argv) > 1 else BitCostMap()
    luma = macroblock_luma_size(stream.info.coded_size)
    options = {"luma_size": luma, "reference": True, "motion": True, "quantizer": True, "as_coded": True}
    frames = list(stream.frames(FRAMES, **options))
    estimate = model.of_frames(frames, stream.info.coded_size).numpy()
    columns = []
    for frame, mine in zip(frames, estimate, strict=True):
        true = truth[frame.index]
        most = float(max(true.max(), mine.max()))
        picture = Image.fromarray(frame.rgb.permute(1, 2, 0).numpy())
        agreement = np.corrcoef(np.log1p(true).ravel(), np.log1p(mine).ravel())[0, 1]
        columns.append(
            [
                (
                    picture.resize((WIDTH, WIDTH * 9 // 16)),
                    f"frame {frame.index}, {frame.kind}, {frame.nbytes} bytes",
                ),
                (painted(true, most), f"bits really spent, up to {true.max():.0f} a macroblock"),
                (painted(mine, most), f"estimated; correlation of logs {agreement:.2f}"),
            ]
        )
    tall = [max(column[row][0].height for column in columns) + CAPTION + GAP for row in range(3)]
    sheet = Image.new("RGB", (len(columns) * (WIDTH + GAP) - GAP, sum(tall)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, column in enumerate(columns):
        for row, (picture, caption) in enumerate(column):
            at = (place * (WIDTH + GAP), sum(tall[:row]))
            sheet.paste(picture, at)
            draw.text((at[0] + 2, at[1] + tall[row] - CAPTION - GAP + 2), caption, fill="black", font_size=14)
    target = Path(__file__).parent / "images" / "bitcost.jpg"
    sheet.save(target, quality=88, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
