"""Tokenizing with a progress bar on stderr, where what was lost is reported too."""

import sys
import warnings
from pathlib import Path

from tqdm import tqdm

from ov2kit.canvases import Canvases
from ov2kit.codec.tokenizers.codec import CodecTokenizer
from ov2kit.errors import DamagedVideoWarning


def tokenized(tokenizer: CodecTokenizer, video: str, quiet: bool) -> Canvases:
    """The canvases of a video.

    Args:
        tokenizer: makes them.
        video: path.
        quiet: draw no bar; none is drawn either where stderr is no terminal.
    """
    with (
        warnings.catch_warnings(record=True) as caught,
        tqdm(desc=Path(video).name, unit=" frames", disable=quiet or None, leave=False, file=sys.stderr) as bar,
    ):
        warnings.simplefilter("always", DamagedVideoWarning)

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        canvases: Canvases = tokenizer(video, progress=progress)
    for warning in caught:
        if issubclass(warning.category, DamagedVideoWarning):
            print(f"warning: {warning.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return canvases
