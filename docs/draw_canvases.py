"""Draw docs/images/canvases.jpg: two groups of the bundled clip as canvases.

python docs/draw_canvases.py
"""

from pathlib import Path

from PIL import Image, ImageDraw

from ov2kit.codec import CodecTokenizer
from ov2kit.recipes.commands.demo import SAMPLE

SCALE, GAP, CAPTION = 0.6, 8, 22


def main() -> None:
    """Tokenize, lay eight canvases out in two rows, write the picture."""
    canvases = CodecTokenizer(budget_canvases=16)(SAMPLE)
    _, _, height, width = canvases.images.shape
    tile = (int(width * SCALE), int(height * SCALE))
    sheet = Image.new("RGB", (4 * (tile[0] + GAP) - GAP, 2 * (tile[1] + CAPTION + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for k in range(8):
        left, top = k % 4 * (tile[0] + GAP), k // 4 * (tile[1] + CAPTION + GAP)
        pixels = Image.fromarray(canvases.images[k].permute(1, 2, 0).numpy())
        sheet.paste(pixels.resize(tile, Image.Resampling.LANCZOS), (left, top))
        times = sorted({canvases.frame_times[t] for t in canvases.positions[k, ..., 0].unique().tolist()})
        kind = f"I  {times[0]:.2f} s, whole" if canvases.is_anchor[k] else f"P  {times[0]:.2f} to {times[-1]:.2f} s"
        draw.text((left + 2, top + tile[1] + 3), kind, fill="black", font_size=14)
    target = Path(__file__).parent / "images" / "canvases.jpg"
    sheet.save(target, quality=88, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
