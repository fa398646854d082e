"""The memory that fine-tuning should take is that of the tensors that are there."""

import pytest
import torch

from benchmarks._finetuning.drawn import plain, quantized
from benchmarks._finetuning.memory import computed, linear_shapes
from ov2kit.recipes import release_config
from ov2kit.recipes.model.adapters import add_adapters, check_lora
from ov2kit.recipes.model.quantized import check_quantization

pytest.importorskip("peft", reason="needs peft: pip install 'ov2kit[peft]'")
CPU = torch.device("cpu")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["bf16", "int8", "nf4"])
def test_computed_memory_is_that_of_the_tensors(base):
    # widths of whole blocks of 64, and untied as 8B is
    config = release_config("tiny", text={"hidden_size": 128, "tie_word_embeddings": False})
    if base == "bf16":
        model = plain(config, CPU)
    else:
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install 'ov2kit[quantization]'")
        model = quantized(config, check_quantization(base), CPU)
    want = computed(config, linear_shapes(config), base, rank=4, tokens=10, patches=20)
    # tables of the 16 and 256 values that codes stand for, and what says so, are as large in a large layer
    constant = ("quant_map", "quant_state", "weight_format", "nested_quant_map")
    stored = sum(t.nbytes for name, t in model.state_dict().items() if not any(part in name for part in constant))
    assert stored == pytest.approx(1e9 * want["weights"], rel=1e-3)
    add_adapters(model, check_lora({"r": 4}), lambda _: True)
    learning = [p for p in model.parameters() if p.requires_grad and p.dtype == torch.float32]
    assert sum(p.numel() for p in learning) == want["adapter_numbers"]
    assert want["inputs"] == 1e-9 * 2 * (2 * 10 * 128 + 2 * 20 * 64)  # two layers each


def test_the_same_weights_come_again():
    config = release_config("tiny")
    first, again = (plain(config, CPU).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["model.visual.encoder.layers.0.layer_norm1.weight"].eq(1).all()
    assert first["model.language_model.layers.0.mlp.up_proj.weight"].float().std() == pytest.approx(0.02, rel=0.02)
