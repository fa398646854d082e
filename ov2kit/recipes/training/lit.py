"""LitLlavaOneVision2: how the model learns, step by step.

The loss of an optimizer step is the mean over all supervised tokens of that step, over all processes
and accumulated batches: two processes with half the batch each, or two accumulated halves, give the
gradient of the whole.
"""

from collections.abc import Callable
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from ov2kit.errors import OptionError
from ov2kit.recipes.architecture.parts import PositionsName
from ov2kit.recipes.model.adapters import add_adapters, check_lora
from ov2kit.recipes.model.quantized import check_quantization
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.sample import SAMPLE_KINDS, Batch
from ov2kit.recipes.prompt.visual_inputs import visual_inputs
from ov2kit.recipes.release.companions import companions_of
from ov2kit.recipes.training.built_model import built_model, check_place
from ov2kit.recipes.training.greedy_answers import greedy_answers
from ov2kit.recipes.training.learning_rates import freeze_all_but, learning_rates, learns
from ov2kit.recipes.training.lit_options import check_options
from ov2kit.recipes.training.mean_gradient import SCALE, take_mean
from ov2kit.recipes.training.model_entry import add_entry, take_entry
from ov2kit.recipes.training.optim import adamw, cosine_with_warmup
from ov2kit.recipes.training.parallel import compile_blocks, shard
from ov2kit.recipes.training.resuming import trainer_settings
from ov2kit.recipes.training.token_losses import summed_losses


class LitLlavaOneVision2(pl.LightningModule):
    """The full model as a LightningModule; every argument is a plain value.

    A checkpoint holds what the constructor needs, so `load_from_checkpoint(path)` asks for no config.

    Args:
        size: name of a size (tiny, small, 2b, 4b, 8b, 30b-a3b), or a whole release config; ignored
            when `start` is given.
        start: directory of a model in the released format, or a Lightning checkpoint, to start from;
            fresh weights when omitted.
        tokenizer: directory of the tokenizer that a named size is fitted to; the small one when omitted.
        connector: merger, mlp, resampler, query, pool, average, conv, or a class path,
            which takes (width, out_width, **connector_options); what the start has when omitted.
        connector_options: further arguments of the connector.
        positions: "release" (rotary as released), "exact" (a true rotation), "2d" (rows and columns
            only) or "none"; what the start has when omitted.
        visibility: who sees whom in the encoder: "group" (canvases of one group), "window" (`window`
            neighboring canvases, as the release cuts them), "canvas" (each by itself) or "full".
        window: canvases per window.
        train: learning rate of each part (encoder, connector, language_model, or any longer start of
            a parameter's name); what no part names, or has rate 0, is frozen and in eval mode.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: of matrices; norms and biases have none.
        warmup_share: of all steps, in which the rates rise from 0.
        min_lr: rate that the cosine falls to.
        recompute: recompute activations in the backward pass instead of keeping them.
        compile: torch.compile for the layers of encoder and language model.
        answer_tokens: longest answer written in validation and prediction.
        answer_batches: batches of each validation within a fit for which answers are written and compared;
            otherwise that is done for all.
        lora: adapters that learn in the place of the parts' own weights: `r`, `alpha`, `dropout` and `target`, see
            `ov2kit.recipes.model.adapters.check_lora`.
        quantization: keep the weights beside the adapters in 8 or 4 bits: "int8", "nf4", or a `quantization_config`
            of transformers, see `ov2kit.recipes.model.quantized.check_quantization`. `start` must be a model
            directory, which checkpoints then refer to instead of holding its weights.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range, or options do not go together.
        CheckpointError: `start` cannot be read.
    """

    def __init__(
        self,
        size: str | dict[str, Any] = "tiny",
        start: str | None = None,
        tokenizer: str | None = None,
        connector: str | None = None,
        connector_options: dict[str, Any] | None = None,
        positions: PositionsName | None = None,
        visibility: Visibility = "group",
        window: int = 4,
        train: dict[str, float] | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-5,
        weight_decay: float = 0.01,
        warmup_share: float = 0.002,
        min_lr: float = 1e-6,
        recompute: bool = False,
        compile: bool = False,
        answer_tokens: int = 64,
        answer_batches: int = 4,
        lora: dict[str, Any] | None = None,
        quantization: str | dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "size": size,
            "connector": connector,
            "connector_options": connector_options,
            "positions": positions,
            "visibility": visibility,
            "window": window,
            "train": train,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_share": warmup_share,
            "min_lr": min_lr,
            "recompute": recompute,
            "compile": compile,
            "answer_tokens": answer_tokens,
            "answer_batches": answer_batches,
        }
        check_options({**options, "start": start, "tokenizer": tokenizer})
        adapters, quantized = check_lora(lora), check_quantization(quantization)
        self.train_parts = learning_rates(train)
        self.visibility, self.window = visibility, window
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        self.warmup_share, self.min_lr = warmup_share, min_lr
        self.recompute, self.compile_layers = recompute, compile
        self.answer_tokens, self.answer_batches = answer_tokens, answer_batches
        swapped = {name: options[name] for name in ("connector", "connector_options", "positions")}
        built = built_model(size, start, tokenizer, swapped, adapters=adapters, quantization=quantized)
        self.model, self.fresh_parts, self.base = built.model, built.fresh_parts, built.base
        if self.base is not None:
            self.strict_loading = False  # of what is not in a checkpoint; what must be is checked here
        freeze_all_but(self.model, self.train_parts)
        if adapters is not None:
            add_adapters(self.model, adapters, lambda name: learns(self.model.part_name(name), self.train_parts))
        self.train()
        #: reads and writes text; `ConversationData.connect` sets it
        self.processor: Any = None
        self._sums: Tensor | None = None
        self._seen: Tensor | None = None
        self._prepared = False
        self._files: dict[str, str] | None = None
        # the start and the tokenizer are in the weights and the config now, and need not be there to load a checkpoint
        self.save_hyperparameters({
            **options,
            "size": self.model.release_config,
            "train": self.train_parts,
            "betas": list(betas),
            "lora": adapters,
            "quantization": quantized,
            **({} if self.base is None else {"start": self.base}),
        })  # fmt: skip

    # -- what the data needs to know

    @property
    def tokens_out(self) -> Callable[[int], int] | None:
        """See `LlavaOneVision2.tokens_out`."""
        return self.model.tokens_out

    # -- building and freezing

    def configure_model(self) -> None:
        """Recomputation, compilation and shards, in the only order in which they go together."""
        if self._prepared:
            return
        self._prepared = True
        mesh = getattr(self, "_device_mesh", None)
        if self.base is not None and self._trainer is not None:
            check_place(self.model, self.trainer, is_sharded=mesh is not None)
        if self.recompute:
            self.model.set_gradient_checkpointing(True)
        if self.compile_layers:
            compile_blocks(self.model)
        if mesh is not None:
            if mesh["tensor_parallel"].size() > 1:
                raise ValueError("layers are not split over processes; set tensor_parallel_size: 1")
            shard(self.model, mesh["data_parallel"], half=str(self.trainer.precision).startswith("bf16"))

    def train(self, mode: bool = True) -> "LitLlavaOneVision2":
        """As usual, except that parts in which nothing learns stay in eval mode."""
        super().train(mode)
        for name in ("encoder", "language_model", "connector"):  # which may be among the encoder's layers
            part = getattr(self.model, name)
            part.train(mode and any(parameter.requires_grad for parameter in part.parameters()))
        return self

    def configure_optimizers(self) -> Any:
        """AdamW by parts, cosine with warm-up over all steps of the run."""
        optimizer = adamw(
            self.model,
            self.train_parts,
            betas=cast(tuple[float, float], self.betas),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("the length of the run is not known; set trainer.max_steps")
        schedule = cosine_with_warmup(optimizer, max(1, int(steps)), self.warmup_share, self.min_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # -- learning

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the model makes of a batch, as `summed_losses` gives it."""
        output = self.model(
            batch.input_ids,
            **visual_inputs(batch, self.visibility, self.window),
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            labels=batch.labels,
            supervised_only=True,
        )
        return summed_losses(batch, output)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, parts = self(batch)
        self._sums = parts if self._sums is None else self._sums + parts
        return cast(Tensor, loss / SCALE)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Turn the gradients of sums into those of the mean, then clip, and log the step."""
        assert self._sums is not None
        sums = cast(Tensor, self.trainer.strategy.reduce(self._sums, reduce_op="sum"))
        self._sums = None
        losses, counts = sums.float()
        total = counts.sum().clamp(min=1)
        # Lightning has divided by the accumulated batches, and the processes' gradients are averaged
        factor = SCALE * self.trainer.accumulate_grad_batches * self.trainer.world_size / total
        learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = take_mean(learning, factor, gradient_clip_val)
        self.log("loss", losses.sum() / total, prog_bar=True)
        self.log("supervised_tokens", counts.sum())
        self.log("gradient_norm", norm)
        if (self.global_step + 1) % cast(Any, self.trainer).log_every_n_steps == 0:
            for kind, loss, count in zip(SAMPLE_KINDS, losses.tolist(), counts.tolist(), strict=True):
                if count:
                    self.log(f"loss/{kind}", loss / count)
        for part, rate in {group["part"]: group["lr"] for group in optimizer.param_groups}.items():
            self.log(f"lr/{part}", rate)

    # -- seeing how well it does

    def on_validation_epoch_start(self) -> None:
        self._seen = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Adds up the loss; for the first batches also writes answers.

        Returns:
            `answers`, see `answer`.
        """
        _, parts = self(batch)
        answers = []
        wanted = batch_idx < self.answer_batches or self.trainer.state.fn != "fit"
        if wanted and batch.position_ids is None:
            answers = [answer for answer in self.answer(batch) if answer["expected"] is not None]
        right = sum(answer["exact"] for answer in answers)
        assert self._seen is not None
        self._seen += torch.cat([parts.sum(1), self._seen.new_tensor([right, len(answers)])])
        return {"answers": answers}

    def on_validation_epoch_end(self) -> None:
        seen = cast(Tensor, self.trainer.strategy.reduce(cast(Tensor, self._seen), reduce_op="sum"))
        name = "test" if self.trainer.testing else "val"
        total, supervised, right, answers = seen.tolist()
        self.log(f"{name}/loss", total / max(1.0, supervised), prog_bar=True)
        if answers:
            self.log(f"{name}/exact", right / answers, prog_bar=True)

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> list[dict[str, Any]]:
        """Answers as `answer` gives them."""
        return self.answer(batch)

    def answer(self, batch: Batch) -> list[dict[str, Any]]:
        """Greedy answers to the last turn of each row, as `greedy_answers` gives them."""
        if self.processor is None:
            raise OptionError("the model has no processor to write answers with: call data.connect(model) first")
        return greedy_answers(
            self.model, self.processor, batch,
            max_new_tokens=self.answer_tokens, visibility=self.visibility, window=self.window,
        )  # fmt: skip

    # -- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what `ov2kit convert` needs to make a model directory of the checkpoint alone."""
        if self._files is None and self.processor is not None:
            self._files = companions_of(self.processor)
        add_entry(checkpoint, self.model, self._files, self.base)
        checkpoint["trainer_settings"] = trainer_settings(self._trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of a newer format before its weights are taken; those of version 1 have other names."""
        take_entry(checkpoint, self.model, self.base)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> "LitLlavaOneVision2":
        """As Lightning does it, but never unpickles anything beyond tensors and plain values.

        Raises:
            CheckpointError: the checkpoint is of a newer format.
            ValueError: `weights_only` is not True.
        """
        if options.setdefault("weights_only", True) is not True:
            raise ValueError("checkpoints are only read with weights_only=True")
        return super().load_from_checkpoint(checkpoint_path, *args, **options)
