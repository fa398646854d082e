"""`config.json` of the released format as a config of transformers.

Importing this registers it with `AutoConfig`. Source: `LlavaOnevision2Config` of the LLaVA-OneVision-2 release.
"""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from ov2kit.recipes.architecture.sizes import _IDS, _VISION

_COPIED = ("bos_token_id", "eos_token_id", "pad_token_id")


class LlavaOnevision2VisionConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """`vision_config`: the fields of the release, those that are absent as released. Others are kept."""

    model_type = "llava_onevision2"
    base_config_key = "vision_config"

    def __init__(self, **fields: Any) -> None:
        for name, value in _VISION.items():
            if name != "model_type":
                setattr(self, name, fields.pop(name, value))
        super().__init__(**fields)


class LlavaOnevision2Config(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """The config of the whole model.

    Args:
        vision_config: of the tower and the merger; the released one when omitted.
        text_config: of the language model, with its `model_type`; a Qwen3 when omitted.
        image_token_id: stands for a visual token in the text.
        video_token_id: reserved.
        vision_start_token_id: before the visual tokens of a picture.
        vision_end_token_id: after them.
        fields: everything else that a config.json says, such as `ov2kit` (see `ov2kit.recipes.architecture.parts`).
    """

    model_type = "llava_onevision2"
    sub_configs: ClassVar[dict[str, Any]] = {"vision_config": LlavaOnevision2VisionConfig, "text_config": AutoConfig}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_token_id: int = _IDS["image_token_id"],
        video_token_id: int = _IDS["video_token_id"],
        vision_start_token_id: int = _IDS["vision_start_token_id"],
        vision_end_token_id: int = _IDS["vision_end_token_id"],
        **fields: Any,
    ) -> None:
        if not isinstance(vision_config, PreTrainedConfig):
            vision_config = LlavaOnevision2VisionConfig(**(vision_config or {}))
        if not isinstance(text_config, PreTrainedConfig):
            text = dict(text_config or {})
            text_config = AutoConfig.for_model(text.pop("model_type", "qwen3"), **text)
        self.vision_config, self.text_config = vision_config, text_config
        self.image_token_id, self.video_token_id = image_token_id, video_token_id
        self.vision_start_token_id, self.vision_end_token_id = vision_start_token_id, vision_end_token_id
        fields["tie_word_embeddings"] = fields.get("tie_word_embeddings") or text_config.tie_word_embeddings
        for name in _COPIED:
            fields.setdefault(name, getattr(text_config, name, None))
        super().__init__(**fields)

    @property
    def swapped(self) -> dict[str, Any]:
        """What the release has no field for, see `ov2kit.recipes.architecture.parts`."""
        return getattr(self, "ov2kit", None) or {}

    def release_config(self) -> dict[str, Any]:
        """As the dict that `ov2kit.recipes.architecture.parts` builds from."""
        config = self.to_dict()
        config["text_config"]["model_type"] = self.text_config.model_type
        return {name: value for name, value in config.items() if name != "ov2kit" or value}


class LlavaOnevision2MoeConfig(LlavaOnevision2Config):  # type: ignore[no-untyped-call]
    """The same under the name that released mixtures of experts have."""

    model_type = "llava_onevision2_moe"


def config_of(config: LlavaOnevision2Config | Mapping[str, Any], text: Any = None) -> LlavaOnevision2Config:
    """A release config as an object, whose class its model type says.

    Args:
        config: one already, or the fields.
        text: the config of a language model, in the place of what the fields say.
    """
    if isinstance(config, LlavaOnevision2Config):
        return config
    fields = {name: value for name, value in config.items() if name != "model_type"}
    if text is not None:
        fields["text_config"] = text
    is_moe = config.get("model_type") == LlavaOnevision2MoeConfig.model_type
    return (LlavaOnevision2MoeConfig if is_moe else LlavaOnevision2Config)(**copy.deepcopy(fields))


MODEL_TYPES = (LlavaOnevision2Config.model_type, LlavaOnevision2MoeConfig.model_type)
for _config in (LlavaOnevision2Config, LlavaOnevision2MoeConfig):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
