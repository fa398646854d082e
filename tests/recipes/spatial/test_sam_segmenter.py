"""SAM 2, EdgeTAM and the SAM 3 tracker: loaded from a folder, run on frames of a real clip, in the public order.

Weights are random, so masks mean nothing; that they are the same masks as those of a session that holds the whole video
does. The order of calls of the reference is that of the public evaluation.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ov2kit.errors import CheckpointError
from ov2kit.recipes.spatial.frames import VideoFrames
from ov2kit.recipes.spatial.sam_segmenter import SamSegmenter
from tests.paths import SAMPLE
from tests.recipes.spatial import tiny_sam

pytestmark = pytest.mark.usefixtures("one_thread")


PROMPTS = {
    3: {0: [(100.0, 100.0)]},
    6: {0: [(120.0, 100.0), (140.0, 90.0)], 3: [(300.0, 200.0)]},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = getattr(tiny_sam, kind)(tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


def whole_video(segmenter, frames):
    """Masks by a session that is given all pictures at once and forgets nothing."""
    model, processor = segmenter.model, segmenter.processor
    pictures = np.stack([frames[k].copy() for k in range(len(frames))])
    session = processor.init_video_session(video=pictures, inference_device=model.device)
    found = {}

    def propagate(start, count, reverse=False):
        for output in model.propagate_in_video_iterator(
            session, start_frame_idx=start, max_frame_num_to_track=count, reverse=reverse
        ):
            logits = processor.post_process_masks([output.pred_masks], [list(frames.size)], binarize=False)[0]
            found[output.frame_idx] = {i: (m[0] > 0).numpy() for i, m in zip(output.object_ids, logits, strict=True)}

    order = sorted(PROMPTS)
    for at, following in zip(order, [*order[1:], len(frames)], strict=True):
        for object_id, points in PROMPTS[at].items():
            processor.add_inputs_to_inference_session(
                session, frame_idx=at, obj_ids=object_id, input_points=[[[list(p) for p in points]]],
                input_labels=[[[1] * len(points)]], clear_old_inputs=True,
            )  # fmt: skip
        propagate(at, following - at - 1)
    propagate(order[0], order[0], reverse=True)
    return found


@pytest.mark.parametrize("kind", ["sam2", "edgetam", "sam3"])
def test_masks_are_those_of_a_session_that_holds_the_whole_video(kind, folders):
    segmenter = SamSegmenter.from_pretrained(folders(kind), device="cpu")
    frames = VideoFrames(SAMPLE, fps=2, keep=4)
    yielded = list(segmenter.segment(frames, PROMPTS))
    assert [number for number, _ in yielded] == [*range(3, len(frames)), 3, 2, 1, 0]
    found = dict(yielded)  # the first prompt frame comes twice, and the later one counts
    expected = whole_video(segmenter, frames)
    assert set(found) == set(range(len(frames))) == set(expected)
    for number, masks in expected.items():
        assert set(found[number]) == set(masks)
        for object_id, mask in masks.items():
            assert found[number][object_id].shape == frames.size
            assert (found[number][object_id] == mask).all(), (number, object_id)
    assert set(found[0]) == {0, 3}
    assert list(segmenter.segment(frames, {})) == []
    assert 0 < np.mean([masks[0].mean() for masks in found.values()]) < 1


def test_a_session_holds_no_more_for_a_longer_video(folders, monkeypatch):
    segmenter = SamSegmenter.from_pretrained(folders("sam2"), device="cpu")
    sessions = []
    start = segmenter._session
    monkeypatch.setattr(segmenter, "_session", lambda frames: sessions.append(start(frames)) or sessions[-1])
    held = []
    for fps in (3, 6):
        frames = VideoFrames(SAMPLE, fps=fps, keep=4)
        most = 0
        for _ in segmenter.segment(frames, {2: {0: [(100.0, 100.0)]}}):
            outputs = sessions[-1].output_dict_per_obj[0]
            most = max(most, len(outputs["non_cond_frame_outputs"]))
            assert not any("high_res_masks" in entry for stored in outputs.values() for entry in stored.values())
            assert len(frames._held) <= 4
        held.append(most)
    assert held[0] == held[1] <= 11  # 4 back from here, 4 around the first prompt and what both passes share


def test_odd_folders_are_refused(folders, tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a folder with the config\.json"):
        SamSegmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with pytest.raises(CheckpointError, match="'qwen3' is no point tracker; known: sam2_video"):
        SamSegmenter.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("version", "refused"), [("5.6.0", True), ("5.19.4", True), ("5.20.0", False), ("6.0.0", False)]
)
def test_a_transformers_that_cannot_read_the_folder_is_named(tmp_path, monkeypatch, version, refused):
    monkeypatch.setattr("transformers.__version__", version)
    for kind in ("sam2_video", "edgetam_video", "sam3_tracker_video"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        reason = "cannot be loaded" if not refused or kind.startswith("sam3") else f"transformers {version} cannot read"
        with pytest.raises(CheckpointError, match=reason):
            SamSegmenter.from_pretrained(tmp_path)


def test_missing_weights_are_refused_and_never_drawn_at_random(folders, tmp_path):
    for path in folders("sam2").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("mask_downsample.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as mask_downsample\.weight"):
        SamSegmenter.from_pretrained(tmp_path)


def test_half_precision_runs(folders):
    segmenter = SamSegmenter.from_pretrained(folders("sam2"), device="cpu", dtype=torch.bfloat16)
    frames = VideoFrames(SAMPLE, fps=1)
    assert len(list(segmenter.segment(frames, {0: {0: [(100.0, 100.0)]}}))) == len(frames)
