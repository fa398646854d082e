"""ov2kit: video understanding that starts from the compressed stream.

`Canvases` (pictures and where each patch came from) and `Segments` (who sees whom) are what the
parts hand to each other; import the parts themselves from `ov2kit.codec`, `ov2kit.positional`,
`ov2kit.encoders`, `ov2kit.connectors` and `ov2kit.recipes`.
"""

from ov2kit.canvases import Canvases
from ov2kit.segments import Segments

__version__ = "0.1.0"
__all__ = ["Canvases", "Segments", "__version__"]
