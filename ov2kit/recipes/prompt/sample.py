"""Sample and Batch: what the processor makes of one conversation, and what the model takes.

Letters: S text tokens, B rows, N packed patches, p patch edge in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ov2kit.errors import OptionError, check_choice, check_number, check_type
from ov2kit.recipes.prompt.layout import VisualLayout

#: label of a token that is not supervised
IGNORE = -100
#: what a sample may show; its `stats` hold 1 under that name
SAMPLE_KINDS = ("codec", "frames", "image", "text", "hybrid")


@dataclass(frozen=True)
class Sample:
    """One conversation as tensors.

    Args:
        input_ids: (S,) int64.
        labels: (S,) int64, the token itself where it is supervised, else -100; not shifted.
        pixel_values: (N, 3*p*p) float32 normalized patches in block layout; N may be 0.
        positions: (N, 3) int32 source (frame, row, column), -1 for padding.
        layout: how the patches lie; covers N patches.
        name: says in reports which record this was.
        stats: numbers worth logging, such as the canvases of each kind.
        record: place of the record among all of its files, from 0; -1 where it comes from none. Two
            records may have one name, never one place.
        plans: of the videos whose source a `Router` chose, as their provenance has them.

    Raises:
        ValueError: the parts disagree in length.
    """

    input_ids: Tensor
    labels: Tensor
    pixel_values: Tensor
    positions: Tensor
    layout: VisualLayout
    name: str = ""
    stats: dict[str, float] = field(default_factory=dict)
    record: int = -1
    plans: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("input_ids", "labels", "pixel_values", "positions"):
            check_type(name, getattr(self, name), Tensor, "a tensor")
        check_type("layout", self.layout, VisualLayout, "a VisualLayout")
        check_type("name", self.name, str, "a string")
        check_type("stats", self.stats, dict, "a dict")
        check_type("plans", self.plans, list, "a list of mappings")
        check_number("record", self.record, low=-1, integer=True)
        if self.input_ids.ndim != 1 or self.labels.shape != self.input_ids.shape:
            raise OptionError(
                f"{self.name or 'sample'}: input_ids and labels must both be (S,), got "
                f"{tuple(self.input_ids.shape)} and {tuple(self.labels.shape)}"
            )
        if not len(self.pixel_values) == len(self.positions) == self.layout.num_patches:
            raise OptionError(
                f"{self.name or 'sample'}: pixel_values, positions and layout must cover the same patches, got "
                f"{len(self.pixel_values)}, {len(self.positions)} and {self.layout.num_patches}"
            )

    def __len__(self) -> int:
        """Text tokens, image pads included: what it costs the language model."""
        return len(self.input_ids)


class Batch:
    """Several samples as the model takes them. Treat it as a value: `replace` makes another one.

    No dataclass: Lightning takes those apart to cast what is inside, positions and layout too.

    Args:
        input_ids: (B, S) int64.
        attention_mask: (B, S) int64, 0 where padded.
        labels: (B, S) int64, -100 where not supervised.
        pixel_values: (N, 3*p*p) float32, the samples' patches one after another.
        positions: (N, 3) int32.
        layout: of all patches, on the host.
        position_ids: (B, S) int64 in a packed row, restarting at 0 with every sample; else None.
        names: of the samples, in order.
        stats: of the samples, in order.
        records: places of the samples' records, in order, see `Sample`; -1 of each when omitted.
    """

    def __init__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        pixel_values: Tensor,
        positions: Tensor,
        layout: VisualLayout,
        position_ids: Tensor | None = None,
        names: tuple[str, ...] = (),
        stats: tuple[dict[str, float], ...] = (),
        records: tuple[int, ...] | None = None,
    ) -> None:
        tensors = {
            "input_ids": input_ids, "attention_mask": attention_mask, "labels": labels,
            "pixel_values": pixel_values, "positions": positions, "position_ids": position_ids,
        }  # fmt: skip
        for name, tensor in tensors.items():
            check_type(name, tensor, Tensor, "a tensor", optional=name == "position_ids")
        check_type("layout", layout, VisualLayout, "a VisualLayout")
        check_type("names", names, tuple, "a tuple of strings")
        check_type("stats", stats, tuple, "a tuple of mappings")
        check_type("records", records, tuple, "a tuple of whole numbers", optional=True)
        self.input_ids, self.attention_mask, self.labels = input_ids, attention_mask, labels
        self.pixel_values, self.positions, self.layout = pixel_values, positions, layout
        self.position_ids, self.names, self.stats = position_ids, names, stats
        self.records = (-1,) * len(names) if records is None else records

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={tuple(tensor.shape)}" for name, tensor in self._tensors().items())
        return f"Batch({shapes}, canvases={self.layout.num_canvases}, names={self.names})"

    def replace(self, **parts: Any) -> "Batch":
        """The same batch with other parts, named as in the constructor."""
        return Batch(**(vars(self) | parts))

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str, **options: Any) -> "Batch":
        """The same batch with all tensors on `device`."""
        return self.replace(**{name: tensor.to(device, **options) for name, tensor in self._tensors().items()})

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, as `DataLoader(pin_memory=True)` asks for."""
        return self.replace(**{name: tensor.pin_memory() for name, tensor in self._tensors().items()})


def collate(samples: Sequence[Sample], pad_id: int, side: Literal["right", "left"] = "right") -> Batch:
    """One row per sample, padded to the longest: on the right to train, on the left to generate.

    Raises:
        ValueError: no samples, or an unknown side.
    """
    _check(samples)
    check_choice("side", side, ("right", "left"))
    check_number("pad_id", pad_id, low=0, integer=True)
    longest = max(len(sample) for sample in samples)
    shape = (len(samples), longest)
    ids, labels = torch.full(shape, pad_id), torch.full(shape, IGNORE)
    mask = torch.zeros(shape, dtype=torch.int64)
    for row, sample in enumerate(samples):
        place = slice(0, len(sample)) if side == "right" else slice(longest - len(sample), longest)
        ids[row, place], labels[row, place], mask[row, place] = sample.input_ids, sample.labels, 1
    return Batch(ids, mask, labels, **_visual(samples), **_facts(samples))


def pack(samples: Sequence[Sample], pad_id: int, length: int | None = None) -> Batch:
    """All samples in one row, isolated from each other: positions restart at 0.

    The first token of a sample is never a target, because nothing of its own comes before it.

    Args:
        samples: in the order of the row.
        pad_id: token to fill up with; the filling is a sample of its own that nothing is learned from.
        length: tokens of the row; as long as the samples are when omitted.

    Raises:
        ValueError: no samples, or more tokens than `length`.
    """
    _check(samples)
    check_number("pad_id", pad_id, low=0, integer=True)
    check_number("length", length, low=1, integer=True, optional=True)
    total = sum(len(sample) for sample in samples)
    if length is not None and total > length:
        raise OptionError(
            f"{len(samples)} samples of {total} tokens do not fit into a packed row of {length}; "
            "make the row longer or the samples shorter"
        )
    filling = (length or total) - total
    ids = torch.cat([*(sample.input_ids for sample in samples), torch.full((filling,), pad_id)])
    labels = torch.cat([*(sample.labels for sample in samples), torch.full((filling,), IGNORE)])
    starts = [0]
    for sample in samples[:-1]:
        starts.append(starts[-1] + len(sample))
    labels[starts] = IGNORE
    runs = [torch.arange(len(sample)) for sample in samples] + [torch.arange(filling)]
    mask = torch.ones_like(ids)
    return Batch(
        ids[None], mask[None], labels[None], **_visual(samples), position_ids=torch.cat(runs)[None], **_facts(samples)
    )


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise OptionError("a batch needs at least one sample, got none")


def _visual(samples: Sequence[Sample]) -> dict[str, Any]:
    shown = [sample for sample in samples if len(sample.pixel_values)] or samples[:1]
    return {
        "pixel_values": torch.cat([sample.pixel_values for sample in shown]),
        "positions": torch.cat([sample.positions for sample in shown]),
        "layout": VisualLayout.cat(sample.layout for sample in shown),
    }


def _facts(samples: Sequence[Sample]) -> dict[str, Any]:
    return {name + "s": tuple(getattr(sample, name) for sample in samples) for name in ("name", "record")} | {
        "stats": tuple(sample.stats for sample in samples)
    }
