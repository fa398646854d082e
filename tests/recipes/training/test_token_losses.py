"""Losses of supervised tokens by what their samples show; test_lit.py has them by hand."""

import pytest

from ov2kit.recipes import Processor, collate, load_tokenizer, pack
from ov2kit.recipes.training.token_losses import kind_of, samples_of


def test_samples_of_packed_and_padded_rows():
    processor = Processor(load_tokenizer(None))
    samples = [
        processor([{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}])
        for text in ("a", "some words more", "two words")
    ]
    lengths = [len(sample) for sample in samples]
    assert len(set(lengths)) == 3
    packed = samples_of(pack(samples, processor.pad_id, length=sum(lengths) + 3))
    assert packed.flatten().tolist() == [i for i, n in enumerate([*lengths, 3]) for _ in range(n)]
    assert samples_of(collate(samples, processor.pad_id))[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("stats", "kind"), [({"frames": 1.0}, "frames"), ({"image": 2.0}, "image"), ({}, "text")])
def test_kind_of(stats, kind):
    assert kind_of(stats) == kind
