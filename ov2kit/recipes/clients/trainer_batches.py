"""Conversations to the tensors that trainers of transformers pass on to the model: TRL's `SFTTrainer`, `Trainer`.

Their own collators know pictures only. Here `Processor` reads whatever a conversation holds, videos from their codec
stream, and supervises what `ov2kit fit` supervises; the loss of a batch is the same number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ov2kit.errors import DataError, check_choice, check_number, check_type
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.processor import Processor
from ov2kit.recipes.prompt.released_processor import LlavaOnevision2Processor
from ov2kit.recipes.prompt.sample import Sample, collate
from ov2kit.recipes.prompt.visual_inputs import visual_inputs


class ConversationCollator:
    """A data collator: rows with `messages` -> one batch.

    Set `remove_unused_columns=False` and `dataset_kwargs={"skip_prepare_dataset": True}` in TRL's `SFTConfig`, since
    rows are read here.

    Args:
        processor: reads conversations; ours, or what `AutoProcessor` loaded.
        visibility: who sees whom in the encoder, as in `ov2kit fit`.
        max_tokens: longest sample; a longer one is an error, since cutting it would cut pictures.

    Raises:
        OptionError: no processor of ours, or an option out of range.
    """

    def __init__(
        self,
        processor: Processor | LlavaOnevision2Processor,
        visibility: Visibility = "group",
        max_tokens: int | None = None,
    ) -> None:
        check_type("processor", processor, (Processor, LlavaOnevision2Processor), "a processor of ov2kit")
        check_choice("visibility", visibility, ("group", "window", "canvas", "full"))
        check_number("max_tokens", max_tokens, low=1, integer=True, optional=True)
        self.processor = processor if isinstance(processor, Processor) else processor.processor
        self.visibility, self.max_tokens = visibility, max_tokens

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Tensors under the names of the model's arguments.

        Args:
            rows: each with `messages` (and perhaps `images` and `videos`), as `Processor` takes them.

        Returns:
            input_ids, attention_mask, labels (B, S), and where there is something to see pixel_values (N, 3*p*p),
            patch_positions (N, 3), image_grid_thw (canvases, 3), segments and items (as `cu_seqlens`).

        Raises:
            DataError: a row without messages, or longer than `max_tokens`.
        """
        batch = collate([self._sample(row) for row in rows], self.processor.pad_id)
        seen = visual_inputs(batch, self.visibility)
        if seen:
            seen["image_grid_thw"] = torch.tensor(seen["image_grid_thw"], dtype=torch.int64)
            for name in ("segments", "items"):
                seen[name] = seen[name].cu_seqlens
        text = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}
        return text | seen

    def _sample(self, row: Mapping[str, Any]) -> Sample:
        if "messages" not in row:
            raise DataError(f"expected a row with 'messages', got the columns {', '.join(map(str, row)) or 'none'}")
        media = {name: row[name] for name in ("images", "videos") if row.get(name) is not None}
        sample = self.processor(row["messages"], **media)
        if self.max_tokens is not None and len(sample) > self.max_tokens:
            raise DataError(
                f"a conversation of {len(sample)} tokens is longer than max_tokens={self.max_tokens}; "
                "use fewer canvases, or a larger max_tokens"
            )
        return sample
