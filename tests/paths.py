"""Where things are: the project, its stored references, its sample clip."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
SAMPLE = ROOT / "ov2kit" / "codec" / "sample" / "bbb_360p.mp4"
