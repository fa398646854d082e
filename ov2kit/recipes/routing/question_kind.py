"""What a question asks for: a small classifier of its text, whose weights come with the package.

Logistic regression on hashed pieces of text; `python -m benchmarks.question_kinds` makes the weights again.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open

from ov2kit.errors import CheckpointError, OptionError, check_type
from ov2kit.recipes.routing.features import BUCKETS, question_features, question_words

QuestionKind = Literal["when", "count", "order", "happens", "say", "where", "look"]
KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)
#: share of a question's words that must be known: of 1031 English ones of other templates none has less than 0.4
LEAST_KNOWN = 0.3
WEIGHTS = Path(__file__).parent / "assets" / "question_kinds.safetensors"


@dataclass(frozen=True)
class AskedFor:
    """What a question asks for.

    Args:
        kind: the likeliest kind; None where it was not understood.
        shares: probability of each kind; equal where it was not understood.
        known: share of its words that the classifier knows.
    """

    kind: QuestionKind | None
    shares: dict[QuestionKind, float]
    known: float = 1.0


class QuestionClassifier:
    """Tells what a question asks for: "when", "count" (how many times), "order", "happens" (what happens), "say" (what
    does it say), "where" or "look" (how does it look).

    English. A question of whose words it knows fewer than 0.3 is not understood: another language, or no question.

    Args:
        weights: safetensors with "weight" (kinds, buckets) and "bias" (kinds,), and in its metadata "words", those it
            was trained on; those of the package by default.

    Raises:
        CheckpointError: the file is missing, or holds something else.

    Example:
        >>> QuestionClassifier()("At which second does the light go out?").kind
        'when'
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        path = WEIGHTS if weights is None else Path(check_type("weights", weights, (str, Path), "a path"))
        self.weight, self.bias, self.words = _read(path)

    def __call__(self, question: str) -> AskedFor:
        """Classify one question.

        Raises:
            OptionError: it is no text, or has no word.
        """
        check_type("question", question, str, "a text")
        features = question_features(question)
        if not features.any():
            raise OptionError("question has no word in it")
        words = question_words(question)
        known = sum(word in self.words for word in words) / len(words)
        if known < LEAST_KNOWN:
            return AskedFor(None, dict.fromkeys(KINDS, 1 / len(KINDS)), known)
        shares = (self.weight @ features + self.bias).softmax(0).tolist()
        by_kind = dict(zip(KINDS, shares, strict=True))
        return AskedFor(max(KINDS, key=lambda kind: by_kind[kind]), by_kind, known)


@cache
def _read(path: Path) -> tuple[torch.Tensor, torch.Tensor, frozenset[str]]:
    try:
        with safe_open(path, framework="pt") as file:
            weight, bias = file.get_tensor("weight").float(), file.get_tensor("bias").float()
            words = frozenset((file.metadata() or {})["words"].split())
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path}: no weights of a question classifier ({error})") from error
    if weight.shape != (len(KINDS), BUCKETS) or bias.shape != (len(KINDS),):
        expected = f"weight {(len(KINDS), BUCKETS)} and bias {(len(KINDS),)}"
        raise CheckpointError(f"{path}: expected {expected}, got {tuple(weight.shape)} and {tuple(bias.shape)}")
    return weight, bias, words
