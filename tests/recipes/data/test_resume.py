"""Interrupted and resumed training sees exactly the batches of an uninterrupted run."""

import multiprocessing
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from ov2kit.errors import DataError
from ov2kit.recipes import Batch, ConversationData
from tests.conversation_data import conversation_data
from tests.recordings import make_media, mixed_records, write_jsonl

Row = tuple[tuple[str, ...], int]  # names of a batch, and a checksum of everything in it


class Notes(LightningModule):
    """Learns one number, and writes down what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[Row] = []
        self.fail_in_batch = -1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == self.fail_in_batch:
            raise KeyError("on purpose")
        self.seen.append(row(batch))
        return (self.weight - batch.input_ids.float().mean()) ** 2

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert len(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def row(batch: Batch) -> Row:
    parts = [batch.input_ids, batch.labels, batch.positions, batch.pixel_values]
    return batch.names, zlib.crc32(b"".join(part.numpy().tobytes() for part in parts))


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversations")
    make_media(folder, 4, 3)
    records: list[Any] = mixed_records(9, 4, 4)
    records[3]["videos"] = ["broken.mp4"]
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return write_jsonl(folder / "all.jsonl", records)


def data(path: Path, **options: Any) -> ConversationData:
    small: dict[str, Any] = {"budget_canvases": 3, "max_pixels": 56 * 84, "max_bad_share": 0.2, "seed": 3}
    small["source"] = "mix"
    small["cache"] = str(path.parent / "cache")  # the same clips again and again
    return conversation_data(str(path), **(small | options))


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    plain = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    plain |= {"enable_model_summary": False, "default_root_dir": folder}
    if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        plain["enable_checkpointing"] = False
    return Trainer(**(plain | options), callbacks=list(callbacks))


def keep_all(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)


CASES = {
    "batches": {"batch_size": 2},
    "grouped, two workers": {"batch_size": 2, "group_by_length": True, "num_workers": 2},
    "stream": {"pack": "stream", "pack_length": 300, "pack_buffer": 4},
    "stream, two workers": {"pack": "stream", "pack_length": 300, "pack_buffer": 4, "num_workers": 2, "prefetch": 3},
    "endless stream": {"pack": "stream", "pack_length": 300, "pack_buffer": 5, "rows_per_epoch": 3},
    "offline": {"pack": "offline", "pack_length": 300},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_resume_gives_the_remaining_batches(conversations: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    whole = Notes()
    trainer(tmp_path, keep_all(tmp_path)).fit(whole, data(conversations, **options))
    n = len(whole.seen)
    assert n > 8
    assert len(set(whole.seen)) > n // 2  # epochs differ
    for step in (1, n // 3, n // 2, n - 2):
        rest = Notes()
        trainer(tmp_path).fit(rest, data(conversations, **options), ckpt_path=tmp_path / f"step={step}.ckpt")
        assert rest.seen == whole.seen[step:], f"from step {step}"


def test_workers_change_nothing(conversations: Path, tmp_path: Path) -> None:
    """A run may go on with another number of workers."""
    for options in ({"batch_size": 3}, {"pack": "stream", "pack_length": 300, "pack_buffer": 6}):
        runs = []
        for num_workers in (0, 2):
            module = Notes()
            trainer(tmp_path, max_epochs=2).fit(module, data(conversations, num_workers=num_workers, **options))
            runs.append(module.seen)
        assert runs[0] == runs[1]


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"pack": "stream", "pack_length": 300, "pack_buffer": 3}])
def test_resume_with_accumulated_batches(conversations: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    whole = Notes()
    limits: dict[str, Any] = {"max_steps": 7, "max_epochs": -1, "accumulate_grad_batches": 2}
    trainer(tmp_path, keep_all(tmp_path), **limits).fit(whole, data(conversations, **options))
    for step in (1, 2, 3):
        rest = Notes()
        saved = tmp_path / f"step={step}.ckpt"
        trainer(tmp_path, **limits).fit(rest, data(conversations, **options), ckpt_path=saved)
        done = len(whole.seen) - len(rest.seen)
        assert rest.seen == whole.seen[done:]
        assert 2 * step - 1 <= done <= 2 * step  # an epoch of odd length ends with half a step
        assert torch.equal(rest.weight, whole.weight)


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"pack": "stream", "pack_length": 300}])
def test_workers_end_with_the_training(conversations: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    before = set(multiprocessing.active_children())
    module, held = Notes(), data(conversations, num_workers=1, **options)
    trainer(tmp_path, max_steps=1).fit(module, held)
    assert len(module.seen) == 1
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"pack": "stream", "pack_length": 300, "pack_buffer": 3}])
def test_a_batch_that_was_not_finished_comes_again(
    conversations: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, first, rest = Notes(), Notes(), Notes()
    trainer(tmp_path).fit(whole, data(conversations, **options))
    first.fail_in_batch = 5
    broken = trainer(tmp_path)
    with pytest.raises(KeyError):
        broken.fit(first, data(conversations, **options))
    broken.save_checkpoint(tmp_path / "broken.ckpt")
    trainer(tmp_path).fit(rest, data(conversations, **options), ckpt_path=tmp_path / "broken.ckpt")
    assert first.seen + rest.seen == whole.seen


def test_resume_after_validation_in_an_epoch(conversations: Path, tmp_path: Path) -> None:
    options = {"batch_size": 2, "val_share": 0.3, "source": "codec"}
    whole, rest = Notes(), Notes()
    limits: dict[str, Any] = {"val_check_interval": 2, "max_epochs": 2}
    trainer(tmp_path, keep_all(tmp_path), **limits).fit(whole, data(conversations, **options))
    trainer(tmp_path, **limits).fit(rest, data(conversations, **options), ckpt_path=tmp_path / "step=3.ckpt")
    assert rest.seen == whole.seen[3:]


def test_checkpoint_holds_plain_values(conversations: Path, tmp_path: Path) -> None:
    options = {"pack": "stream", "pack_length": 300, "pack_buffer": 4}
    trainer(tmp_path, keep_all(tmp_path), max_steps=3).fit(Notes(), data(conversations, **options))
    saved = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
    at = saved["ConversationData"]["train"]["at"][0]
    assert at["row"] == 2
    assert at["held"], "samples wait in the buffer here, or this test shows nothing"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 3}, r"batch_size was 2 and is 3"),
        ({"seed": 4}, r"seed was 3 and is 4"),
        ({"source": "codec"}, r"source and mix was"),
        ({"pack": "stream", "batch_size": 1}, r"pack was None and is 'stream'"),
    ],
)
def test_resume_refuses_what_changes_batches(
    conversations: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    trainer(tmp_path, keep_all(tmp_path), max_steps=2).fit(Notes(), data(conversations, batch_size=2))
    with pytest.raises(DataError, match=told):
        trainer(tmp_path).fit(
            Notes(), data(conversations, **({"batch_size": 2} | change)), ckpt_path=tmp_path / "step=2.ckpt"
        )


def test_resume_refuses_other_records(conversations: Path, tmp_path: Path) -> None:
    trainer(tmp_path, keep_all(tmp_path), max_steps=2).fit(Notes(), data(conversations, batch_size=2))
    fewer = conversations.with_name("fewer.jsonl")
    fewer.write_text("".join(conversations.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="records was"):
        trainer(tmp_path).fit(Notes(), data(fewer, batch_size=2), ckpt_path=tmp_path / "step=2.ckpt")


def test_loader_alone_resumes(conversations: Path) -> None:
    """Without a trainer: state_dict of a loader that is half-way."""
    for options in ({"batch_size": 2}, {"pack": "stream", "pack_length": 300, "pack_buffer": 4}):
        module = data(conversations, **options)
        whole = [row(batch) for _ in range(2) for batch in module.train_dataloader()]
        for stop in range(0, len(whole), 3):
            first = data(conversations, **options).train_dataloader()
            batches = (batch for _ in range(2) for batch in first)
            begun = [row(next(batches)) for _ in range(stop)]
            second = data(conversations, **options).train_dataloader()
            second.load_state_dict(first.state_dict())
            rest = [row(batch) for _ in range(2) for batch in second]
            assert (begun + rest)[: len(whole)] == whole
