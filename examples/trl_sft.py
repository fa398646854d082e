"""A model directory fine-tuned on codec videos by TRL's `SFTTrainer`: LoRA from PEFT, in 8 or 4 bits if asked.

The model is an ordinary one of transformers, so the trainer needs nothing of ours but the collator: it reads each row's
conversation, videos from their codec stream, and makes the tensors and labels that `ov2kit fit` makes.

What is not taught here: two steps teach nothing. `bits=8` or `bits=4` keeps the weights in so many bits (bitsandbytes).

Run: python examples/trl_sft.py a_model_directory a_video.mp4
"""

import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

import ov2kit.recipes  # noqa: F401 - the Auto classes know the model from here on
from ov2kit.recipes.clients.trainer_batches import ConversationCollator

LORA = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


QUANTIZED = {
    8: BitsAndBytesConfig(load_in_8bit=True),
    4: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16),
}


def rows(video: str | Path, answer: str, count: int = 4) -> list[dict[str, Any]]:
    """Questions about a video, as a data set of TRL has them."""
    ask = [{"type": "video", "video": str(video)}, {"type": "text", "text": "What happens?"}]
    talk = [{"role": "user", "content": ask}, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    return [{"messages": talk}] * count


def trainer(
    directory: str | Path, data: list[dict[str, Any]], out: str | Path, *, bits: int | None = None, **options: Any
) -> SFTTrainer:
    """The trainer of a directory with adapters beside its weights; `bits` (8 or 4) keeps those in so many bits."""
    from datasets import Dataset

    quantized = {} if bits is None else {"quantization_config": QUANTIZED[bits]}
    model = AutoModelForImageTextToText.from_pretrained(directory, device_map="auto", **quantized)
    processor = AutoProcessor.from_pretrained(directory)
    config = SFTConfig(
        output_dir=str(out),
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        **({"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1} | options),
    )
    return SFTTrainer(
        model,
        args=config,
        train_dataset=Dataset.from_list(data),
        data_collator=ConversationCollator(processor),
        processing_class=processor,
        peft_config=LORA,
    )


def main() -> None:
    directory, video = sys.argv[1:3]
    run = trainer(directory, rows(video, "A rabbit hops."), "trl-run")
    run.train()
    run.save_model("trl-adapters")
    print("adapters in trl-adapters; merge them: ov2kit convert", directory, "merged --adapter trl-adapters")


if __name__ == "__main__":
    main()
