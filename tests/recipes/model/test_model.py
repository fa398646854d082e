"""LlavaOneVision2: the golden numbers, who sees whom in the text, and generation."""

import copy

import pytest
import torch
from torch import nn

from ov2kit import Segments
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.connectors import AttentionPool, ConvAbstractor, MLPConnector, PatchMerger, PerceiverResampler
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import OptionError
from ov2kit.recipes import LlavaOneVision2, Sample, VisualLayout, collate, pack
from tests.paths import SAMPLE
from tests.tiny_models import IMAGE, PAD, encoder, golden_files, language_model, run, sample, tiny

pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")


@pytest.fixture(scope="module")
def stored():
    """The golden model, and its cases."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    facts, weights, cases = golden_files()
    vision = OneVisionEncoder.from_config(facts["vision_config"])
    merger = PatchMerger(32, 64)
    text = Qwen3ForCausalLM(Qwen3Config(**facts["text_config"]))
    assert vision.load_release_state_dict(weights) == ([], [])
    assert merger.load_release_state_dict(weights) == ([], [])
    named = {k.replace("model.language_model.", "model."): v for k, v in weights.items() if "visual" not in k}
    assert not any(text.load_state_dict(named))
    return LlavaOneVision2({"image_token_id": facts["image_token_id"]}, vision, merger, text).eval(), cases


def pictures(cases, case="single"):
    return cases[f"{case}.pixel_values"], cases[f"{case}.patch_positions"]


class TestGolden:
    @torch.no_grad()
    def test_features_logits_and_loss(self, stored):
        model, cases = stored
        grid = cases["single.image_grid_thw"]
        features = model.visual_tokens(*pictures(cases), grid_thw=grid)
        torch.testing.assert_close(features, cases["single.image_features"], atol=1e-5, rtol=1e-5)
        out = model(
            cases["single.input_ids"][None], *pictures(cases), labels=cases["single.labels"][None], image_grid_thw=grid
        )
        torch.testing.assert_close(out.logits[0], cases["single.logits"], atol=5e-5, rtol=1e-5)
        torch.testing.assert_close(out.loss, cases["single.loss"], atol=1e-5, rtol=0)
        assert out.visual_tokens == len(features)

    @torch.no_grad()
    def test_rows_padded_on_the_left(self, stored):
        model, cases = stored
        mask = cases["batch.attention_mask"]
        grid = cases["batch.image_grid_thw"]
        out = model(
            cases["batch.input_ids"],
            *pictures(cases, "batch"),
            Segments.from_grid(grid),
            mask,
            cases["batch.labels"],
        )
        real = mask == 1
        torch.testing.assert_close(out.logits[real], cases["batch.logits"][real], atol=5e-5, rtol=1e-5)
        torch.testing.assert_close(out.loss, cases["batch.loss"], atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_text_alone(self, stored):
        model, cases = stored
        out = model(cases["text.input_ids"][None])
        torch.testing.assert_close(out.logits[0], cases["text.logits"], atol=5e-5, rtol=1e-5)
        assert out.loss is None
        assert out.visual_tokens == 0

    def test_greedy_tokens_with_cache_and_their_logits_without(self, stored):
        model, cases = stored
        prompt, new = cases["generate.prompt_ids"][None], cases["generate.new_ids"]
        grid = cases["single.image_grid_thw"]
        given = model.generate(prompt, *pictures(cases), image_grid_thw=grid, max_new_tokens=8, do_sample=False)
        assert given.tolist() == [prompt[0].tolist() + new.tolist()]
        with torch.no_grad():
            whole = model(torch.cat([prompt[0], new])[None], *pictures(cases), image_grid_thw=grid).logits[0]
        steps = whole[prompt.shape[1] - 1 : -1]
        torch.testing.assert_close(steps, cases["generate.step_logits"], atol=5e-5, rtol=1e-5)


class TestParts:
    @pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2", "qwen3_moe"])
    def test_tensors_have_the_released_names_whatever_the_family(self, family):
        model = tiny(family)
        alone = language_model(family).state_dict()
        prefix = model.language_model.base_model_prefix + "."
        renamed = {
            "model.language_model." + name.removeprefix(prefix) if name.startswith(prefix) else name for name in alone
        }
        names = set(model.state_dict())
        assert {name for name in names if not name.startswith("model.visual.")} == renamed
        assert {name.removeprefix("model.visual.") for name in names} >= set(encoder().state_dict())
        assert {name for name in names if ".merger." in name} == {
            f"model.visual.merger.{name}" for name in model.connector.state_dict()
        }
        assert {model.part_name(name).split(".")[0] for name in names} == {"encoder", "connector", "language_model"}
        assert set(model.encoder.state_dict()) == set(encoder().state_dict()), "the encoder stays as it was passed"

    @torch.no_grad()
    def test_a_part_is_swapped_by_setting_it(self):
        model, other = tiny(), language_model("llama")
        model.language_model = other
        model.connector = MLPConnector(64, 48)
        want = LlavaOneVision2({"image_token_id": IMAGE}, encoder(), model.connector, other).eval()
        one = sample(1, [(2, 4)])
        seen = (one.input_ids[None], one.pixel_values, one.positions, one.layout.segments())
        assert torch.equal(model.eval()(*seen).logits, want(*seen).logits)
        assert model.state_dict().keys() == want.state_dict().keys()
        assert model.config.text_config.model_type == "llama"
        with pytest.raises(ValueError, match="encoder gives 64 channels, the connector takes 32"):
            model.connector = PatchMerger(32, 48)

    @pytest.mark.parametrize("of", ["whole", "part"])
    @torch.no_grad()
    def test_a_layer_that_is_replaced_in_one_place_is_replaced_in_both(self, of):
        model = tiny()
        (model if of == "whole" else model.language_model).resize_token_embeddings(70, mean_resizing=False)
        assert model.state_dict()["lm_head.weight"].shape == (70, 48)
        assert model(torch.tensor([[1, 69]])).logits.shape[-1] == 70
        assert model.lm_head is model.language_model.lm_head
        assert model.get_output_embeddings() is model.lm_head

    @pytest.mark.parametrize("mode", [True, False])
    def test_modes_reach_parts_and_come_back_from_them(self, mode):
        model = tiny().train(not mode)
        model.train(mode)
        assert {model.encoder.training, model.language_model.training, model.connector.training} == {mode}
        model.encoder.train(not mode)
        assert model.encoder.training is (not mode)
        assert model.language_model.training is mode
        assert model.train(mode).encoder.training is mode

    @torch.no_grad()
    def test_a_copy_shares_nothing(self):
        model = tiny()
        other = copy.deepcopy(model)
        want = model(torch.tensor([[1, 2]])).logits
        other.encoder.blocks[0].mlp.fc1.weight.zero_()
        other.language_model.lm_head.weight.zero_()
        assert not other.state_dict()["lm_head.weight"].any()
        assert not other(torch.tensor([[1, 2]])).logits.any()
        assert torch.equal(model(torch.tensor([[1, 2]])).logits, want)
        assert model.encoder.blocks[0].mlp.fc1.weight.any()

    def test_what_is_not_passed_must_be_described(self):
        with pytest.raises(OptionError, match="language_model must be a module where the config has no 'text_config'"):
            LlavaOneVision2({"image_token_id": IMAGE}, encoder(), PatchMerger(64, 48))
        with pytest.raises(OptionError, match="config must be"):
            LlavaOneVision2(encoder(), PatchMerger(64, 48), language_model())

    @torch.no_grad()
    def test_older_names_of_arguments_warn(self):
        model, one = tiny(), sample(1, [(2, 4)])
        seen = {"pixel_values": one.pixel_values, "segments": one.layout.segments()}
        want = model(one.input_ids[None], patch_positions=one.positions, **seen).logits
        with pytest.warns(DeprecationWarning, match=r"positions= is deprecated .* 0.2; use patch_positions="):
            assert torch.equal(model(one.input_ids[None], positions=one.positions, **seen).logits, want)


class TestVisualTokens:
    def test_a_wrong_number_of_image_pads_is_refused_with_both_numbers(self):
        one = sample(0, [(2, 4)])
        for ids, wanted in (
            (one.input_ids[one.input_ids != IMAGE], 0),
            (torch.cat([one.input_ids, torch.tensor([IMAGE])]), 3),
        ):
            with pytest.raises(ValueError, match=rf"{wanted} image pads .* 2 visual tokens"):
                tiny()(ids[None], one.pixel_values, one.positions, one.layout.segments())
        with pytest.raises(ValueError, match=r"2 image pads .* 0 visual tokens"):
            tiny()(one.input_ids[None])

    def test_parts_that_do_not_fit_are_refused_when_put_together(self):
        with pytest.raises(ValueError, match="encoder gives 64 channels, the connector takes 32"):
            LlavaOneVision2({"image_token_id": IMAGE}, encoder(), PatchMerger(32, 48), language_model())
        with pytest.raises(ValueError, match="connector gives 40 channels, the language model takes 48"):
            LlavaOneVision2({"image_token_id": IMAGE}, encoder(), PatchMerger(64, 40), language_model())

    @torch.no_grad()
    def test_tokens_replace_the_pads_in_order_row_by_row(self):
        model = tiny()
        tokens = torch.arange(5 * 48.0).view(5, 48)
        ids = torch.tensor([[1, IMAGE, IMAGE, 2, IMAGE], [IMAGE, 3, 4, IMAGE, 5]])
        embeds = model.embed(ids, tokens)
        torch.testing.assert_close(embeds[ids == IMAGE], tokens)
        words = model.language_model.get_input_embeddings()(ids)
        torch.testing.assert_close(embeds[ids != IMAGE], words[ids != IMAGE])

    @torch.no_grad()
    @pytest.mark.parametrize("connector", [PatchMerger(64, 48), MLPConnector(64, 48), ConvAbstractor(64, 48)])
    def test_padding_blocks_of_a_blockwise_connector_give_no_token(self, connector):
        model = tiny(connector=connector)
        one = sample(1, [(2, 4), (2, 4)], groups=(0, 0), padding=1)
        segments, grid = one.layout.segments(), one.layout.grid_thw()
        features = model.encoder(one.pixel_values, one.positions, segments)
        whole = connector(features, grids=grid)
        tokens = model.visual_tokens(one.pixel_values, one.positions, segments, grid_thw=grid)
        torch.testing.assert_close(tokens, whole[:3])
        assert run(model, collate([one], PAD)).visual_tokens == 3
        assert model.tokens_out is None

    @torch.no_grad()
    @pytest.mark.parametrize(
        "connector", [PerceiverResampler(64, 48, 5, depth=1, heads=2), AttentionPool(64, 48, 5, heads=2)]
    )
    def test_other_connectors_never_see_padding(self, connector):
        model = tiny(connector=connector)
        one = sample(1, [(2, 4), (2, 4), (2, 2)], groups=(0, 0, 1), padding=2, tokens=5)
        segments = one.layout.segments()
        features = model.encoder(one.pixel_values, one.positions, segments)
        alone = connector(features[:12])  # of the first group 12 patches are real, of the second none
        tokens = model.visual_tokens(one.pixel_values, one.positions, segments)
        torch.testing.assert_close(tokens, alone)
        assert model.tokens_out(12) == 5
        assert run(model, collate([one], PAD), visibility="full").visual_tokens == 5

    @torch.no_grad()
    def test_items_say_what_becomes_a_fixed_number_of_tokens_whoever_sees_whom(self):
        model = tiny(connector=AttentionPool(64, 48, 3, heads=2))
        one = sample(1, [(2, 4), (2, 4), (2, 2)], groups=(0, 0, 1), tokens=6)
        for visibility in ("group", "canvas", "full"):
            assert run(model, collate([one], PAD), visibility).visual_tokens == 6
        with pytest.raises(ValueError, match=r"6 image pads .* 3 visual tokens"):
            model(one.input_ids[None], one.pixel_values, one.positions, one.layout.segments("full"))

    def test_an_encoder_with_windows_gets_the_grid(self):
        torch.manual_seed(0)
        vision = OneVisionEncoder(64, 2, 2, 96, window=(4, 4))
        model = LlavaOneVision2({"image_token_id": IMAGE}, vision, PatchMerger(64, 48), language_model()).eval()
        out = run(model, collate([sample(0, [(8, 8), (8, 4)], groups=(0, 0), clips=(0, 1))], PAD))
        assert out.visual_tokens == 24
        one = sample(0, [(8, 8)])
        with pytest.raises(ValueError, match="grid_thw"):
            model(one.input_ids[None], one.pixel_values, one.positions, one.layout.segments())

    def test_pictures_need_positions_and_a_layout(self):
        one = sample(0, [(2, 4)])
        with pytest.raises(ValueError, match="positions"):
            tiny()(one.input_ids[None], one.pixel_values)
        with pytest.raises(ValueError, match="segments"):
            tiny()(one.input_ids[None], one.pixel_values, one.positions)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


MIXED = (
    sample(1, [(2, 4), (2, 4)], groups=(0, 0), padding=1),
    sample(2),
    sample(3, [(4, 4), (2, 2)], clips=(0, 1), groups=(0, 0), text=14),
)


class TestPackedRows:
    @pytest.mark.parametrize(
        ("family", "attention"),
        [
            ("qwen3", "sdpa"),
            ("qwen3", "eager"),
            ("llama", "sdpa"),
            ("llama", "eager"),
            ("gpt2", "sdpa"),
            ("qwen3_moe", "eager"),
        ],
    )
    def test_a_packed_row_equals_its_samples_alone(self, family, attention):
        model = tiny(family, attention=attention)
        row = pack(MIXED, PAD, length=60)
        out = run(model, row)
        packed = gradients(model, out.loss)
        supervised = [int((one.labels[1:] != -100).sum()) for one in MIXED]
        start, summed = 0, 0.0
        for one, count in zip(MIXED, supervised, strict=True):
            alone = run(model, collate([one], PAD))
            torch.testing.assert_close(out.logits[:, start : start + len(one)], alone.logits, atol=1e-5, rtol=1e-5)
            start += len(one)
            summed = summed + alone.loss * count
        torch.testing.assert_close(out.loss, summed / sum(supervised), atol=1e-5, rtol=1e-5)
        apart = gradients(model, summed / sum(supervised))
        assert set(packed) == set(apart)
        for name, gradient in packed.items():
            torch.testing.assert_close(gradient, apart[name], atol=1e-5, rtol=1e-4, msg=name)

    def test_without_restarting_positions_the_samples_do_see_each_other(self):
        model = tiny()
        row = pack(MIXED, PAD)
        apart = run(model, row).logits
        joined = model(row.input_ids, row.pixel_values, row.positions, row.layout.segments()).logits
        torch.testing.assert_close(apart[:, : len(MIXED[0])], joined[:, : len(MIXED[0])])
        assert (apart - joined)[:, len(MIXED[0]) :].abs().max() > 0.1

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padding_within_packed_rows_is_isolated_too(self, side):
        model, row = tiny(), pack(MIXED, PAD)
        want = run(model, row).logits
        rows = torch.full((2, row.input_ids.shape[1] + 3), 7)
        mask, positions = torch.zeros_like(rows), torch.arange(rows.shape[1]).expand(2, -1).clone()
        place = slice(3, None) if side == "left" else slice(None, -3)
        rows[:, place], mask[:, place], positions[:, place] = row.input_ids, 1, row.position_ids
        twice = [torch.cat([t, t]) for t in (row.pixel_values, row.positions)]
        layout = VisualLayout.cat([row.layout, row.layout])
        got = model(rows, *twice, layout.segments(), mask, position_ids=positions).logits
        torch.testing.assert_close(got[:, place], want.expand(2, -1, -1), atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    @pytest.mark.parametrize("padding", [1, 3])
    def test_padding_stays_unseen_when_positions_run_on_through_it(self, padding):
        model, ids = tiny(), torch.arange(1, 20)[None]
        padded = torch.cat([torch.full((1, padding), 7), ids], dim=1)
        mask, positions = torch.ones_like(padded), torch.arange(padded.shape[1])[None]
        mask[:, :padding] = 0
        got = model(padded, attention_mask=mask, position_ids=positions).logits[:, padding:]
        torch.testing.assert_close(got, model(ids).logits, atol=1e-4, rtol=1e-4)  # rotary: only distances count

    def test_flash_attention_gets_the_lengths_of_the_samples(self, monkeypatch):
        from transformers import AttentionInterface

        calls = []

        def varlen(module, q, k, v, mask, scaling, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k, **_):
            calls.append((cu_seq_lens_q.tolist(), max_length_q, mask))
            assert cu_seq_lens_q is cu_seq_lens_k
            assert max_length_q == max_length_k
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
            out = [
                torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, scale=scaling)
                for parts in zip(*(x.split(cu_seq_lens_q.diff().tolist(), dim=2) for x in (q, k, v)), strict=True)
            ]
            return torch.cat(out, dim=2).transpose(1, 2), None

        monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", varlen)
        model, row = tiny(), pack(MIXED, PAD, length=50)
        want = run(model, row).logits
        model.language_model.config._attn_implementation = "flash_attention_2"  # without asking whether it is installed
        torch.testing.assert_close(run(model, row).logits, want, atol=1e-5, rtol=1e-5)
        ends = [0, *torch.tensor([len(one) for one in MIXED]).cumsum(0).tolist(), 50]
        assert calls == [(ends, max(len(one) for one in MIXED), None)] * 2


class TestTraining:
    def test_only_supervised_tokens_count(self):
        model = tiny()
        batch = collate(MIXED, PAD)
        out = run(model, batch)
        logs = out.logits[:, :-1].log_softmax(-1)
        picked = [
            -logs[b, s, t]
            for b, s in zip(*(batch.labels[:, 1:] != -100).nonzero(as_tuple=True), strict=True)
            for t in [batch.labels[b, s + 1]]
        ]
        torch.testing.assert_close(out.loss, torch.stack(picked).mean(), atol=1e-5, rtol=1e-5)
        few = run(model, batch, supervised_only=True)
        torch.testing.assert_close(few.loss, out.loss, atol=1e-6, rtol=1e-6)
        assert few.logits.shape[1] < out.logits.shape[1]

    @pytest.mark.parametrize("supervised_only", [False, True])
    def test_a_batch_without_supervised_tokens_gives_zero_and_no_nan(self, supervised_only):
        model = tiny()
        one = sample(1, [(2, 4)])
        bare = Sample(one.input_ids, torch.full_like(one.labels, -100), one.pixel_values, one.positions, one.layout)
        out = run(model, collate([bare], PAD), supervised_only=supervised_only)
        assert out.loss.item() == 0
        assert all(g.abs().max() == 0 for g in gradients(model, out.loss).values())

    def test_a_mixture_of_experts_adds_what_balances_its_load(self):
        model = tiny("qwen3_moe", output_router_logits=True)
        ids = torch.randint(1, 50, (2, 12), generator=torch.Generator().manual_seed(0))
        want = model.language_model(input_ids=ids, labels=ids).loss
        torch.testing.assert_close(model(ids, labels=ids).loss, want)
        plain = tiny("qwen3_moe")(ids, labels=ids).loss
        assert (want - plain).abs() > 0.01

    def test_gradients_reach_every_part(self):
        model = tiny().train()
        found = gradients(model, run(model, collate(MIXED, PAD)).loss)
        assert set(found) == {name for name, _ in model.named_parameters()}
        for part in ("encoder", "connector", "language_model"):
            assert all(g.abs().max() > 0 for name, g in found.items() if name.startswith(part) and "bias" not in name)

    def test_recomputation_keeps_less_and_changes_nothing(self):
        model = tiny().train()
        batch = collate(MIXED, PAD)

        def kept():
            sizes = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
                loss = run(model, batch).loss
            return sum(sizes), gradients(model, loss)

        all_kept, want = kept()
        model.set_gradient_checkpointing()
        recomputed, got = kept()
        assert recomputed < 0.5 * all_kept
        for name, gradient in got.items():
            torch.testing.assert_close(gradient, want[name], atol=1e-6, rtol=1e-5)
        model.set_gradient_checkpointing(False)
        assert kept()[0] == all_kept

    def test_bfloat16(self):
        exact, coarse = tiny(), tiny().to(torch.bfloat16)
        batch = collate(MIXED, PAD)
        out = run(coarse, batch)
        assert out.logits.dtype == torch.bfloat16
        assert out.loss.dtype == torch.float32
        torch.testing.assert_close(out.loss, run(exact, batch).loss, atol=0.1, rtol=0.05)
        assert all(g.isfinite().all() for g in gradients(coarse, out.loss).values())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = run(exact, batch).loss
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, run(exact, batch).loss, atol=0.1, rtol=0.05)
        assert mixed != run(exact, batch).loss  # it did compute in bfloat16

    def test_casting_leaves_the_rotary_frequencies_in_float32(self):
        want = dict(tiny().named_buffers())
        assert any("inv_freq" in name for name in want)
        for name, buffer in nn.ModuleDict({"held": tiny()}).to(torch.bfloat16)["held"].named_buffers():
            torch.testing.assert_close(buffer, want[name], atol=0, rtol=0)
        assert tiny().to("meta").language_model.model.rotary_emb.inv_freq.is_meta

    def test_with_several_processes_rows_of_text_run_the_encoder_too(self, monkeypatch):
        model, batch = tiny().train(), collate([sample(2)], PAD)
        want = run(model, batch)
        assert not any(name.startswith(("encoder", "connector")) for name in gradients(model, want.loss))
        monkeypatch.setattr("ov2kit.recipes.model.inner.several_processes", lambda: True)
        got = run(model, batch)
        torch.testing.assert_close(got.logits, want.logits)
        found = gradients(model, got.loss)
        assert set(found) == {name for name, _ in model.named_parameters()}
        assert all(g.abs().max() == 0 for name, g in found.items() if name.startswith(("encoder", "connector")))

    def test_compiled_it_gives_the_same_loss(self):
        text = language_model(num_hidden_layers=1)
        model = LlavaOneVision2({"image_token_id": IMAGE}, OneVisionEncoder(64, 1, 2, 96), PatchMerger(64, 48), text)
        batch = collate(MIXED[:1], PAD)
        got = run(torch.compile(model, backend="eager"), batch).loss
        torch.testing.assert_close(got, run(model, batch).loss, atol=1e-5, rtol=1e-5)
        assert set(gradients(model, got)) == {name for name, _ in model.named_parameters()}


@pytest.fixture(scope="module")
def prompts():
    """Text alone, a picture, frames of a clip, and canvases of its codec stream."""
    codec = CodecTokenizer(4, max_pixels=20_000)(SAMPLE)
    frames = FrameTokenizer(3, max_pixels=10_000)(SAMPLE)
    image = ImageTokenizer(max_pixels=8_000)(frames.images[0])
    rng = torch.Generator().manual_seed(5)
    made = []
    for canvases, words in ((None, 7), (image, 4), (frames, 11), (codec, 2)):
        parts = [torch.randint(1, 50, (words,), generator=rng)]
        if canvases is None:
            seen = (torch.zeros(0, 588), torch.zeros(0, 3, dtype=torch.int32), VisualLayout())
        else:
            parts.append(torch.full((canvases.num_tokens,), IMAGE))
            seen = (canvases.pixel_values(), canvases.flat_positions(), VisualLayout.from_canvases(canvases))
        ids = torch.cat([*parts, torch.randint(1, 50, (3,), generator=rng)])
        made.append(Sample(ids, torch.full_like(ids, -100), *seen))
    return made


def generate(model, samples, **options):
    batch = collate(samples, PAD, side="left")
    return model.generate(
        batch.input_ids,
        batch.pixel_values,
        batch.positions,
        batch.layout.segments(),
        batch.attention_mask,
        **options,
    )[:, batch.input_ids.shape[1] :]


class TestGenerate:
    @pytest.mark.parametrize("family", ["qwen3", "llama"])
    def test_a_batch_of_text_image_frames_and_codec_equals_four_singles(self, prompts, family):
        model = tiny(family)
        singles = [generate(model, [one], max_new_tokens=6, do_sample=False)[0].tolist() for one in prompts]
        assert generate(model, prompts, max_new_tokens=6, do_sample=False).tolist() == singles
        assert len({tuple(ids) for ids in singles}) == 4
        again = generate(model, prompts[::-1], max_new_tokens=6, do_sample=False).tolist()
        assert again == singles[::-1]

    def test_the_cache_changes_nothing(self, prompts):
        model = tiny()
        one = prompts[3]
        new = generate(model, [one], max_new_tokens=5, do_sample=False)[0]
        ids = one.input_ids
        for token in new:
            out = model(ids[None], one.pixel_values, one.positions, one.layout.segments())
            assert out.logits[0, -1].argmax() == token
            ids = torch.cat([ids, token[None]])

    def test_rows_end_at_the_end_token_and_are_filled(self, prompts):
        model = tiny()
        free = generate(model, prompts, max_new_tokens=6, do_sample=False)
        end = free[1, 2].item()
        ended = generate(model, prompts, max_new_tokens=6, do_sample=False, eos_token_id=end, pad_token_id=63)
        for row, want in zip(ended.tolist(), free.tolist(), strict=True):
            stop = want.index(end) + 1 if end in want else 6
            assert row == (want[:stop] + [63] * 6)[: ended.shape[1]]
        model.generation_config.eos_token_id = [end]
        by_default = generate(model, prompts, max_new_tokens=6, do_sample=False)
        assert by_default[1].tolist()[:3] == free[1].tolist()[:3]
        assert set(by_default[1].tolist()[3:]) <= {end}

    def test_tokens_are_streamed_as_they_come(self, prompts):
        class Streamer:
            def __init__(self):
                self.got, self.ended = [], False

            def put(self, ids):
                self.got.append(ids.flatten().tolist())

            def end(self):
                self.ended = True

        streamer = Streamer()
        new = generate(tiny(), prompts[2:3], max_new_tokens=4, do_sample=False, streamer=streamer)
        prompt, *tokens = streamer.got
        assert prompt == prompts[2].input_ids.tolist()
        assert tokens == [[token] for token in new[0].tolist()]
        assert streamer.ended

    def test_sampling_options_are_passed_on(self, prompts):
        model = tiny()

        def draw(seed, **options):
            torch.manual_seed(seed)
            return generate(model, prompts, max_new_tokens=6, do_sample=True, **options).tolist()

        assert draw(0, temperature=5.0) == draw(0, temperature=5.0) != draw(1, temperature=5.0)
        greedy = generate(model, prompts, max_new_tokens=6, do_sample=False).tolist()
        assert draw(0, top_k=1) == greedy
        several = generate(model, prompts, max_new_tokens=3, do_sample=True, num_return_sequences=2, temperature=5.0)
        assert several.shape == (8, 3)

    def test_beams_see_the_pictures_of_their_prompt(self, prompts):
        model = tiny()
        together = generate(model, prompts, max_new_tokens=4, do_sample=False, num_beams=3).tolist()
        assert together == [
            generate(model, [one], max_new_tokens=4, do_sample=False, num_beams=3)[0].tolist() for one in prompts
        ]

    def test_a_penalty_on_repetition_knows_the_prompt(self):
        model, ids = tiny(), torch.arange(1, 40)[None]
        free = model.generate(ids, max_new_tokens=12, do_sample=False)[0, 39:].tolist()
        assert set(free) & set(range(1, 40))
        other = model.generate(ids, max_new_tokens=12, do_sample=False, repetition_penalty=1e6)[0, 39:].tolist()
        assert not set(other) & set(range(1, 40))

    def test_prompts_padded_on_the_right_are_refused(self, prompts):
        batch = collate(prompts[:2], PAD)
        with pytest.raises(ValueError, match="padded on the left"):
            tiny().generate(
                batch.input_ids, batch.pixel_values, batch.positions, batch.layout.segments(), batch.attention_mask
            )
