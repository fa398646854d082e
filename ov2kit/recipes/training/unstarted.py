"""A run that fails before its first step leaves nothing behind."""

import contextlib
from pathlib import Path

#: what the start of a run writes; anything else in its folder is worth keeping
_OF_THE_START = {"config.yaml", "hparams.yaml"}
_KEPT = {"faults.jsonl"}  # a report of its own, which the error names


class RunFolder:
    """The folder of a run that is about to begin.

    Args:
        folder: made by the run, with the folders above it that are not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._new = [place for place in (folder, *folder.parents) if not place.exists()]

    def remove_start(self) -> None:
        """Take away what the start of the run has written, and the folders that it made and that are empty then."""
        if self._folder not in self._new or not self._folder.is_dir():
            return
        found = {file.name for file in self._folder.iterdir()}
        if not found <= _OF_THE_START | _KEPT:
            return
        with contextlib.suppress(OSError):  # not worth hiding why the run failed
            for name in found & _OF_THE_START:
                (self._folder / name).unlink()
            for place in self._new:
                place.rmdir()
