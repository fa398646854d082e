"""The shards in other people's loaders: what the examples read is what the tokenizer makes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ov2kit.cli import run
from ov2kit.codec import CodecTokenizer
from ov2kit.recipes.datasets.shards import ShardFolder
from tests.patience import PATIENCE
from tests.test_examples import load


@pytest.fixture(scope="module")
def shards(some_videos, tmp_path_factory):
    """The folder of the shards, and sample -> canvases of the tokenizer itself."""
    out = tmp_path_factory.mktemp("shards") / "out"
    options = ["--budget_canvases", "2", "--max_pixels", "8000", "--videos_per_shard", "4", "--quiet"]
    assert run(["dataset", str(some_videos), "--out", str(out), *options]) == 0
    tokenizer = CodecTokenizer(2, max_pixels=8000)
    rows = [row for row in ShardFolder(out).rows() if row["status"] == "ok"]
    return out / "shards", {row["sample"]: tokenizer(str(some_videos / row["name"])) for row in rows}


def pixels(canvases):
    """(K, 3, H, W) uint8, as they are stored."""
    return canvases.images if canvases.images.dtype == torch.uint8 else (canvases.images * 255).round().byte()


def test_webdataset(shards):
    pytest.importorskip("webdataset")
    folder, wanted = shards
    example = load("webdataset_shards", needs_transformers=False)
    found = list(example.videos(str(folder / "shard-{000000..000001}.tar")))
    assert [video["key"] for video in found] == list(wanted)
    for video in found:
        canvases = wanted[video["key"]]
        assert np.array_equal(video["canvases"].transpose(0, 3, 1, 2), pixels(canvases).numpy())
        assert np.array_equal(video["positions"], canvases.positions.reshape(-1, 3).numpy())
    paths = sorted(map(str, folder.glob("*.tar")))
    assert {video["key"] for video in example.videos(paths, shuffle=10)} == set(wanted)


def test_energon(shards):
    pytest.importorskip("megatron.energon")
    folder, wanted = shards
    prepare = [str(Path(sys.executable).with_name("energon")), "prepare", str(folder), "--non-interactive"]
    prepare += ["--split-parts", "train:.*", "--sample-type", "CrudeWebdataset"]
    subprocess.run(prepare, check=True, capture_output=True, timeout=PATIENCE)
    example = load("energon_shards", needs_transformers=False)
    found = {video.__key__: video for video in example.loader(str(folder), repeat=False)}
    assert set(found) == set(wanted)
    for key, canvases in wanted.items():
        assert torch.equal(found[key].canvases, pixels(canvases))
        assert torch.equal(found[key].positions, canvases.positions.reshape(-1, 3).to(found[key].positions.dtype))
