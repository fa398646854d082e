"""Reading and writing the checkpoints of a run."""

from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ov2kit.files import write_file
from ov2kit.recipes.model.starting import read_checkpoint


class PlainCheckpoints(TorchCheckpointIO):
    """Writes straight to disk, whole or not at all, and reads nothing but tensors and plain values.

    Lightning's own makes a copy in memory first, which for a large model is the whole state once more.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with write_file(path, sync=True) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(path)
