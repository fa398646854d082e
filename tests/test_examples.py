"""Single parts in other people's classes: what the examples promise, checked against those classes."""

import importlib
import re
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import Attention
from torch import nn

from ov2kit import Canvases, Segments
from ov2kit.codec import CodecTokenizer
from ov2kit.positional import packed_positions
from tests.paths import ROOT, SAMPLE

from .pages import python_blocks, run_page

EXAMPLES = ROOT / "examples"
QWEN = ("Qwen2_5_VL", "Qwen3VL")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("an example opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def load(name, needs_transformers=True):
    """The module of one example; the test is skipped where its extra is not installed."""
    if needs_transformers:
        pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(name)


def sharpened(module, factor):
    """The module with its queries, keys and values scaled, as freshly drawn attention hardly discriminates."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "qkv.weight" in name:
                parameter.mul_(factor)
    return module


def losses(text):
    return [float(number) for number in re.findall(r"loss (\d+\.\d+)", text)]


def swap_blocks(canvases: Canvases, canvas: int, first: tuple[int, int], second: tuple[int, int], what: str):
    """Exchange the pixels ("images") or the sources ("positions") of two blocks of one canvas."""
    side = canvases.merge * (canvases.patch if what == "images" else 1)
    tensor = getattr(canvases, what).clone()
    view = tensor if what == "positions" else tensor.permute(0, 2, 3, 1)
    a, b = ((slice(r * side, (r + 1) * side), slice(c * side, (c + 1) * side)) for r, c in (first, second))
    view[canvas][a], view[canvas][b] = view[canvas][b].clone(), view[canvas][a].clone()
    return replace(canvases, **{what: tensor})


def test_no_example_is_left_untested():
    others = [ROOT / "tests" / "recipes" / name for name in ("clients/test_trl.py", "datasets/test_other_loaders.py")]
    here, others = Path(__file__).read_text(), "".join(path.read_text() for path in others)
    for path in EXAMPLES.glob("*.py"):
        assert f'load("{path.stem}"' in here or f"import {path.stem}" in others or f'"{path.stem}"' in others, path
        assert "taught" in path.read_text() or "def main" not in path.read_text(), f"{path} says no limits"


# ---- examples/qwen_vl_canvases.py


@pytest.fixture(scope="module", params=QWEN)
def qwen(request):
    example = load("qwen_vl_canvases")
    name = request.param
    patch = load("tiny_qwen").PICTURES[name]["patch_size"]
    canvases = CodecTokenizer(budget_canvases=3, patch=patch, max_pixels=25_000)(SAMPLE)
    canvases.positions[2, -2:, -2:] = -1  # the last block becomes padding
    canvases.images[2, :, -2 * patch :, -2 * patch :] = 0
    canvases.validate()
    processor, model = example.build(name)
    prompt = "<|vision_start|><|image_pad|><|vision_end|>" * len(canvases) + "What next ?"
    inputs = processor(text=prompt, images=list(canvases.images), do_resize=False, return_tensors="pt")
    return example, name, canvases, model, inputs


def test_qwen_tensors_are_the_processors_own(qwen):
    example, name, canvases, _, inputs = qwen
    ours = example.qwen_images(canvases, name)
    torch.testing.assert_close(ours["pixel_values"], inputs["pixel_values"], rtol=0, atol=1e-6)
    assert torch.equal(ours["image_grid_thw"], inputs["image_grid_thw"])
    assert ours["pixel_values"].is_contiguous()
    assert int((inputs["mm_token_type_ids"] == 1).sum()) == len(ours["pixel_values"]) // canvases.merge**2


@torch.inference_mode()
def test_qwen_exchanged_blocks_change_their_canvas_alone_and_the_answer(qwen):
    example, name, canvases, model, inputs = qwen
    swapped = swap_blocks(canvases, 1, (0, 1), (2, 4), "images")
    assert not torch.equal(swapped.images, canvases.images)
    before, after = (example.qwen_images(c, name) for c in (canvases, swapped))
    features = [model.model.get_image_features(**x).pooler_output for x in (before, after)]
    changes = [float((a - b).abs().max()) for a, b in zip(*features, strict=True)]
    assert changes[1] > 0.1
    assert max(changes[0], changes[2]) < 1e-5  # a canvas does not see the others in the tower
    logits = [model(**inputs | x).logits[0, -1] for x in (before, after)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_qwen_source_ids_block_by_block(qwen):
    example, _, canvases, model, inputs = qwen
    is_image = inputs["mm_token_type_ids"] == 1
    ids, _ = model.model.get_rope_index(**inputs)
    per_canvas = int(is_image.sum()) // len(canvases)
    times = ids[0][is_image].view(len(canvases), per_canvas)
    assert (times == times[:, :1]).all()  # what is lost without them: one time per canvas
    placed = example.source_position_ids(canvases, ids, is_image, ticks=2.0)
    origin = int(is_image[0].nonzero()[0])
    want = []
    for canvas in canvases.positions:
        for r in range(0, canvas.shape[0], 2):
            for c in range(0, canvas.shape[1], 2):
                frame, row, column = canvas[r, c].tolist()
                tick = round(canvases.frame_times[frame] * 2.0) if frame >= 0 else 0
                want.append([origin + tick, origin + max(row, 0) // 2, origin + max(column, 0) // 2])
    assert placed[1:][:, is_image].T.tolist() == want
    assert len({t for t, _, _ in want}) > 3
    assert placed[1:, 0, :origin].tolist() == ids[:, 0, :origin].tolist()
    text = placed[1:, 0, origin:][:, ~is_image[0, origin:]]
    assert (text.diff(dim=1) == 1).all()
    assert (text[:, 0] == max(map(max, want)) + 1).all()
    assert placed[0, 0].tolist() == list(range(is_image.shape[1]))


@torch.inference_mode()
def test_qwen_sources_reach_the_answer_only_through_the_ids(qwen):
    example, name, canvases, model, inputs = qwen
    frames = canvases.positions[1, ::2, ::2, 0]
    places = [tuple(p) for f in (frames.min(), frames.max()) for p in (frames == f).nonzero()[:1].tolist()]
    moved = swap_blocks(canvases, 1, *places, "positions")
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(example.qwen_images(c, name).values() for c in (canvases, moved)), strict=True)
    )
    ids, _ = model.model.get_rope_index(**inputs)
    is_image = inputs["mm_token_type_ids"] == 1
    placed = [example.source_position_ids(c, ids, is_image) for c in (canvases, moved)]
    logits = [model(**inputs, position_ids=p).logits[0, -1] for p in placed]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@torch.inference_mode()
def test_qwen_generate_goes_on_from_the_source_ids(qwen):
    example, _, canvases, model, inputs = qwen
    ids, _ = model.model.get_rope_index(**inputs)
    placed = example.source_position_ids(canvases, ids, inputs["mm_token_type_ids"] == 1)
    answer = model.generate(**inputs, position_ids=placed, max_new_tokens=5, do_sample=False)
    tokens, images = inputs["input_ids"], {k: inputs[k] for k in ("pixel_values", "image_grid_thw")}
    for _ in range(5):  # without a cache, every position spelt out
        logits = model(input_ids=tokens, position_ids=placed, use_cache=False, **images).logits
        tokens = torch.cat((tokens, logits[:, -1:].argmax(-1)), dim=1)
        placed = torch.cat((placed, placed[..., -1:] + 1), dim=2)
    assert answer.tolist() == tokens.tolist()


def test_qwen_main(capsys):
    load("qwen_vl_canvases").main()
    out = capsys.readouterr().out
    assert "Qwen2_5_VL" in out
    assert "Qwen3VL" in out
    assert "pixel_values (448, 1176)" in out  # 4 canvases of 8 x 14 patches, 3 * 2 * 14 * 14
    assert "pixel_values (288, 1536)" in out
    assert out.count("at their sources") == 2


# ---- examples/timm_rope_attention.py


@pytest.fixture(scope="module")
def vit_example():
    return load("timm_rope_attention", needs_transformers=False)


@pytest.fixture(scope="module")
def grouped():
    grouped = CodecTokenizer(budget_canvases=8, max_pixels=15_000)(SAMPLE)
    assert grouped.groups.tolist() == [0] * 4 + [1] * 4
    return grouped


@pytest.fixture(scope="module")
def run_vit(vit_example, grouped):
    vit = sharpened(vit_example.build(tuple(grouped.images.shape[2:])).eval(), 20)

    def run_vit(images=grouped.images, positions=grouped.positions):
        with torch.no_grad():
            return vit_example.features(vit, images / 127.5 - 1, positions.flatten(0, 2), grouped.segments())

    return run_vit


@pytest.mark.parametrize("bias", [True, False])
def test_timm_attention_without_positions_and_groups_it_is_timms_attention(vit_example, bias):
    theirs = Attention(64, num_heads=2, qkv_bias=bias).eval()
    ours = vit_example.PackedAttention(theirs)
    ours.see(torch.full((10, 3), 7), Segments.from_lengths([10]))
    x = torch.randn(1, 10, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)
    ours.see(packed_positions([(1, 2, 5)], 1), Segments.from_lengths([10]))
    assert (ours(x) - theirs(x)).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"Segments\.causal"):
        ours(x, is_causal=True)


def test_timm_attention_parts_it_has_not_are_not_lost(vit_example):
    with pytest.raises(RuntimeError, match="q_norm"):
        vit_example.PackedAttention(Attention(64, num_heads=2, qk_norm=True, norm_layer=nn.LayerNorm))


def test_timm_attention_another_groups_pictures_change_nothing(grouped, run_vit):
    other = grouped.images.clone()
    other[5] = 255 - other[5]
    before, after = run_vit().view(8, -1, 64), run_vit(images=other).view(8, -1, 64)
    assert torch.equal(before[:4], after[:4])
    assert ((before - after)[4:].abs().amax((1, 2)) > 1e-3).all()  # all of its own group sees it


def test_timm_attention_positions_and_not_the_order_say_where_a_canvas_is(grouped, run_vit):
    order = torch.tensor([2, 0, 3, 1, 4, 5, 6, 7])  # within group 0
    moved = run_vit(grouped.images[order], grouped.positions[order]).view(8, -1, 64)
    torch.testing.assert_close(moved, run_vit().view(8, -1, 64)[order], rtol=0, atol=1e-5)
    apart = run_vit(grouped.images[order], grouped.positions).view(8, -1, 64)
    assert (moved - apart)[:4].abs().max() > 1e-2


def test_timm_attention_only_distances_in_time_count(grouped, run_vit):
    later = grouped.positions + torch.tensor([1000, 0, 0])
    torch.testing.assert_close(run_vit(positions=later), run_vit(), rtol=0, atol=1e-3)
    stretched = grouped.positions * torch.tensor([3, 1, 1])
    assert (run_vit(positions=stretched) - run_vit()).abs().max() > 1e-2


def test_timm_attention_gradients_reach_every_parameter(vit_example, grouped):
    vit = vit_example.build(tuple(grouped.images.shape[2:]))
    out = vit_example.features(vit, grouped.images / 127.5 - 1, grouped.positions.flatten(0, 2), grouped.segments())
    vit.forward_head(out[None]).square().sum().backward()
    still = [name for name, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_timm_attention_main_learns(vit_example, capsys):
    vit_example.main()
    out = capsys.readouterr().out
    assert "tokens per group (448, 448)" in out
    first, *_, last = losses(out)
    assert last < first


# ---- examples/siglip_merger.py


@pytest.fixture(scope="module")
def siglip_example():
    return load("siglip_merger")


@pytest.fixture(scope="module")
def pictures(siglip_example):
    return CodecTokenizer(budget_canvases=3, max_pixels=15_000)(SAMPLE)


def test_siglip_tokens_are_those_of_the_qwen_merger_over_two_by_two_patches(siglip_example, pictures):
    from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger as QwenMerger

    tower, merger, _ = siglip_example.build()
    theirs = QwenMerger(48, 32, 2)
    theirs.load_state_dict(merger.state_dict())
    with torch.no_grad():
        tokens = siglip_example.visual_tokens(tower, merger, pictures)
        rows = tower(pictures.images / 127.5 - 1, interpolate_pos_encoding=True).last_hidden_state
        h, w = pictures.grid
        want = [
            theirs(rows[k, [r * w + c, r * w + c + 1, (r + 1) * w + c, (r + 1) * w + c + 1]])
            for k in range(len(pictures))
            for r in range(0, h, 2)
            for c in range(0, w, 2)
        ]
    assert len(tokens) == h * w // 4 * len(pictures)
    torch.testing.assert_close(tokens, torch.cat(want), rtol=0, atol=1e-5)
    assert (tokens - tokens[0]).abs().max() > 1e-2


def test_siglip_a_block_changes_its_own_canvas_alone(siglip_example, pictures):
    tower, merger, _ = siglip_example.build()
    swapped = swap_blocks(pictures, 1, (0, 0), (1, 3), "images")
    with torch.no_grad():
        before, after = (siglip_example.visual_tokens(tower, merger, c).view(3, -1, 48) for c in (pictures, swapped))
    change = (before - after).abs().amax(-1)
    assert change[1].min() > 1e-5
    assert change[[0, 2]].max() < 1e-6


def test_siglip_gradients_reach_the_merger_alone(siglip_example, pictures):
    tower, merger, llm = siglip_example.build()
    tokens = siglip_example.visual_tokens(tower, merger, pictures)
    llm(inputs_embeds=tokens[None]).logits[0, -1, 3].backward()
    assert all(p.grad is not None and p.grad.any() for p in merger.parameters())
    assert all(p.grad is None for part in (tower, llm) for p in part.parameters())


def test_siglip_main_learns(siglip_example, capsys):
    siglip_example.main()
    out = capsys.readouterr().out
    assert "tokens (112, 48), 28 per canvas" in out
    first, *_, last = losses(out)
    assert last < first


# ---- examples/timm_features.py


@pytest.fixture(scope="module")
def features_example():
    return load("timm_features", needs_transformers=False)


@pytest.fixture
def images():
    return torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def encoder_model(features_example):
    torch.manual_seed(0)
    return sharpened(timm.create_model(features_example.NAME, **features_example.SMALL).eval(), 8)


def test_timm_features_maps_are_the_encoders_hidden_states_in_place(features_example, encoder_model, images):
    backbone = timm.create_model(
        features_example.NAME, features_only=True, out_indices=(0, 2), **features_example.SMALL
    ).eval()
    kept = {k: v for k, v in encoder_model.state_dict().items() if k in backbone.model.state_dict()}
    backbone.model.load_state_dict(kept)
    with torch.no_grad():
        maps = backbone(images)
        pixels = images[1].unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).reshape(15, -1)
        _, hidden = encoder_model.trunk.forward_with_hidden(
            pixels, packed_positions([(1, 3, 5)], 1), Segments.from_lengths([15])
        )
    for m, block in zip(maps, (0, 2), strict=True):
        assert m.shape == (2, 64, 3, 5)
        for r in range(3):
            for c in range(5):
                torch.testing.assert_close(m[1, :, r, c], hidden[block + 1][5 * r + c], rtol=0, atol=1e-5)


def test_timm_features_transformers_timm_backbone_gives_the_same_maps(features_example, encoder_model, images):
    hf = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")
    config = hf.TimmBackboneConfig(backbone=features_example.NAME, out_indices=[1, 3])
    backbone = hf.TimmBackbone(config, **features_example.SMALL).eval()
    inner = backbone._backbone.model
    inner.load_state_dict({k: v for k, v in encoder_model.state_dict().items() if k in inner.state_dict()})
    with torch.no_grad():
        maps = backbone(images).feature_maps
        want = encoder_model.forward_intermediates(images, indices=[1, 3], intermediates_only=True)
    assert len(maps) == 2
    for got, expected in zip(maps, want, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_timm_features_time_of_a_clip_is_felt(encoder_model):
    clip = torch.rand(1, 3, 4, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = [encoder_model.forward_intermediates(c, indices=[3])[1][0] for c in (clip, clip.flip(2))]
        still, one = (
            encoder_model.forward_intermediates(c, indices=[3])[1][0] for c in (clip[:, :, 0], clip[:, :, :1])
        )
    assert (maps[0] - maps[1].flip(2)).abs().max() > 1e-3
    torch.testing.assert_close(one.squeeze(2), still, rtol=0, atol=1e-5)


def test_timm_features_a_detector_trains_the_whole_backbone_and_answers(features_example, images):
    torch.manual_seed(0)
    detector = features_example.build_detector(classes=3)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 30.0], [30.0, 10.0, 70.0, 44.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])}] * 2
    sum(detector(list(images), targets).values()).backward()
    still = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    # only the maps that are taken go into the loss, and they are taken before the last norm
    assert [n for n in still if "layernorm_post" not in n] == []
    images.requires_grad_()
    pyramid = detector.backbone(images[:, :, :32, :64])
    assert all(torch.autograd.grad(level.sum(), images, retain_graph=True)[0].any() for level in pyramid.values())
    with torch.no_grad():
        answers = detector.eval()(list(images))
    assert {k: tuple(v.shape) for k, v in pyramid.items()} == {
        "p3": (2, 32, 4, 8), "p4": (2, 32, 2, 4), "p5": (2, 32, 1, 2),
    }  # fmt: skip
    assert [set(a) for a in answers] == [{"boxes", "scores", "labels"}] * 2


def test_timm_features_main(features_example, capsys):
    features_example.main()
    out = capsys.readouterr().out
    assert "features_only: [(2, 64, 6, 8), (2, 64, 6, 8)] strides [16, 16]" in out
    assert "FCNHead on both maps: (2, 5, 96, 128)" in out
    assert "a clip of 4 frames: (1, 192, 64) and (1, 64, 4, 6, 8)" in out


# ---- docs/in_other_models.md


def test_page_code_runs_and_shapes_are_as_written(tmp_path, monkeypatch):
    hf_example, siglip_example = load("qwen_vl_canvases"), load("siglip_merger")
    processor, model = hf_example.build("Qwen2_5_VL")
    names = {"processor": processor, "model": model, "tower": siglip_example.build()[0]}
    path = EXAMPLES.parent / "docs" / "in_other_models.md"
    page = path.read_text()
    shutil.copy(SAMPLE, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(python_blocks(path)) == 4
    assert run_page(path, names) == 8
    assert len(names["tokens"]) == 28 * 4
    assert len(names["known"]) == names["canvases"].prompt().count("<|image_pad|>")
    pages = page + (ROOT / "docs" / "finetuning.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"({'../examples/' + path.name})" in pages or "def main" not in path.read_text(), path
