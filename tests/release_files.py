"""Directories in the released format, made by hand from golden weights: what the code under test has no part in."""

import json

from safetensors.torch import save_file

from tests.tiny_models import golden_files

CODE = "import pathlib\npathlib.Path('executed').touch()\n"


def golden_config():
    """A config.json as the release has it, with fields that ov2kit does not know."""
    facts, _, _ = golden_files()
    ids = {k: facts[k] for k in facts if k.endswith("token_id")}
    return {
        "architectures": ["LlavaOnevision2ForConditionalGeneration"],
        "auto_map": {"AutoConfig": "configuration_llava_onevision2.LlavaOnevision2Config"},
        "model_type": "llava_onevision2",
        "vision_config": facts["vision_config"] | {"tokens_per_second": 1},
        "text_config": facts["text_config"],
        **ids,
        "something_new": {"depth": [1, 2, None]},
        "transformers_version": "5.7.0",
    }


def write_release(folder, config=None, tensors=None, shards=1):
    """A directory in the released format; returns it."""
    folder.mkdir(parents=True)
    tensors = golden_files()[1] if tensors is None else tensors
    (folder / "config.json").write_text(json.dumps(golden_config() if config is None else config))
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 9], "pad_token_id": 9,  "max_length": 77}')
    (folder / "preprocessor_config.json").write_text('{"patch_size":14}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "configuration_llava_onevision2.py").write_text(CODE)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in names[i::shards]}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names[i::shards], file)
    size = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
