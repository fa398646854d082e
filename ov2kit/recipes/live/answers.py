"""LiveAnswers: one question, answered again and again while the context rolls on."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ov2kit.errors import check_choice, check_flag, check_number
from ov2kit.recipes.generate import stop_tokens
from ov2kit.recipes.live.context import KeptGroup
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.sample import Sample, collate
from ov2kit.recipes.prompt.visual_inputs import visual_inputs

if TYPE_CHECKING:
    from ov2kit.recipes.model.model import LlavaOneVision2
    from ov2kit.recipes.prompt.processor import Processor


# Layers whose keys and values up to a token stay what they are, whatever comes after it.
_REUSED = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class LiveAnswer:
    """One answer.

    Args:
        text: without special tokens.
        prompt_tokens: length of the prompt.
        reused_tokens: of them were in the key-value cache.
        encoded_groups: that had to be encoded; the others had been before.
        seconds: it took on the clock.
        is_cut: it was stopped before its end.
    """

    text: str
    prompt_tokens: int
    reused_tokens: int
    encoded_groups: int
    seconds: float
    is_cut: bool = False


def why_no_reuse(model: "LlavaOneVision2") -> str | None:
    """Why keys and values of one prompt cannot be used for the next; None where they can.

    A prompt that begins as the last one needs its keys and values up to there. Full attention has them, and sliding
    windows do where the cache keeps what lies outside of them too. States of recurrent layers cannot be taken back.
    """
    language_model = cast(Any, model.language_model)
    if getattr(language_model, "_is_stateful", False):
        return "its layers keep a state that cannot be taken back"
    config = language_model.config.get_text_config()
    kinds = sorted(set(getattr(config, "layer_types", None) or ["full_attention"]) - _REUSED)
    if kinds:
        return f"it has layers of {', '.join(kinds)}"
    has_kinds = getattr(config, "layer_types", None)
    if not has_kinds and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"its attention sees {config.sliding_window} tokens"
    return None


class _Stopping:
    """A criterion of transformers: after each token."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped, self.was_stopped = is_stopped, False

    def __call__(self, input_ids: Tensor, scores: Tensor, **options: Any) -> Tensor:
        self.was_stopped = self.was_stopped or self._is_stopped()
        return torch.full((len(input_ids),), self.was_stopped, device=input_ids.device)


class LiveAnswers:
    """Answer a question about the groups of a context.

    Each group is encoded once. Where the language model allows it, keys and values of the part of the prompt that is as
    it was are used again: all but the question while groups are only added, nothing beyond the system text once one has
    left, because what comes after it saw it. The answers are those to a fresh prompt of the same groups.

    Args:
        model: in eval mode.
        processor: of the model.
        question: what to ask.
        max_new_tokens: most tokens of an answer.
        visibility: which canvases see each other; the one the model was trained with. Never beyond a group.
        reuse: use keys and values again where the model allows it.

    Raises:
        OptionError: an option is unknown or out of range.
    """

    def __init__(
        self,
        model: "LlavaOneVision2",
        processor: "Processor",
        question: str,
        *,
        max_new_tokens: int = 128,
        visibility: Visibility = "group",
        reuse: bool = True,
    ) -> None:
        check_number("max_new_tokens", max_new_tokens, low=1, integer=True)
        check_choice("visibility", visibility, ("group", "window", "canvas", "full"))
        self.model, self.processor, self.question = model, processor, question
        self.max_new_tokens, self.visibility = max_new_tokens, visibility
        self.reuse = check_flag("reuse", reuse) and why_no_reuse(model) is None
        self._tokens: dict[int, Tensor] = {}  # visual tokens by the number of the group
        self._cache: Any = None
        self._cached = torch.zeros(2, 0, dtype=torch.int64)  # of each position: its id, and the group of a pad

    def sample(self, groups: Iterable[KeptGroup]) -> Sample:
        """The prompt about these groups: their canvases in order, each under its times, then the question."""
        shown = [{"type": "video", "video": group.canvases, "source": "codec"} for group in groups]
        content = [*shown, {"type": "text", "text": self.question}]
        return self.processor([{"role": "user", "content": content}], generate=True)

    @torch.no_grad()
    def __call__(self, groups: Iterable[KeptGroup], is_stopped: Callable[[], bool] = lambda: False) -> LiveAnswer:
        """The answer about these groups, the oldest first.

        Args:
            groups: what it is about.
            is_stopped: asked after each token; once it is true the answer ends as it is.

        Raises:
            DataError: a group has no canvas, or canvases of another patch size than the model's.
        """
        from transformers import StoppingCriteriaList

        begin, groups, model = time.monotonic(), list(groups), self.model
        sample = self.sample(groups)
        encoded = self._encode(groups)
        ids = sample.input_ids.to(model.device)[None]
        tokens = torch.cat([self._tokens[group.number] for group in groups]) if groups else None
        embeds = model.embed(ids, tokens)
        key = self._key(ids[0].cpu(), groups)
        reused = self._prepare(key)
        language_model = cast(Any, model.language_model)
        stopping = _Stopping(is_stopped)
        found = language_model.generate(
            input_ids=ids, inputs_embeds=embeds, attention_mask=torch.ones_like(ids), past_key_values=self._cache,
            max_new_tokens=self.max_new_tokens, do_sample=False, pad_token_id=self.processor.pad_id,
            eos_token_id=stop_tokens(model, self.processor.tokenizer),
            stopping_criteria=StoppingCriteriaList([stopping]),
        )  # fmt: skip
        self._cached = key
        text = self.processor.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True).strip()
        return LiveAnswer(text, ids.shape[1], reused, encoded, time.monotonic() - begin, stopping.was_stopped)

    def _encode(self, groups: list[KeptGroup]) -> int:
        """Visual tokens of groups that are new; those of groups that left are forgotten."""
        kept = {group.number for group in groups}
        self._tokens = {number: tokens for number, tokens in self._tokens.items() if number in kept}
        new = [group for group in groups if group.number not in self._tokens]
        for group in new:
            batch = collate([self.sample([group])], self.processor.pad_id).to(self.model.device)
            seen = visual_inputs(batch, self.visibility)
            self._tokens[group.number] = self.model.visual_tokens(
                seen["pixel_values"], seen["patch_positions"], seen["segments"],
                items=seen["items"], grid_thw=seen["image_grid_thw"],
            )  # fmt: skip
        return len(new)

    def _key(self, ids: Tensor, groups: list[KeptGroup]) -> Tensor:
        """(2, S) id and number of the group of each pad, 0 for text: what has to agree for keys and values to."""
        pads = ids == self.model.image_token_id
        numbers = [torch.full((len(self._tokens[group.number]),), group.number + 1) for group in groups]
        owner = torch.zeros_like(ids)
        if numbers:
            owner[pads] = torch.cat(numbers)
        return torch.stack([ids, owner])

    def _prepare(self, key: Tensor) -> int:
        """Cut the cache to what this prompt has in common with the last; how many tokens that is."""
        if not self.reuse:
            return 0
        from transformers import DynamicCache

        length = min(key.shape[1] - 1, self._cached.shape[1])
        same = (key[:, :length] == self._cached[:, :length]).all(0)
        common = length if bool(same.all()) else int(same.long().argmin())
        if self._cache is None or common == 0:
            self._cache = DynamicCache()  # without a config all layers keep everything; masks know the windows
            return 0
        self._cache.crop(common - self._cache.get_seq_length())
        return common
