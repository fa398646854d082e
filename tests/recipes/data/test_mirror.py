"""Mirrored training samples: every patch shows the mirrored picture at its place, and the text says where it is now."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ov2kit.canvases import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.recipes.spatial.mirrored import mirror_canvases
from tests.clips import decoded, encode
from tests.conversation_data import conversation_data

SIZES: dict[str, Any] = {"min_pixels": 56 * 84, "max_pixels": 56 * 84}


def patches_show(canvases: Canvases, pictures: list[np.ndarray]) -> bool:
    """Whether each patch holds the pixels of its place in the picture of its frame; nothing is resized."""
    p = canvases.patch
    for k, row, column in (canvases.positions[..., 0] >= 0).nonzero().tolist():
        frame, y, x = canvases.positions[k, row, column].tolist()
        seen = canvases.images[k, :, row * p : (row + 1) * p, column * p : (column + 1) * p].permute(1, 2, 0)
        if not np.array_equal(seen.numpy(), pictures[frame][y * p : (y + 1) * p, x * p : (x + 1) * p]):
            return False
    return True


@pytest.mark.parametrize("tokenizer", [CodecTokenizer(6, **SIZES), FrameTokenizer(4, **SIZES)])
def test_every_patch_shows_the_mirrored_frame_at_its_place(tokenizer: Any, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    encode(clip, frames=24, size=(56, 84), gop=12)
    pictures = decoded(clip)
    canvases = tokenizer(clip)
    mirrored = mirror_canvases(canvases).validate()
    assert patches_show(canvases, pictures)
    assert patches_show(mirrored, [picture[:, ::-1] for picture in pictures])
    assert not torch.equal(mirrored.positions, canvases.positions) or bool(canvases.is_anchor.all())
    assert mirrored.prompt() == canvases.prompt()
    assert mirror_canvases(mirrored) == canvases


def test_a_mirrored_picture_is_the_picture_of_a_mirrored_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
    tokenizer = ImageTokenizer(**SIZES)
    expected = tokenizer(Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])))
    assert mirror_canvases(tokenizer(Image.fromarray(pixels))) == expected


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Twenty pictures with a dot whose place the answer says; every fourth question names a side."""
    lines = []
    for i in range(20):
        pixels = np.zeros((56, 84, 3), dtype=np.uint8)
        pixels[28:30, i * 4 : i * 4 + 2] = 255
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        question = "What is on the left?" if i % 4 == 0 else "Where is the dot?"
        answer = f"({round(1000 * (i * 4 + 1) / 84)}, {round(1000 * 29 / 56)})"
        turns = [{"role": "user", "content": f"<image>{question}"}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"id": str(i), "messages": turns, "images": [f"{i}.png"]}))
    path = tmp_path / "dots.jsonl"
    path.write_text("\n".join(lines))
    return path


def samples(path: Path, epochs: int = 1, **options: Any) -> list[tuple[str, float, float, str]]:
    """(record, mirrored, column of the dot's middle in pixels, answer) of every training sample."""
    data = conversation_data(str(path), **options, **SIZES)
    data.setup("fit")
    assert data.processor is not None
    loader, found = data.train_dataloader(), []
    for _ in range(epochs):
        for batch in loader:
            for row in range(len(batch.names)):
                labels = batch.labels[row]
                answer = data.processor.tokenizer.decode(labels[labels >= 0])
                n = 24
                values = batch.pixel_values[row * n : (row + 1) * n].view(n, 3, 14, 14)[:, 0]
                k, _, x = (values > 0).nonzero().unbind(1)
                columns = batch.positions[row * n : (row + 1) * n, 2][k] * 14 + x
                mirrored = batch.stats[row]["mirrored"]
                found.append((batch.names[row], mirrored, float(columns.float().mean()) + 0.5, answer))
    return found


def test_pixels_and_answers_agree_in_every_mirrored_sample(records: Path) -> None:
    seen = samples(records, mirror=1.0, batch_size=2)
    assert len(seen) == 20
    for name, mirrored, column, answer in seen:
        assert mirrored == float(int(name) % 4 != 0)  # a question that names a side has no mirror image
        said = re.search(r"\((\d+), 518\)", answer)
        assert said is not None
        assert int(said[1]) * 84 / 1000 == pytest.approx(column, abs=0.1)


def test_each_epoch_mirrors_others_whatever_the_workers(records: Path) -> None:
    alone = samples(records, 2, mirror=0.5)
    assert alone == samples(records, 2, mirror=0.5, num_workers=2)
    first, second = ({name for name, mirrored, *_ in alone[k : k + 20] if mirrored} for k in (0, 20))
    assert first != second
    assert 3 <= len(first) <= 12  # of 15 that can be
    plain = samples(records, mirror=0.0)
    assert [name for name, *_ in plain] == [name for name, *_ in alone[:20]]  # the order is that of other runs
    assert not any(mirrored for _, mirrored, *_ in plain)


def test_validation_is_never_mirrored(records: Path) -> None:
    data = conversation_data(str(records), mirror=1.0, val_path=str(records), **SIZES)
    data.setup("fit")
    assert all(stats["mirrored"] == 0 for batch in data.val_dataloader() for stats in batch.stats)


def test_prepared_directories_are_mirrored_too(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", frames=24, size=(56, 84), gop=12)
    canvases = CodecTokenizer(6, **SIZES)(tmp_path / "a.mp4")
    canvases.save(tmp_path / "prepared")
    turns = [{"role": "user", "content": "<video>Where?"}, {"role": "assistant", "content": "(100, 200)"}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": turns, "videos": ["prepared"]}))
    data = conversation_data(str(path), mirror=1.0, **SIZES)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert torch.equal(batch.positions, mirror_canvases(canvases).flat_positions())
    assert torch.equal(batch.pixel_values, mirror_canvases(canvases).pixel_values())
