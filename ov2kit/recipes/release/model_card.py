"""README.md of a model directory: what the model is, in plain facts, and how it is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ov2kit.recipes.architecture.sizes import MAGE_VL, vision_fields
from ov2kit.recipes.release.tensors import TensorStore

FILE = "README.md"
_LOADING = """\
## Loading it

With transformers (the import registers the model; no remote code is run):

```python
import ov2kit.recipes
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("this directory")
processor = AutoProcessor.from_pretrained("this directory")
```

With ov2kit: `ov2kit generate "this directory" clip.mp4 "What happens?"`. With vLLM, where ov2kit is installed beside
it: `vllm serve "this directory"`.
"""


def add_card(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a card where the directory has none.

    Args:
        folder: with the weights.
        config: its release config.
    """
    if not (folder / FILE).exists():
        (folder / FILE).write_text(card(config, folder), encoding="utf-8")


def card(config: Mapping[str, Any], folder: Path) -> str:
    """The text of a card: YAML front matter as model hubs read it, sizes, and how to load it."""
    vision, text, swapped = vision_fields(config), config["text_config"], config.get("ov2kit") or {}
    connector = (swapped.get("connector") or {"name": "merger"})["name"]
    merge = vision["spatial_merge_size"]
    front = ["library_name: transformers", "pipeline_tag: image-text-to-text", "tags: [video, codec, ov2kit]"]
    if isinstance(config.get("license"), str):
        front.insert(0, f"license: {json.dumps(config['license'])}")
    rows = {
        "parameters": f"{TensorStore(folder).numel:,}",
        "encoder": f"{vision['num_hidden_layers']} layers of width {vision['hidden_size']}, "
        f"patches of {vision['patch_size']} pixels, positions: {swapped.get('positions', 'release')}",
        "connector": f"{connector}, {merge} x {merge} patches",
        "language model": f"{text.get('model_type', 'qwen3')}, {text.get('num_hidden_layers')} layers of width "
        f"{text.get('hidden_size')}, {text.get('vocab_size')} tokens",
        "model type": f"`{config['model_type']}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    name = "Mage-VL" if config["model_type"] == MAGE_VL else "LLaVA-OneVision-2"
    head = "---\n" + "\n".join(front) + f"\n---\n\n# {name} model\n\n"
    what = "A vision-language model that reads text, pictures, and videos from their codec stream.\n\n"
    return f"{head}{what}| | |\n| --- | --- |\n{table}\n\n{_LOADING}"
