"""What a question asks for: a small classifier of its text, whose weights come with the package.

Logistic regression on hashed pieces of text; `python -m benchmarks.question_kinds` makes the weights again.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ov2kit.errors import CheckpointError, OptionError, check_type
from ov2kit.recipes.routing.features import BUCKETS, question_features

QuestionKind = Literal["when", "count", "order", "happens", "say", "where", "look"]
KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)
WEIGHTS = Path(__file__).parent / "assets" / "question_kinds.safetensors"


@dataclass(frozen=True)
class AskedFor:
    """What a question asks for.

    Args:
        kind: the likeliest kind.
        shares: probability of each kind.
    """

    kind: QuestionKind
    shares: dict[QuestionKind, float]


class QuestionClassifier:
    """Tells what a question asks for: "when", "count" (how many times), "order", "happens" (what happens), "say" (what
    does it say), "where" or "look" (how does it look).

    English; of other languages it knows nothing and says so by shares that are nearly equal.

    Args:
        weights: safetensors with "weight" (kinds, buckets) and "bias" (kinds,); those of the package by default.

    Raises:
        CheckpointError: the file is missing, or holds something else.

    Example:
        >>> QuestionClassifier()("At which second does the light go out?").kind
        'when'
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        path = WEIGHTS if weights is None else Path(check_type("weights", weights, (str, Path), "a path"))
        self.weight, self.bias = _read(path)

    def __call__(self, question: str) -> AskedFor:
        """Classify one question.

        Raises:
            OptionError: it is no text, or has no word.
        """
        check_type("question", question, str, "a text")
        features = question_features(question)
        if not features.any():
            raise OptionError("question has no word in it")
        shares = (self.weight @ features + self.bias).softmax(0).tolist()
        by_kind = dict(zip(KINDS, shares, strict=True))
        return AskedFor(max(KINDS, key=lambda kind: by_kind[kind]), by_kind)


@cache
def _read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        tensors = load_file(path)
        weight, bias = tensors["weight"].float(), tensors["bias"].float()
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path}: no weights of a question classifier ({error})") from error
    if weight.shape != (len(KINDS), BUCKETS) or bias.shape != (len(KINDS),):
        expected = f"weight {(len(KINDS), BUCKETS)} and bias {(len(KINDS),)}"
        raise CheckpointError(f"{path}: expected {expected}, got {tuple(weight.shape)} and {tuple(bias.shape)}")
    return weight, bias
