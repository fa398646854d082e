"""LitLlavaOneVision2: how the model learns, step by step.

The loss of an optimizer step is the mean over all supervised tokens of that step, over all processes
and accumulated batches: two processes with half the batch each, or two accumulated halves, give the
gradient of the whole. Letters: B rows, S text length, T supervised tokens, V vocabulary.
"""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ov2kit.errors import (
    CheckpointError,
    OptionError,
    check_choice,
    check_flag,
    check_number,
    check_numbers,
    check_type,
)
from ov2kit.recipes.architecture.parts import PositionsName
from ov2kit.recipes.model.adapters import add_adapters, check_lora
from ov2kit.recipes.model.quantized import base_entry, check_base, check_quantization, quantized_model
from ov2kit.recipes.model.starting import check_connector, fresh_model, started_model, swap
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.sample import IGNORE, SAMPLE_KINDS, Batch
from ov2kit.recipes.prompt.turns import last_answers, prompts
from ov2kit.recipes.prompt.visual_inputs import visual_inputs
from ov2kit.recipes.release.companions import companions_of
from ov2kit.recipes.release.directory import check_lightning_entry, lightning_entry
from ov2kit.recipes.release.lightning_files import PREFIX
from ov2kit.recipes.release.names import from_part_names
from ov2kit.recipes.training.learning_rates import freeze_all_but, learning_rates, learns
from ov2kit.recipes.training.optim import adamw, cosine_with_warmup
from ov2kit.recipes.training.parallel import compile_blocks, shard
from ov2kit.recipes.training.resuming import trainer_settings

#: Gradients are sums over tokens, divided by this until the tokens of the whole step are known.
_SCALE = 1024.0


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
        check_type("size", size, (str, dict), "a name or a config")
        for name, place in (("start", start), ("tokenizer", tokenizer)):
            check_type(name, place, (str, os.PathLike), "a path", optional=True)
        check_connector(connector)
        check_type("connector_options", connector_options, Mapping, "a mapping", optional=True)
        if positions is not None:
            check_choice("positions", positions, get_args(PositionsName))
        check_choice("visibility", visibility, get_args(Visibility))
        check_number("window", window, low=1, integer=True)
        check_numbers("betas", betas, length=2, low=0, below=1)
        check_number("eps", eps, above=0)
        check_number("weight_decay", weight_decay, low=0)
        check_number("warmup_share", warmup_share, low=0, below=1)
        check_number("min_lr", min_lr, low=0)
        check_flag("recompute", recompute)
        check_flag("compile", compile)
        check_number("answer_tokens", answer_tokens, low=1, integer=True)
        check_number("answer_batches", answer_batches, low=0, integer=True)
        adapters, quantized = check_lora(lora), check_quantization(quantization)
        self.train_parts = learning_rates(train)
        self.visibility, self.window = visibility, window
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        self.warmup_share, self.min_lr = warmup_share, min_lr
        self.recompute, self.compile_layers = recompute, compile
        self.answer_tokens, self.answer_batches = answer_tokens, answer_batches
        swapped: dict[str, Any] = {
            "connector": connector, "connector_options": connector_options, "positions": positions
        }  # fmt: skip
        #: the directory whose weights are not in checkpoints
        self.base: str | None = None
        #: parts whose weights are random until a checkpoint is read
        self.fresh_parts: tuple[str, ...] = ("encoder", "connector", "language_model")
        if quantized is not None:
            self.base = _check_quantized(start, adapters, swapped)
            self.model = quantized_model(self.base, quantized)
            self.fresh_parts = ()
            self.strict_loading = False  # of what is not in a checkpoint; what must be is checked here
        elif start is None:
            self.model = fresh_model(size, tokenizer=tokenizer, **swapped)
        else:
            started = started_model(start)
            self.model = swap(started, **swapped)
            self.fresh_parts = ("connector",) if self.model.connector is not started.connector else ()
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
            "size": self.model.release_config,
            "connector": connector,
            "connector_options": connector_options,
            "positions": positions,
            "visibility": visibility,
            "window": window,
            "train": self.train_parts,
            "betas": list(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_share": warmup_share,
            "min_lr": min_lr,
            "recompute": recompute,
            "compile": compile,
            "answer_tokens": answer_tokens,
            "answer_batches": answer_batches,
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
        if self.base is not None and self._trainer is not None:
            self._check_place()
        if self.recompute:
            self.model.set_gradient_checkpointing(True)
        if self.compile_layers:
            compile_blocks(self.model)
        mesh = getattr(self, "_device_mesh", None)
        if mesh is not None:
            if mesh["tensor_parallel"].size() > 1:
                raise ValueError("layers are not split over processes; set tensor_parallel_size: 1")
            shard(self.model, mesh["data_parallel"], half=str(self.trainer.precision).startswith("bf16"))

    def _check_place(self) -> None:
        """Quantized weights stay whole, and where they are."""
        if getattr(self, "_device_mesh", None) is not None:
            raise OptionError("quantized weights are not split over processes; leave quantization, or the strategy")
        wanted, there = self.trainer.strategy.root_device, next(self.model.parameters()).device
        if wanted != there:
            raise OptionError(
                f"the quantized weights are on {there} and the trainer runs on {wanted}; choose the device by "
                "CUDA_VISIBLE_DEVICES and leave trainer.accelerator and trainer.devices to it"
            )

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
        """Sum of the losses of the supervised tokens, and what it is made of.

        Returns:
            loss: () float32, with gradient.
            parts: (2, len(SAMPLE_KINDS)) float64, sums of losses and counts of tokens by kind of sample.
        """
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE)
        chosen = targets != IGNORE
        output = self.model(
            batch.input_ids,
            **visual_inputs(batch, self.visibility, self.window),
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            labels=batch.labels,
            supervised_only=True,
        )
        kinds = [SAMPLE_KINDS.index(kind_of(stats)) for stats in batch.stats] or [SAMPLE_KINDS.index("text")]
        parts = torch.zeros(2, len(SAMPLE_KINDS), dtype=torch.float64, device=chosen.device)
        count = chosen.sum()
        if len(set(kinds)) == 1:
            parts[:, kinds[0]] = torch.stack([output.loss.detach() * count, count])
        else:
            columns = chosen.any(0)
            kept = chosen[:, columns]
            owner = torch.tensor(kinds, device=chosen.device)[samples_of(batch)[:, columns][kept]]
            losses = _losses(output.logits[kept], targets[:, columns][kept])
            parts[0].index_add_(0, owner, losses.double())
            parts[1].index_add_(0, owner, torch.ones_like(owner, dtype=torch.float64))
        return output.loss * count, parts

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, parts = self(batch)
        self._sums = parts if self._sums is None else self._sums + parts
        return cast(Tensor, loss / _SCALE)

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
        scale = _SCALE * self.trainer.accumulate_grad_batches * self.trainer.world_size / total
        learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for parameter in learning:
            cast(Tensor, parameter.grad).mul_(scale)
        norm = nn.utils.clip_grad_norm_(learning, gradient_clip_val or math.inf)
        self.log("loss", losses.sum() / total, prog_bar=True)
        self.log("supervised_tokens", counts.sum())
        self.log("gradient_norm", norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
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

    @torch.no_grad()
    def answer(self, batch: Batch) -> list[dict[str, Any]]:
        """Greedy answers to the last turn of each row.

        Returns:
            For each row: name, record, answer, expected (None where nothing is supervised), exact.
        """
        processor = self.processor
        if processor is None:
            raise OptionError("the model has no processor to write answers with: call data.connect(model) first")
        tokenizer = processor.tokenizer
        asked = prompts(batch, processor.pad_id)
        written = self.model.generate(
            asked.input_ids,
            **visual_inputs(asked, self.visibility, self.window),
            attention_mask=asked.attention_mask,
            max_new_tokens=self.answer_tokens,
            do_sample=False,
            pad_token_id=processor.pad_id,
            eos_token_id=tokenizer.eos_token_id,
        )[:, asked.input_ids.shape[1] :]
        answers = []
        named = zip(batch.names, batch.records, written, last_answers(batch), strict=True)
        for name, record, new, wanted in named:
            said = tokenizer.decode(new, skip_special_tokens=True).strip()
            expected = tokenizer.decode(wanted, skip_special_tokens=True).strip() if len(wanted) else None
            exact = said == expected
            answers.append({"name": name, "record": record, "answer": said, "expected": expected, "exact": exact})
        return answers

    # -- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what `ov2kit convert` needs to make a model directory of the checkpoint alone."""
        if self._files is None and self.processor is not None:
            self._files = companions_of(self.processor)
        checkpoint["ov2kit"] = lightning_entry(self.model, self._files)
        if self.base is not None:
            checkpoint["ov2kit"]["base"] = base_entry(self.base)
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if ".lora_" in name}
        checkpoint["trainer_settings"] = trainer_settings(self._trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of a newer format before its weights are taken; those of version 1 have other names."""
        check_lightning_entry(checkpoint.get("ov2kit"), "checkpoint")
        state = checkpoint.get("state_dict") or {}
        inner = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
        if self.base is not None:
            check_base((checkpoint.get("ov2kit") or {}).get("base") or {}, self.base, "the checkpoint")
            wanted = {name for name in self.model.state_dict() if ".lora_" in name}
            if wanted != set(inner):
                raise CheckpointError("the checkpoint does not hold the adapters that the settings make")
        elif inner:
            rest = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
            renamed = from_part_names(self.model, inner)
            checkpoint["state_dict"] = rest | {PREFIX + name: tensor for name, tensor in renamed.items()}

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


def _check_quantized(start: str | None, adapters: Any, swapped: Mapping[str, Any]) -> str:
    """The directory to quantize, absolute.

    Raises:
        OptionError: quantization has nothing to start from, nothing would learn, or a part would be in no file.
    """
    if start is None:
        raise OptionError("quantization needs a model to start from: set start (--model.start DIR)")
    if adapters is None:
        raise OptionError("quantized weights do not learn: set lora as well (--model.lora '{r: 16}')")
    if changed := [name for name, value in swapped.items() if value is not None]:
        raise OptionError(
            f"{' and '.join(changed)} cannot be changed beside quantization, whose checkpoints hold adapters alone; "
            "make a directory with it first: a run without quantization, then ov2kit convert"
        )
    return str(Path(start).expanduser().absolute())


@torch.no_grad()
def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(T, V) logits and (T,) targets -> (T,) float32, a thousand at a time to stay small."""
    pieces = (slice(start, start + 1024) for start in range(0, len(targets), 1024))
    return torch.cat([F.cross_entropy(logits[p].float(), targets[p], reduction="none") for p in pieces])


def samples_of(batch: Batch) -> Tensor:
    """(B, S) int64: the sample that each token belongs to; filling of a packed row comes after the last."""
    if batch.position_ids is not None:
        return (batch.position_ids == 0).long().flatten().cumsum(0).view_as(batch.position_ids) - 1
    rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
    return rows[:, None].expand_as(batch.input_ids)


def kind_of(stats: Mapping[str, float]) -> str:
    """What a sample shows, one of `SAMPLE_KINDS`; the first where it shows several."""
    return next((kind for kind in SAMPLE_KINDS if stats.get(kind)), "text")
