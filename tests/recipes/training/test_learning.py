"""Learning is shown, not assumed: file -> codec -> encoder -> connector -> language model -> the exact answers."""

import json

import av
import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from ov2kit.recipes import LitLlavaOneVision2
from tests.clips import decoded
from tests.conversation_data import conversation_data
from tests.paths import SAMPLE

pytestmark = pytest.mark.usefixtures("one_thread")


QUESTION = "<video>\nWhat is this?"
ANSWERS = ("A rabbit stretches its arms.", "The same, upside down.", "It looks to the other side.", "At first, a hill.")


def write_clip(path, pictures):
    """H.264 at 25 frames a second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips whose question is the same: only the pictures tell which answer is right."""
    folder = tmp_path_factory.mktemp("clips")
    pictures = decoded(SAMPLE, size=(180, 320))
    made = {
        "flipped.mp4": [picture[::-1] for picture in pictures[40:88]],
        "mirrored.mp4": [picture[:, ::-1] for picture in pictures[60:108]],
        "start.mp4": pictures[:36],
    }
    for name, frames in made.items():
        write_clip(folder / name, frames)
    paths = [SAMPLE, *(folder / name for name in made)]
    lines = [
        {
            "id": path.stem,
            "messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}],
            "videos": [str(path)],
        }
        for path, answer in zip(paths, ANSWERS, strict=True)
    ]
    table = folder / "conversations.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return table


def data(clips, tmp_path, **options):
    return conversation_data(
        str(clips), val_path=str(clips), budget_canvases=4, max_pixels=8_000, batch_size=4, cache=str(tmp_path / "c"),
        **options,
    )  # fmt: skip


def trainer(tmp_path, steps, **options):
    return pl.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0, limit_val_batches=0,
        default_root_dir=tmp_path, **options,
    )  # fmt: skip


RATES = {"encoder": 1e-3, "connector": 1e-3, "language_model": 3e-3}


class Losses(pl.Callback):
    """Keeps the loss of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append(float(trainer.callback_metrics["loss"]))


def test_a_tiny_model_learns_real_clips_by_heart(clips, tmp_path):
    pl.seed_everything(0)
    model = LitLlavaOneVision2(train=RATES, warmup_share=0.05, min_lr=1e-4, answer_tokens=32)
    module, losses = data(clips, tmp_path), Losses()
    module.connect(model)
    trainer(tmp_path, 130, callbacks=[losses]).fit(model, module)
    assert losses.seen[0] > 4.0
    assert losses.seen[-1] < 0.05
    judge = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    scores = judge.validate(model, module, verbose=False)[0]
    assert scores["val/exact"] == 1.0
    blind = data(clips, tmp_path)
    blind.setup("validate")
    batch = next(iter(blind.val_dataloader()))
    shuffled = torch.roll(batch.pixel_values, batch.layout.num_patches // 4, 0)
    with torch.no_grad():
        seeing, _ = model(batch)
        confused, _ = model(batch.replace(pixel_values=shuffled))
    assert confused > 20 * seeing, "the answers must come from the pictures"


@pytest.mark.parametrize("frozen", ["encoder", "connector", "language_model"])
def test_gradients_reach_what_learns_and_nothing_else_moves(clips, tmp_path, frozen):
    pl.seed_everything(1)
    rates = {part: rate for part, rate in RATES.items() if part != frozen}
    model = LitLlavaOneVision2(train=rates, weight_decay=0.0, warmup_share=0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}

    class Gradients(pl.Callback):
        reached: set[str] = set()  # noqa: RUF012

        def on_before_optimizer_step(self, trainer, module, optimizer):
            for name, parameter in module.model.named_parameters():
                if parameter.grad is not None and parameter.grad.abs().max() > 0:
                    self.reached.add(name)

    gradients = Gradients()
    gradients.reached = set()
    module = data(clips, tmp_path)
    module.connect(model)
    trainer(tmp_path, 3, callbacks=[gradients]).fit(model, module)
    learning = {name for name in before if not model.model.part_name(name).startswith(f"{frozen}.")}
    assert gradients.reached == learning
    moved = {name for name, old in before.items() if not torch.equal(old, dict(model.model.named_parameters())[name])}
    assert moved == learning
    for name in RATES:  # a frozen part draws no dropout either
        assert getattr(model.model, name).training == (name != frozen)
