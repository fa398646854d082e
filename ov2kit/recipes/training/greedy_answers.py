"""What the model says by itself, beside what was expected."""

from typing import Any

import torch

from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.sample import Batch
from ov2kit.recipes.prompt.turns import last_answers, prompts
from ov2kit.recipes.prompt.visual_inputs import visual_inputs


@torch.no_grad()
def greedy_answers(
    model: LlavaOneVision2, processor: Any, batch: Batch, *, max_new_tokens: int, visibility: Visibility, window: int
) -> list[dict[str, Any]]:
    """Greedy answers to the last turn of each row.

    Args:
        model: that answers.
        processor: that made the batch.
        batch: rows that are not packed.
        max_new_tokens: of an answer.
        visibility: see `visual_inputs`.
        window: see `visual_inputs`.

    Returns:
        For each row: name, record, answer, expected (None where nothing is supervised), exact.
    """
    tokenizer = processor.tokenizer
    asked = prompts(batch, processor.pad_id)
    written = model.generate(
        asked.input_ids,
        **visual_inputs(asked, visibility, window),
        attention_mask=asked.attention_mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=processor.pad_id,
        eos_token_id=tokenizer.eos_token_id,
    )[:, asked.input_ids.shape[1] :]
    answers = []
    for name, record, new, wanted in zip(batch.names, batch.records, written, last_answers(batch), strict=True):
        said = tokenizer.decode(new, skip_special_tokens=True).strip()
        expected = tokenizer.decode(wanted, skip_special_tokens=True).strip() if len(wanted) else None
        exact = said == expected
        answers.append({"name": name, "record": record, "answer": said, "expected": expected, "exact": exact})
    return answers
