"""What the files of `Sources` hold, opened when it is first asked for."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ov2kit.codec import CodecTokenizer
from ov2kit.files import refuse_overwriting_inputs
from ov2kit.recipes.data.faults import FaultLog
from ov2kit.recipes.data.fingerprints import check_same_options
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.options import Sources
from ov2kit.recipes.datasets.stored import StoredVideos


class OpenSources:
    """Indices of records, each made once, the canvases that shards have, and logs of what cannot be used.

    Args:
        sources: which files.
        codecs: that make canvases here; shards must have been made with the options of each.
        seed: of the split.
    """

    def __init__(self, sources: Sources, codecs: Sequence[CodecTokenizer], seed: int) -> None:
        self.sources, self.codecs, self.seed = sources, tuple(codecs), seed
        self._indices: dict[str, ConversationIndex] = {}
        self._stored: StoredVideos | None = None

    def index(self, paths: str | list[str], needs_answer: bool = True) -> ConversationIndex:
        """The records of some of the files.

        Raises:
            DataError: a file cannot be read, or too many records cannot be used.
        """
        key = json.dumps([paths, needs_answer])
        if key not in self._indices:
            self._indices[key] = ConversationIndex(
                paths,
                self.sources.media_root,
                needs_answer=needs_answer,
                max_record_bytes=self.sources.max_record_bytes,
                stored=self.stored(),
            )
        return self._indices[key]

    def stored(self) -> StoredVideos | None:
        """The dataset that `shards` names.

        Raises:
            DataError: it was made with other options than stand here.
        """
        if self._stored is None and self.sources.shards is not None:
            stored = StoredVideos(self.sources.shards)
            for codec in self.codecs:
                check_same_options(stored, codec, self.sources.shards)
            self._stored = stored
        return self._stored

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the records of `path` that train, and of those that `val_share` holds out."""
        index = self.index(self.sources.path)
        share = self.sources.val_share
        return index.split(share, self.seed) if share else (np.arange(len(index)), np.arange(0))

    def fault_log(self, index: ConversationIndex, path: str | None, rank: int, lengths: str | None) -> FaultLog:
        """A log that begins with what the index could not use.

        Args:
            index: of the records.
            path: of the log; none is written for None.
            rank: of this process; each writes a file of its own.
            lengths: a file that is read beside the records.

        Raises:
            OutputError: the log would overwrite an input.
        """
        if path is not None and rank:
            path = str(Path(path).with_suffix(f".rank{rank}{Path(path).suffix}"))
        if path is not None:
            refuse_overwriting_inputs(path, [*(file.path for file in index.files), lengths])
        log = FaultLog(index.total, self.sources.max_bad_share, path)
        log.add(index.faults, before_reading=True)
        return log
