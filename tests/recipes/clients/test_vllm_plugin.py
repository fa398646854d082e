"""The plugin registers our models whatever was imported before it. Runs where vLLM is installed."""

import subprocess
import sys

import pytest

pytest.importorskip("vllm", reason="needs vllm: make clients")

# vLLM's processes load the plugins of all packages, in the order of folders on disk: ours may come first, and where
# torchvision is missing, as it is here, packages of transformers give stand-ins for modules that nobody has imported.
_FIRST = """
from ov2kit.recipes.clients.vllm_plugin import register
register()
register()
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES as names
from vllm import ModelRegistry
from ov2kit.recipes.architecture.sizes import MODEL_TYPES
assert "LlavaOnevision2ForConditionalGeneration" in ModelRegistry.get_supported_archs()
assert all("LlavaOnevision2VideoProcessor" in str(names[kind]) for kind in MODEL_TYPES), names
print("registered")
"""


def test_models_are_registered_before_anything_else_is_imported():
    done = subprocess.run([sys.executable, "-c", _FIRST], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.endswith("registered\n"), done.stderr[-2000:]
