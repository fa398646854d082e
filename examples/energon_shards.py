"""Shards of `ov2kit dataset`, read with Megatron Energon: a cooker that makes canvases of its crude samples.

pip install megatron-energon
energon prepare tokens/shards --non-interactive --split-parts 'train:.*' --sample-type CrudeWebdataset
python examples/energon_shards.py tokens/shards
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    SampleDecoder,
    WorkerConfig,
    basic_sample_keys,
    get_loader,
    get_train_dataset,
    stateless,
)


@dataclass
class Video(Sample):
    """Canvases (K, 3, H, W) uint8, and (patches, 3) int32: frame, row and column of each patch; -1 is padding."""

    canvases: torch.Tensor
    positions: torch.Tensor


@stateless
def cook(sample: dict[str, Any]) -> Video:
    """The files of one sample -> its canvases."""
    names = sorted(name for name in sample if name.startswith("canvas_"))
    return Video(
        **basic_sample_keys(sample),
        canvases=torch.stack([sample[name] for name in names]),
        positions=torch.from_numpy(sample["src_patch_position.npy"]),
    )


class Videos(DefaultTaskEncoder):  # type: ignore[misc] # where energon is not installed
    """One video per sample; override `batch` and what follows it as usual."""

    cookers: ClassVar = [Cooker(cook)]
    decoder = SampleDecoder(image_decode="torchrgb8")


def loader(shards: str, workers: int = 0, **options: Any) -> Any:
    """An energon loader of single videos, for this process alone."""
    config = WorkerConfig(rank=0, world_size=1, num_workers=workers)
    given = {"batch_size": None, "shuffle_buffer_size": None, "max_samples_per_sequence": None, **options}
    return get_loader(get_train_dataset(shards, worker_config=config, task_encoder=Videos(), **given))


if __name__ == "__main__":
    for video in loader(sys.argv[1], repeat=False):
        print(video.__key__, tuple(video.canvases.shape), tuple(video.positions.shape))
