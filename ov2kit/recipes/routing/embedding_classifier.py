"""What a question asks for, by an embedding of texts: of a sentence encoder, or of a language model's hidden states."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ov2kit.errors import OptionError, check_keys, check_type, shorten
from ov2kit.recipes.routing.features import question_words
from ov2kit.recipes.routing.logistic import fit_logistic
from ov2kit.recipes.routing.question_kind import KINDS, AskedFor, QuestionKind

EXAMPLES = Path(__file__).parent / "assets" / "questions.json"
_PENALTY, _STEPS = 1e-3, 100


class EmbeddingClassifier:
    """Tells what a question asks for, as `QuestionClassifier` does, by an embedding of yours.

    A logistic regression on the directions of the vectors is fitted to 385 examples, in well under a second beside
    what embedding them takes. It knows the languages that the embedding puts beside English.

    Args:
        embed: texts -> (N, D), a vector of each; the same whatever texts stand beside it.
        examples: kind -> questions, at least one of each kind; those of the package by default.

    Raises:
        OptionError: `embed` gives something else, or a kind has no example.

    Example:
        >>> def letters(texts):  # in practice a sentence encoder: lambda texts: torch.from_numpy(encoder.encode(texts))
        ...     return torch.stack([torch.bincount(torch.tensor([*text.encode()]), minlength=256) for text in texts])
        >>> classify = EmbeddingClassifier(letters)
        >>> classify("How many times does the dog jump?").kind
        'count'
    """

    def __init__(
        self,
        embed: Callable[[list[str]], Tensor],
        examples: Mapping[QuestionKind, Sequence[str]] | None = None,
    ) -> None:
        check_type("embed", embed, Callable, "a function of texts")
        if examples is None:
            examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
        check_type("examples", examples, Mapping, "kind -> questions")
        check_keys("examples", {str(kind): None for kind in examples}, KINDS)
        if missing := [kind for kind in KINDS if not examples.get(kind)]:
            raise OptionError(f"examples of every kind are needed, there is none of {', '.join(missing)}")
        texts = [text for kind in KINDS for text in examples[kind]]
        labels = torch.tensor([number for number, kind in enumerate(KINDS) for _ in examples[kind]])
        self.embed = embed
        self.weight, self.bias = fit_logistic(
            self._directions(texts), labels, len(KINDS), penalty=_PENALTY, steps=_STEPS
        )

    def __call__(self, question: str) -> AskedFor:
        """Classify one question.

        Raises:
            OptionError: it is no text, or has no word.
        """
        if not question_words(check_type("question", question, str, "a text")):
            raise OptionError("question has no word in it")
        shares = (self._directions([question]) @ self.weight.T + self.bias)[0].softmax(0).tolist()
        by_kind = dict(zip(KINDS, shares, strict=True))
        return AskedFor(max(KINDS, key=lambda kind: by_kind[kind]), by_kind)

    def _directions(self, texts: list[str]) -> Tensor:
        """(N, D) float32 of length 1, on the CPU."""
        found = self.embed(texts)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(texts) or not found.isfinite().all():
            said = tuple(found.shape) if isinstance(found, Tensor) else shorten(found)
            raise OptionError(f"embed must give a finite tensor ({len(texts)}, D) for {len(texts)} texts, got {said}")
        return F.normalize(found.detach().float().cpu(), dim=-1)
