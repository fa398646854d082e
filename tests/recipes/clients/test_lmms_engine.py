"""Canvases in the form that lmms-engine reads, beside what its own front end hands it, and through its own dataset."""

import dataclasses
import json
import sys
from types import ModuleType

import av
import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import CanvasError
from ov2kit.recipes import build, release_config, small_tokenizer
from ov2kit.recipes.clients.lmms_engine import EngineVideo
from tests.clips import encode
from tests.paths import SAMPLE

TIMES = [0, 40, 80, 500, 1000, 2500, 2540, 2580, 4000, 4040, 4080, 6000]


@pytest.fixture(scope="module")
def canvases(tmp_path_factory):
    """Several groups of a clip whose times follow no rate."""
    clip = encode(tmp_path_factory.mktemp("clip") / "vfr.mp4", frames=len(TIMES), times_ms=TIMES)
    found = CodecTokenizer(6, canvases_per_group=2, max_pixels=16_000)(str(clip))
    assert len(found.segments().lengths) > 1
    return clip, found


def test_fields_follow_from_the_canvases(canvases):
    clip, own = canvases
    video = EngineVideo.of(own)
    assert torch.equal(video.canvases, own.images)
    assert torch.equal(video.patch_positions.view(own.positions.shape), own.positions.long())
    assert video.n_groups == len(own.segments().lengths) == int(video.gop_ids[-1]) + 1
    with av.open(str(clip)) as file:
        true = [frame.time for frame in file.decode(video=0)]
    for group in range(video.n_groups):
        mine = video.gop_ids == group
        frames = own.positions[mine][..., 0]
        assert video.source_pts[mine].tolist() == pytest.approx([true[int(frames.min())]] * int(mine.sum()))


def test_they_have_the_forms_that_its_own_front_end_gives(canvases):
    utils = pytest.importorskip("lmms_video_utils", reason="needs lmms-eval and lmms-video-utils: make clients")
    theirs = utils.fetch_codec_video(str(SAMPLE), target_canvas=8, max_pixels=20_000)
    mine = EngineVideo.of(canvases[1])
    assert {field.name for field in dataclasses.fields(mine)} == {field.name for field in dataclasses.fields(theirs)}
    for name in ("canvases", "patch_positions", "gop_ids", "source_pts"):
        ours, other = getattr(mine, name), getattr(theirs, name)
        assert (ours.dtype, ours.ndim, ours.shape[1:2]) == (other.dtype, other.ndim, other.shape[1:2]), name
    for video in (mine, theirs):
        height, width = (side // 14 for side in video.canvases.shape[2:])
        assert len(video.patch_positions) == len(video.canvases) * height * width
        whole = video.patch_positions[: height * width].view(height, width, 3)  # the first canvas is a whole frame
        assert whole[0, :, 2].tolist() == list(range(width))
        assert whole[:, 0, 1].tolist() == list(range(height))
        assert [len(set(video.source_pts[video.gop_ids == n].tolist())) for n in range(video.n_groups)] == (
            [1] * video.n_groups
        )
        assert isinstance(video.fps, float)
        assert isinstance(video.n_groups, int)


def block_order(rows, t, height, width, spatial_merge_size):
    """Raster order of canvases to that of merge x merge blocks, by its definition."""
    m, grid = spatial_merge_size, rows.view(t, height, width, 3)
    return torch.stack(
        [
            grid[k, top + i, left + j]
            for k in range(t)
            for top in range(0, height, m)
            for left in range(0, width, m)
            for i in range(m)
            for j in range(m)
        ]
    )


class OfCheckpoint:
    """What the released checkpoint brings as Python files: a processor, whose modules have two functions."""

    def __init__(self, monkeypatch):
        from transformers import Qwen2VLImageProcessor

        module = ModuleType("codec_video_processing_llava_onevision2")
        module.convert_positions_to_block_layout = block_order
        module.build_patch_positions = None  # of pictures, of which the test has none
        monkeypatch.setitem(sys.modules, module.__name__, module)
        sides = {"shortest_edge": 28 * 28, "longest_edge": 10**6}
        self.image_processor = Qwen2VLImageProcessor(patch_size=14, merge_size=2, temporal_patch_size=1, size=sides)
        self.video_processor = type("VideoProcessor", (), {"__module__": module.__name__})()
        self.tokenizer = small_tokenizer()

    def apply_chat_template(self, messages, tokenize=True):
        return self.tokenizer.apply_chat_template(messages, tokenize=tokenize, chat_template=self.chat_template)


def test_its_own_dataset_and_collator_train_our_model(tmp_path, monkeypatch):
    """With lmms-engine 0.1.4; docs/assets.md says how to install it."""
    datasets = pytest.importorskip("lmms_engine.datasets", reason="needs lmms-engine, see docs/assets.md")
    from lmms_engine.datasets.iterable import LlavaOv2IterableDataset
    from lmms_engine.datasets.processor import LlavaOnevision2DataProcessor

    tokenize, seen = CodecTokenizer(6, canvases_per_group=3, max_pixels=16_000), []

    class Clips(LlavaOv2IterableDataset):
        def load_codec_videos(self, video_path, data_folder=None, fps=1, video_kwargs=None):
            seen.append(tokenize(f"{data_folder}/{video_path}"))
            video = EngineVideo.of(seen[-1])
            return video.canvases.permute(0, 2, 3, 1).numpy(), video.fps, video

    released = OfCheckpoint(monkeypatch)
    monkeypatch.setattr(LlavaOnevision2DataProcessor, "_build_processor", lambda self: released)
    encode(tmp_path / "other.mp4", frames=25)
    (tmp_path / "sample.mp4").write_bytes(SAMPLE.read_bytes())
    with (tmp_path / "rows.jsonl").open("w") as file:
        for name, said in (("sample.mp4", "A rabbit sits in a meadow."), ("other.mp4", "Squares.")):
            video = [{"type": "video_url", "video_url": {"url": name}}, {"type": "text", "text": "What happens?"}]
            answer = [{"type": "text", "text": said}]
            turns = [{"role": "user", "content": video}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    config = datasets.DatasetConfig(
        dataset_type="llava_ov2_iterable", dataset_format="yaml", shuffle=False, video_backend="lmms_video_utils",
        datasets=[{"path": str(tmp_path / "rows.jsonl"), "data_folder": str(tmp_path), "data_type": "jsonl"}],
        processor_config={"processor_name": "here", "processor_type": "llava_onevision2"},
    )  # fmt: skip
    dataset = Clips(config)
    dataset.build()
    batch = dataset.get_collator()(list(dataset))
    assert len(seen) == 2
    grids = [[1, *canvases.grid] for canvases in seen for _ in range(len(canvases))]
    assert batch["image_grid_thw"].tolist() == grids
    pixels = torch.cat([canvases.pixel_values() for canvases in seen])
    torch.testing.assert_close(batch["pixel_values"], pixels, atol=1e-5, rtol=1e-5)
    assert torch.equal(batch["patch_positions"], torch.cat([canvases.flat_positions() for canvases in seen]).long())
    pad = released.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (batch["input_ids"] == pad).sum(1).tolist() == [canvases.num_tokens for canvases in seen]
    assert (batch["labels"] == pad).sum() == 0
    for row, canvases in zip(batch["input_ids"], seen, strict=True):
        text = released.tokenizer.decode(row)
        stamps = [
            f"<{seconds:.1f} seconds><|vision_start|>" for seconds in EngineVideo.of(canvases).source_pts.tolist()
        ]
        assert text.count("seconds>") == len(stamps)
        assert all(text.count(stamp) == stamps.count(stamp) for stamp in stamps)

    torch.manual_seed(0)
    model = build(release_config("tiny", tokenizer=released.tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(3):
        loss = model(**batch).loss
        loss.backward()
        assert all(p.grad is not None for p in model.encoder.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[2] < losses[0]


def test_several_clips_or_a_group_without_a_picture_are_refused(canvases):
    _, own = canvases
    with pytest.raises(CanvasError, match=r"canvases\.split"):
        EngineVideo.of(Canvases.cat([own, own]))
    with pytest.raises(CanvasError, match="every block is padding"):
        EngineVideo.of(dataclasses.replace(own, positions=torch.full_like(own.positions, -1)))
