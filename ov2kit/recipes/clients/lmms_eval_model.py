"""A model directory as lmms-eval asks it: what `ov2kit evaluate` would answer, question by question.

Written for lmms-eval 0.7.3.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from lmms_eval.api.model import lmms
from tqdm import tqdm

from ov2kit.errors import DataError, OptionError, Ov2kitError, check_choice, check_number
from ov2kit.recipes.generate import Dtype, answer, load
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.prompts import SourceKind

#: what takes no part in a greedy answer, or is spoken for
_GREEDY = ("temperature", "top_p", "top_k", "do_sample", "num_beams", "max_new_tokens", "until", "image_aspect_ratio")
_LONGEST = 256  # tokens of an answer where a task does not say, as in `ov2kit evaluate`
Errors = Literal["raise", "empty"]


class Ov2kit(lmms):  # type: ignore[misc]
    """Answers of a model directory. All arguments may come as text.

    Args:
        pretrained: see `load`.
        source: how videos are read; "route" chooses by each question, see `Router`.
        budget_canvases: most canvases or frames of a video.
        frame_share: of the canvases of source "hybrid" that are whole frames; the model's when omitted.
        decimals: of the time stamps.
        visibility: which canvases see each other, as it was trained.
        dtype: see `load`.
        device: see `load`; the one of this process where there are several.
        max_new_tokens: longest answer of tasks that do not say.
        errors: a video that cannot be read ends the run ("raise"), or is answered with an empty text ("empty").
        batch_size: 1; questions are answered one by one, so that an answer does not depend on the one beside it.
        max_batch_size: ignored.

    Raises:
        CheckpointError: see `load`.
        OptionError: an option is out of range.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        source: SourceKind = "codec",
        budget_canvases: int | str = 32,
        frame_share: float | str | None = None,
        decimals: int | str = 2,
        visibility: Visibility = "group",
        dtype: Dtype = "auto",
        device: str | None = None,
        max_new_tokens: int | str = _LONGEST,
        errors: Errors = "raise",
        batch_size: int | str = 1,
        max_batch_size: int | str | None = None,
    ) -> None:
        super().__init__()
        check_choice("source", source, get_args(SourceKind))
        check_choice("visibility", visibility, get_args(Visibility))
        check_choice("errors", errors, get_args(Errors))
        budget = {"budget_canvases": _whole("budget_canvases", budget_canvases, 1)}
        share = {} if frame_share is None else {"frame_share": _share(frame_share)}
        digits = check_number("decimals", _whole("decimals", decimals, 0), high=9)
        self.longest = _whole("max_new_tokens", max_new_tokens, 1)
        if str(batch_size) != "1":
            raise OptionError(f"batch_size must be 1, got {batch_size}; run several processes instead")
        if device == "cuda" and "LOCAL_RANK" in os.environ:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        self.model, self.processor = load(
            pretrained, device=device, dtype=dtype, source=source, decimals=digits, codec=budget, frames=budget, **share
        )
        self.device = self.model.device
        self.visibility, self.errors = visibility, errors

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers in the order of the requests."""
        found = []
        for request in tqdm(requests, desc="ov2kit", disable=self.rank != 0):
            _, to_messages, options, document, task, split = request.args
            found.append(self._answer(to_messages(self.task_dict[task][split][document]), options))
        return found

    def _answer(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
        own = read_chat(messages)
        try:
            sample = self.processor(own, generate=True)
        except (Ov2kitError, OSError) as error:
            if self.errors == "raise":
                raise
            print(f"answered with an empty text: {' '.join(str(error).split())}", flush=True)
            return ""
        length = options.get("max_new_tokens") or self.longest
        text = answer(
            self.model,
            self.processor,
            [sample],
            max_new_tokens=length,
            visibility=self.visibility,
            **drawing(options),
        )[0]
        ends = options.get("until") or []
        for end in [ends] if isinstance(ends, str) else ends:
            text = text.split(end)[0] if end else text
        return text

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not built: tasks that choose by likelihood are refused."""
        raise NotImplementedError("ov2kit answers in words; choose a task of type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not built: tasks of several rounds are refused."""
        raise NotImplementedError("ov2kit answers one round; choose a task of type generate_until")


def read_chat(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages of lmms-eval, which names media by "url", as `Processor` reads them.

    Raises:
        DataError: a part of another kind, such as sound, or a part of a video.
    """
    return [{**message, "content": _content(message["content"])} for message in messages]


def _content(content: Any) -> Any:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping) or part.get("type") not in ("image", "video"):
        return part
    if part.get("start_time") is not None or part.get("end_time") is not None:
        raise DataError("a stretch of a video cannot be asked for; cut the file before")
    return {"type": part["type"], part["type"]: part.get("url")}


def drawing(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `generate` of transformers from a task's; greedy unless it asks to draw or to search.

    Raises:
        OptionError: an option that is not known.
    """
    unknown = sorted({name for name, value in options.items() if value is not None} - {*_GREEDY})
    if unknown:
        raise OptionError(f"the task's generation_kwargs hold {', '.join(unknown)}; known: {', '.join(_GREEDY)}")
    chosen: dict[str, Any] = {}
    if (options.get("num_beams") or 1) > 1:
        chosen["num_beams"] = options["num_beams"]
    if options.get("do_sample") or (options.get("do_sample") is None and (options.get("temperature") or 0) > 0):
        names = ("temperature", "top_p", "top_k")
        chosen |= {"do_sample": True} | {name: options[name] for name in names if options.get(name) is not None}
    return chosen


def _share(value: float | str) -> float:
    """A share that may come as text."""
    try:
        number = float(value)
    except ValueError as error:
        raise OptionError(f"frame_share must be a number, got {value!r}") from error
    return float(check_number("frame_share", number, above=0, high=1))


def _whole(name: str, value: int | str, low: int) -> int:
    """A whole number that may come as text."""
    try:
        number = int(value)
    except ValueError as error:
        raise OptionError(f"{name} must be a whole number, got {value!r}") from error
    return int(check_number(name, number, low=low, integer=True))
