"""A question as counts of hashed pieces: its words, pairs of words, and letters in a row."""

import re
import zlib
from collections import Counter

import torch
from torch import Tensor

BUCKETS = 4096
_LONGEST = 64  # words of a question that are read
_WORD = re.compile(r"\w+")
_LETTERS = (3, 4, 5)


def question_words(text: str) -> list[str]:
    """The first words, without letter case and punctuation."""
    return _WORD.findall(text.casefold())[:_LONGEST]


def question_features(text: str) -> Tensor:
    """(BUCKETS,) float32 of length 1: how often pieces of each bucket come, by log(1 + n).

    Letter case, punctuation and everything after the first words make no difference.
    """
    words = question_words(text)
    pieces = [f"w {word}" for word in words]
    pieces += [f"p {a} {b}" for a, b in zip(["<", *words], [*words, ">"], strict=True) if words]
    for word in words:
        marked = f"<{word}>"
        pieces += [f"l {marked[i : i + n]}" for n in _LETTERS for i in range(len(marked) - n + 1)]
    counts = Counter(zlib.crc32(piece.encode()) % BUCKETS for piece in pieces)
    features = torch.zeros(BUCKETS)
    if counts:
        places, values = list(counts), torch.tensor([float(n) for n in counts.values()])
        features[places] = torch.log1p(values)
    scaled: Tensor = features / features.norm().clamp(min=1e-6)
    return scaled
