"""A processor as files: written and read again, and from the directory of a release."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, MotionResidualSaliency, ReadinessGrouping
from ov2kit.errors import CheckpointError, OutputError
from ov2kit.recipes import Processor
from tests.paths import SAMPLE
from tests.recipes.prompt.conversations import TOKENIZER, image, processor, same, user, video


def test_saved_and_read_it_does_the_same(tmp_path):
    p = Processor(
        TOKENIZER,
        codec=CodecTokenizer(budget_tokens=60, preset="release", grouping="fixed", max_pixels=9_000, motion="none"),
        frames=FrameTokenizer(5, target_fps=1.0, group=1, canvas_size=(56, 84)),
        image=ImageTokenizer(max_pixels=5_000),
        source="frames",
        frame_share=0.7,
        decimals=2,
        system=None,
        supervise="last",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.5, 0.5),
    )
    p.save_pretrained(tmp_path / "new" / "model")
    again = Processor.from_pretrained(tmp_path / "new" / "model")
    pixels = np.full((90, 90, 3), 7, np.uint8)
    talk = [user(video(SAMPLE), video(SAMPLE, source="codec"), image(pixels)), user("?")]
    one, other = p(talk), again(talk)
    assert same(one, other)
    assert again.text(talk) == p.text(talk)
    assert (again.source, again.decimals, again.system, again.supervise) == ("frames", 2, None, "last")
    assert again.hybrid.frame_share == again.frame_share == 0.7
    assert again.codec.options() == p.codec.options()
    assert again.frames.options() == p.frames.options()
    changed = Processor.from_pretrained(tmp_path / "new" / "model", codec={"budget_canvases": 2}, decimals=1)
    assert (changed.codec.budget_canvases, changed.codec.budget_tokens, changed.decimals) == (2, None, 1)
    assert changed.codec.scorer.motion == "none"


RELEASE = {
    "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2, "temporal_patch_size": 1,
    "min_pixels": 6272, "max_pixels": 501_760, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
    "do_resize": True, "codec": {"target_canvas": 48, "max_pixels": 120_000, "backend": "kept"}, "unknown": [1],
}  # fmt: skip


def release(path, **changes):
    TOKENIZER.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(RELEASE | changes))
    return path


def test_a_release_directory_gives_its_sizes(tmp_path):
    p = Processor.from_pretrained(release(tmp_path))
    assert (p.patch, p.merge, p.mean, p.std) == (14, 2, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert [(t.min_pixels, t.max_pixels) for t in (p.image, p.frames, p.codec)] == [
        (6272, 501_760), (6272, 501_760), (3136, 120_000)
    ]  # fmt: skip
    assert p.codec.budget_canvases == 48
    p.save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert {key: written[key] for key in RELEASE if key != "codec"} == {k: RELEASE[k] for k in RELEASE if k != "codec"}
    assert written["codec"]["backend"] == "kept"
    assert written["codec"]["target_canvas"] == 48
    newer = {"min_pixels": None, "max_pixels": None, "size": {"shortest_edge": 784, "longest_edge": 7840}}
    q = Processor.from_pretrained(release(tmp_path, **newer), image={"max_pixels": 6000}, frames=FrameTokenizer(7))
    assert Processor.from_pretrained(tmp_path).frames.max_pixels == 7840
    assert (q.image.min_pixels, q.image.max_pixels, q.frames.budget_canvases) == (784, 6000, 7)


def test_transformers_makes_the_same_pixels_from_the_written_file(tmp_path):
    p = Processor.from_pretrained(release(tmp_path))
    p.save_pretrained(tmp_path / "out")
    theirs = transformers.Qwen2VLImageProcessor.from_pretrained(tmp_path / "out")
    pixels = np.random.default_rng(1).integers(0, 256, (112, 140, 3), dtype=np.uint8)
    made = theirs(images=[Image.fromarray(pixels)], return_tensors="pt")
    sample = p([user(image(pixels))])
    assert made["image_grid_thw"].tolist() == [list(row) for row in sample.layout.grid_thw()]
    torch.testing.assert_close(sample.pixel_values, made["pixel_values"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 0}, r"patch_size must be a whole number above 0, got 0"),
        ({"merge_size": "2"}, r"merge_size must be a whole number above 0, got '2'"),
        ({"image_mean": [0.5]}, r"image_mean must be three numbers .* got \[0.5\]"),
        ({"image_std": [0.5, 0, 1]}, r"image_std must be three numbers"),
        ({"temporal_patch_size": 2}, r"temporal_patch_size must be 1, got 2"),
        ({"codec": [1]}, r"codec must be a JSON object, got \[1\]"),
        ({"ov2kit": {"codec": {"budget": 3}}}, r"codec: .*unexpected keyword argument 'budget'"),
        ({"ov2kit": {"codec": {"custom": ["grouping"]}}}, r"codec was saved with a grouping of its own; pass codec="),
    ],
)
def test_impossible_facts_are_named(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        Processor.from_pretrained(release(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_directories_without_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone: no such directory"):
        Processor.from_pretrained(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"no preprocessor_config.json there"):
        Processor.from_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{]")
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json: cannot be read"):
        Processor.from_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no tokenizer there"):
        Processor.from_pretrained(tmp_path)
    with pytest.raises(OutputError, match=r"cannot be written"):
        processor().save_pretrained(tmp_path / "preprocessor_config.json")


def test_modules_of_ones_own_are_asked_for_when_read(tmp_path):
    own = ReadinessGrouping(min_frames=3)
    p = Processor(TOKENIZER, codec=CodecTokenizer(grouping=own, saliency=MotionResidualSaliency(q=90.0)))
    p.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"codec was saved with a grouping and a saliency of its own"):
        Processor.from_pretrained(tmp_path)
    given = {"grouping": own, "saliency": MotionResidualSaliency(q=90.0)}
    assert Processor.from_pretrained(tmp_path, codec=given).codec.options() == p.codec.options()
    for name in ("bitcost", "fixed", "readiness", "container"):
        for preset in ("paper", "release", "event"):
            codec = CodecTokenizer(8, grouping=name, preset=preset, canvases_per_group=3)
            Processor(TOKENIZER, codec=codec).save_pretrained(tmp_path)
            assert Processor.from_pretrained(tmp_path).codec.options() == codec.options()
