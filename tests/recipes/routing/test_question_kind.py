"""What questions ask for: questions of nobody's templates, and what the benchmark stores."""

import json

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import question_kinds
from benchmarks._questions import held_out, paraphrases, train, trial
from ov2kit.errors import CheckpointError, OptionError
from ov2kit.recipes import Router
from ov2kit.recipes.routing.embedding_classifier import EXAMPLES, EmbeddingClassifier
from ov2kit.recipes.routing.features import BUCKETS, question_features, question_words
from ov2kit.recipes.routing.question_kind import KINDS, LEAST_KNOWN, WEIGHTS, QuestionClassifier


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("At which second does the skier jump?", "when"),
        ("Give the start and end time of the goal.", "when"),
        ("When does the second athlete take off?", "when"),
        ("How many cars are left when the light turns green?", "count"),  # "when" is not the point
        ("How often does she wave before the music stops?", "count"),
        ("Does the blue car pass before the bus?", "order"),
        ("Which of the two doors opens first?", "order"),
        ("What is the man with the ladder doing?", "happens"),
        ("What happens in this clip?", "happens"),
        ("What is written on the sign when the bus stops?", "say"),
        ("Read the number plate of the van.", "say"),
        ("Where is the cup when the clip is over?", "where"),
        ("Is the plant to the left of the window?", "where"),
        ("What color is the coat of the woman?", "look"),
        ("Describe the appearance of the house.", "look"),
    ],
)
def test_what_is_asked_for(question, kind):
    asked = QuestionClassifier()(question)
    assert asked.kind == kind
    assert sum(asked.shares.values()) == pytest.approx(1, abs=1e-4)
    assert set(asked.shares) == set(KINDS)


def test_splits_share_no_template_and_no_word_to_fill_in():
    for name in ("THINGS", "ACTS", "SIGNS"):
        assert not set(getattr(train, name)) & set(getattr(held_out, name))
        assert not set(getattr(trial, name)) & set(getattr(held_out, name))
    templates = [{t for of_kind in source.TEMPLATES.values() for t in of_kind} for source in (train, trial, held_out)]
    assert not templates[0] & templates[2]
    assert not templates[1] & templates[2]
    assert not templates[0] & templates[1]
    assert all(set(source.TEMPLATES) == set(KINDS) for source in (train, trial, held_out))


def test_stored_accuracy_is_that_of_the_weights_in_the_package():
    taken = question_kinds.judge(QuestionClassifier(), question_kinds.questions(held_out, 30))
    stored = json.loads((question_kinds.RESULTS / "questions.json").read_text())
    assert {kind: dict(found) for kind, found in taken.items()} == stored
    assert all(found[kind] / found.total() > 0.7 for kind, found in taken.items())
    assert WEIGHTS.stat().st_size < 200_000


def test_stored_accuracy_in_other_voices_is_that_of_the_weights_in_the_package():
    stored = json.loads((question_kinds.RESULTS / "voices.json").read_text())
    assert question_kinds.voices(QuestionClassifier()) == stored


def test_other_languages_are_not_understood():
    """All shares alike, so that nothing is guessed. Words that English has too are the one way around it."""
    classify = QuestionClassifier()
    found = {text: classify(text) for text in paraphrases.OTHER}
    guessed = [text for text, asked in found.items() if asked.kind is not None]
    assert guessed == ["Was passiert in diesem Video?"]
    for text, asked in found.items():
        if text not in guessed:
            assert set(asked.shares.values()) == {1 / len(KINDS)}
            assert asked.known < LEAST_KNOWN
    assert min(classify(text).known for _, text in question_kinds.questions(trial, 5)) > LEAST_KNOWN


def test_training_and_other_voices_share_no_question():
    written = {text.casefold() for source in (paraphrases.FIRST, paraphrases.SECOND) for _, text in
               question_kinds.whole(source)}  # fmt: skip
    assert len(written) == sum(len(question_kinds.whole(s)) for s in (paraphrases.FIRST, paraphrases.SECOND)) == 149
    assert not written & {text.casefold() for _, text in question_kinds.questions(train, 5)}


def test_case_and_punctuation_make_no_difference_and_words_do():
    one = question_features("When does the Dog bark?")
    assert torch.equal(one, question_features("when does the dog bark ??"))
    assert not torch.equal(one, question_features("when does the cat bark"))
    assert one.shape == (BUCKETS,)
    assert float(one.norm()) == pytest.approx(1)


def test_training_again_gives_weights_that_classify_alike(monkeypatch):
    """A run of a few steps on a tenth of the questions tells two thirds of them apart; one in seven is chance."""
    monkeypatch.setattr(question_kinds, "_STEPS", 12)
    weight, bias = question_kinds.fit(question_kinds.questions(train, 3))
    pairs = question_kinds.questions(trial, 2)
    found = [int((weight @ question_features(text) + bias).argmax()) for _, text in pairs]
    assert sum(KINDS[k] == kind for k, (kind, _) in zip(found, pairs, strict=True)) > 0.65 * len(pairs)


@pytest.mark.parametrize("question", ["", "?!", "  "])
def test_without_a_word_nothing_is_asked(question):
    with pytest.raises(OptionError, match="no word"):
        QuestionClassifier()(question)


def test_other_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no weights of a question classifier"):
        QuestionClassifier(tmp_path / "none.safetensors")
    tensors = {"weight": torch.zeros(3, 5), "bias": torch.zeros(3)}
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"no weights of a question classifier .*words"):
        QuestionClassifier(tmp_path / "other.safetensors")
    save_file(tensors, tmp_path / "other.safetensors", {"words": "when where"})
    with pytest.raises(CheckpointError, match=r"expected weight \(7, 4096\) and bias \(7,\), got \(3, 5\) and \(3,\)"):
        QuestionClassifier(tmp_path / "other.safetensors")


def embed(texts):
    """A direction for each of seven words: the sum of those of a text, and a little of all."""
    words = [[w for w in question_words(text) if w in KINDS] for text in texts]
    return torch.stack([sum(torch.eye(7)[KINDS.index(w)] for w in own) + torch.full((7,), 0.01) for own in words])


@pytest.fixture(scope="module")
def classify():
    return EmbeddingClassifier(embed, {kind: [kind, f"{kind} it"] for kind in KINDS})


class TestEmbedding:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_nearest_examples_decide(self, classify, kind):
        asked = classify(f"please {kind}, now")
        assert asked.kind == kind
        assert sum(asked.shares.values()) == pytest.approx(1, abs=1e-5)

    def test_what_lies_between_is_shared_and_what_is_nowhere_is_open(self, classify):
        shares = classify("say where").shares
        assert shares["say"] == pytest.approx(shares["where"], abs=0.02)
        assert shares["say"] + shares["where"] > 0.6
        assert max(classify("¿Cuándo?").shares.values()) < 0.2

    def test_a_router_takes_it(self, classify):
        assert Router(4, classifier=classify).classifier("where").kind == "where"

    def test_examples_of_the_package_are_those_it_was_trained_on(self):
        examples = json.loads(EXAMPLES.read_text())
        assert {kind: len(texts) for kind, texts in examples.items()} == {k: len(v) for k, v in train.TEMPLATES.items()}
        assert examples["when"][3] == question_kinds.filled(train, "when", 3)

    def test_wrong_embeddings_and_examples_are_refused(self):
        with pytest.raises(OptionError, match=r"embed must give a finite tensor \(14, D\) for 14 texts, got \(3, 2\)"):
            EmbeddingClassifier(lambda texts: torch.ones(3, 2), {kind: ["a", "b"] for kind in KINDS})
        with pytest.raises(OptionError, match="finite"):
            EmbeddingClassifier(lambda texts: torch.full((len(texts), 2), torch.nan))
        with pytest.raises(OptionError, match="there is none of order, happens, say, where, look"):
            EmbeddingClassifier(embed, {"when": ["a"], "count": ["b"]})
        with pytest.raises(OptionError, match="embed must be a function"):
            EmbeddingClassifier("all-MiniLM-L6-v2")
        with pytest.raises(OptionError, match="no word"):
            EmbeddingClassifier(embed, {kind: [kind] for kind in KINDS})("?!")
