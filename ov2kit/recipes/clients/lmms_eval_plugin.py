"""Entry point of lmms-eval: `lmms-eval --model ov2kit --model_args pretrained=my-model --tasks ...`.

Tried with lmms-eval 0.7.3.
"""

from typing import Any


def model() -> Any:
    """What lmms-eval registers: a name, and where the class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("ov2kit", chat_class_path="ov2kit.recipes.clients.lmms_eval_model.Ov2kit")
