"""Encoder, connector and language model put together as one model of transformers, each still whole and swappable.

What transformers asks of a model: a config, names, tied tensors, embeddings, recomputation. What is computed is in
`ov2kit.recipes.model.model`.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from ov2kit.errors import OptionError, check_type
from ov2kit.recipes.architecture.parts import build_language_model, build_vision, drawing
from ov2kit.recipes.architecture.released_config import LlavaOnevision2Config, config_of
from ov2kit.recipes.model.inner import Inner
from ov2kit.recipes.model.layout import Shared, Whole
from ov2kit.recipes.release.names import part_name

_PARTS = ("encoder", "connector", "language_model")
_making = threading.local()


class Joined(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """Three parts under the names of the release; the arguments are those of `LlavaOneVision2`."""

    config_class: Any = LlavaOnevision2Config
    base_model_prefix = "model"
    input_modalities: Any = ("image", "video", "text")
    _no_split_modules: Any = ["Block"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False

    def __init__(
        self,
        config: LlavaOnevision2Config | Mapping[str, Any],
        encoder: nn.Module | None = None,
        connector: nn.Module | None = None,
        language_model: PreTrainedModel | None = None,
    ) -> None:
        check_type("config", config, (LlavaOnevision2Config, Mapping), "a config of the model, or a release config")
        parts = {"encoder": encoder, "connector": connector, "language_model": language_model}
        for name, module in parts.items():
            check_type(name, module, nn.Module, "a module", optional=True)
        described = _described(config, whole=all(module is None for module in parts.values()))
        _check_parts(config, parts)
        own = config_of(config, text=None if language_model is None else language_model.config)
        if encoder is None or connector is None:
            fresh = build_vision(described or own.release_config(), connector=connector is None)
            encoder = fresh[0] if encoder is None else encoder
            connector = fresh[1] if connector is None else connector
        if language_model is None:
            language_model = build_language_model(own.text_config)
        assert connector is not None
        _check_widths(encoder, connector, language_model)
        super().__init__(own)
        self._put_together(encoder, connector, language_model)
        #: `config.json` as it was read; what it says beyond the modules is written back by `save_pretrained`
        self.release_config: dict[str, Any] = described
        #: the directory the model was read from, whose tokenizer and processor files go with it
        self.source: Path | None = None
        #: texts of tokenizer and processor by file name, where a checkpoint brought them
        self.files: dict[str, str] = {}
        cast(Any, self).post_init()
        if (wanted := getattr(_making, "dtype", None)) is not None:
            self.to(wanted)
            _making.model = self

    # -- parts

    def _put_together(self, encoder: nn.Module, connector: nn.Module, language_model: Any) -> None:
        self.config.text_config = language_model.config
        self.model = Inner(self.config, encoder, connector)
        prefix = language_model.base_model_prefix
        shared = [Shared(language_model, prefix, self.model, "language_model", below="model")]
        shared += [Shared(language_model, name, self) for name in language_model._modules if name != prefix]  # the head
        self._whole = Whole(language_model, shared)
        self.model.language_model.training = language_model.training
        self._tied_weights_keys = _tied(language_model)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _PARTS:
            super().__setattr__(name, value)
            return
        now = {part: getattr(self, part) for part in _PARTS} | {name: value}
        _check_widths(**now)
        self._put_together(**now)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """As usual, of the parts as they are now."""
        self.language_model, self.encoder  # noqa: B018 # brings the tree up to date
        return super().state_dict(*args, **options)

    @property
    def encoder(self) -> nn.Module:
        return cast(nn.Module, self.model.visual.whole)

    @property
    def connector(self) -> nn.Module:
        return cast(nn.Module, self.model.bridge)

    @property
    def language_model(self) -> Any:
        """The `...ForCausalLM`, whose layers are `model.language_model` and the head."""
        return self._whole.get(self, cast(nn.Module, self.model.language_model))

    def part_name(self, name: str) -> str:
        """`encoder.x`, `connector.x` or `language_model.x` for a tensor's name; what stages and rates go by."""
        return part_name(self, name)

    @property
    def image_token_id(self) -> int:
        return int(self.config.image_token_id)

    @property
    def generation_config(self) -> Any:
        """Of the language model."""
        return self.language_model.generation_config

    @generation_config.setter
    def generation_config(self, value: Any) -> None:
        if "_whole" in self.__dict__:  # transformers sets one before there is a language model
            self.language_model.generation_config = value

    # -- what transformers asks of a model

    @classmethod
    def get_init_context(cls, dtype: torch.dtype, is_quantized: bool, *given: Any) -> Any:
        """How transformers makes the model that it then fills: without memory, and nothing else is changed meanwhile.

        Its own contexts change the default dtype, `torch.linspace` and the tying of weights for the whole process.
        """
        if any(given) or cast(Any, is_deepspeed_zero3_enabled)():  # another way to make it, or kernels from the hub
            return cast(Any, super()).get_init_context(dtype, is_quantized, *given)
        return [torch.device("meta"), _made_in(dtype)]

    def init_weights(self) -> None:
        """Nothing: the parts have drawn their weights, and tied them, when they were made."""

    def initialize_weights(self) -> None:
        """What no file stores, such as rotary frequencies, is computed by the part that has it."""
        with drawing:
            cast(Any, super()).initialize_weights()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing, for the same reason; loading is strict."""

    def get_input_embeddings(self) -> nn.Module:
        return cast(nn.Module, self.model.language_model.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return cast(nn.Module, self.language_model.get_output_embeddings())

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        old = self.get_output_embeddings()
        self.language_model.set_output_embeddings(new_embeddings)
        for name, module in self.named_children():
            if module is old:
                self.add_module(name, new_embeddings)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Moves and casts the model. What is not stored keeps its dtype: rotary frequencies in bfloat16 are wrong."""
        exact = {
            (module, name): module._buffers[name]
            for module in self.modules()
            for name in module._non_persistent_buffers_set
        }
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for (module, name), buffer in exact.items():
            moved = module._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                module._buffers[name] = buffer.to(moved.device)
        return self

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **options: Any) -> None:
        cast(Any, super())._set_gradient_checkpointing(enable, *args, **options)
        if hasattr(self.encoder, "set_gradient_checkpointing"):
            cast(Any, self.encoder).set_gradient_checkpointing(enable)

    def set_gradient_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of encoder and language model in the backward pass instead of keeping them."""
        kind = "activation" if hasattr(self, "activation_checkpointing_enable") else "gradient"  # its older name
        if enable:
            getattr(self, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        else:
            getattr(self, f"{kind}_checkpointing_disable")()


@contextmanager
def _made_in(dtype: torch.dtype) -> Iterator[None]:
    """A model that this thread makes meanwhile gets this dtype, with the layers that a quantizer then puts in."""
    _making.dtype, _making.model = dtype, None
    try:
        yield
        if _making.model is not None:
            _making.model._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
    finally:
        del _making.dtype, _making.model


def _described(config: LlavaOnevision2Config | Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """The release config that says all of a model; {} if modules say it, or the config does not."""
    if isinstance(config, Mapping):
        return copy.deepcopy(dict(config)) if "vision_config" in config and "text_config" in config else {}
    return config.release_config() if whole else {}


def _check_parts(config: LlavaOnevision2Config | Mapping[str, Any], parts: Mapping[str, nn.Module | None]) -> None:
    """What is not passed must be described."""
    for name, module in parts.items():
        field = "text_config" if name == "language_model" else "vision_config"
        if module is None and isinstance(config, Mapping) and field not in config:
            raise OptionError(f"{name} must be a module where the config has no {field!r}, got None")


def _check_widths(encoder: nn.Module, connector: nn.Module, language_model: PreTrainedModel) -> None:
    narrow = getattr(encoder, "width", None)
    wide = cast(nn.Embedding, language_model.get_input_embeddings()).embedding_dim
    if narrow is not None and narrow != connector.width:
        raise ValueError(f"the encoder gives {narrow} channels, the connector takes {connector.width}")
    if connector.out_width != wide:
        raise ValueError(f"the connector gives {connector.out_width} channels, the language model takes {wide}")


def _tied(language_model: Any) -> dict[str, str]:
    """Tied names of a language model, as they are in the whole."""
    prefix = f"{language_model.base_model_prefix}."

    def here(name: str) -> str:
        return f"model.language_model.{name.removeprefix(prefix)}" if name.startswith(prefix) else name

    return {here(one): here(other) for one, other in (language_model._tied_weights_keys or {}).items()}
