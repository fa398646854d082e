"""`config.json` of the released format as a config of transformers, for each checkpoint of the line.

Importing this registers them with `AutoConfig`. Source: `LlavaOnevision2Config` of the LLaVA-OneVision-2 release.
"""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from ov2kit.recipes.architecture.sizes import _IDS, _VISION, MAGE_VL, vision_defaults

_COPIED = ("bos_token_id", "eos_token_id", "pad_token_id")


class LlavaOnevision2VisionConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """`vision_config`: the fields of the release, see `vision_defaults` for those that are absent. Others are kept."""

    model_type = "llava_onevision2"
    base_config_key = "vision_config"

    def __init__(self, **fields: Any) -> None:
        for name, value in vision_defaults(self.model_type).items():
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
            described = _VISION if vision_config is None else vision_config
            fields_of = {name: value for name, value in described.items() if name != "model_type"}
            vision_config = self.sub_configs["vision_config"](**fields_of)
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
    __init__ = LlavaOnevision2Config.__init__  # transformers would give a class without one of its own another


class MageVLVisionConfig(LlavaOnevision2VisionConfig):  # type: ignore[no-untyped-call]
    """The same with other defaults: patches of 16 pixels."""

    model_type = MAGE_VL
    __init__ = LlavaOnevision2VisionConfig.__init__


class MageVLConfig(LlavaOnevision2Config):  # type: ignore[no-untyped-call]
    """The config of Mage-VL, whose fields and names are those of LLaVA-OneVision-2."""

    model_type = MAGE_VL
    sub_configs: ClassVar[dict[str, Any]] = {"vision_config": MageVLVisionConfig, "text_config": AutoConfig}
    __init__ = LlavaOnevision2Config.__init__


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
    kinds = {kind.model_type: kind for kind in CONFIGS}
    return kinds.get(config.get("model_type", ""), LlavaOnevision2Config)(**copy.deepcopy(fields))


CONFIGS: tuple[type[LlavaOnevision2Config], ...] = (LlavaOnevision2Config, LlavaOnevision2MoeConfig, MageVLConfig)
for _config in CONFIGS:
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
