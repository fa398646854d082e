"""Train the classifier of questions that the package carries, and judge it by questions it has not seen.

    python -m benchmarks.question_kinds              # judge the weights of the package, write the table
    python -m benchmarks.question_kinds --train      # make them again first: seconds, the same every time
    python -m benchmarks.question_kinds --encoder DIR   # judge an embedding: a sentence encoder of transformers

Training questions are templates and words of `benchmarks._questions.train`; those of `held_out` share none of their
templates and none of their words for things, acts and signs. Results under benchmarks/results/routing.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._questions import held_out, paraphrases, train, trial
from ov2kit.files import write_tensors, write_text
from ov2kit.recipes.routing.embedding_classifier import EXAMPLES, EmbeddingClassifier
from ov2kit.recipes.routing.features import question_features, question_words
from ov2kit.recipes.routing.logistic import fit_logistic
from ov2kit.recipes.routing.question_kind import KINDS, WEIGHTS, QuestionClassifier

RESULTS = Path(__file__).parent / "results" / "routing"
PER_TEMPLATE = 40
_PENALTY = 1e-4
_STEPS = 60
_MADE_UP = 0.5
_NONE = "not understood"


def filled(source: ModuleType, kind: str, number: int) -> str:
    """The question of a kind with a number: any number gives one, neighbors have other templates and words."""
    rng = np.random.default_rng((number, KINDS.index(kind)))  # type: ignore[arg-type] # one of them
    templates = source.TEMPLATES[kind]
    template = templates[number % len(templates)]
    thing, other = (source.THINGS[i] for i in rng.permutation(len(source.THINGS))[:2])
    act, acting, do = source.ACTS[rng.integers(len(source.ACTS))]
    sign = source.SIGNS[rng.integers(len(source.SIGNS))]
    if source is train and rng.random() < _MADE_UP:  # so that unknown words say nothing
        thing, other, sign, verb = (_made_up(rng) for _ in range(4))
        act, acting, do = verb + "s", verb + "ing", verb
    text: str = template.format(thing=thing, other=other, act=act, acting=acting, do=do, do_s=act, sign=sign)
    return text


def _made_up(rng: np.random.Generator) -> str:
    """A word that is none."""
    return "".join(rng.choice(list(letters)) for letters in ("bcdfghjklmnprstvw", "aeiou") * int(rng.integers(1, 4)))


def questions(source: ModuleType, per_template: int) -> list[tuple[str, str]]:
    """(kind, text), each once."""
    found: dict[tuple[str, str], None] = {}
    for kind in KINDS:
        for number in range(per_template * len(source.TEMPLATES[kind])):
            found[kind, filled(source, kind, number)] = None
    return list(found)


def words(source: ModuleType) -> list[str]:
    """Of templates, those to fill in apart."""
    texts = (re.sub(r"\{\w+\}", " ", template) for of_kind in source.TEMPLATES.values() for template in of_kind)
    return sorted({word for text in texts for word in question_words(text)})


def fit(pairs: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Weights (kinds, buckets) and bias (kinds,): multinomial logistic regression, each kind with equal weight."""
    features = torch.stack([question_features(text) for _, text in pairs])
    labels = torch.tensor([KINDS.index(kind) for kind, _ in pairs])  # type: ignore[arg-type] # one of them
    return fit_logistic(features, labels, len(KINDS), penalty=_PENALTY, steps=_STEPS)


def calibrated(weight: Tensor, bias: Tensor, pairs: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Scaled by one number, so that shares are as sure as they are right on other questions."""
    features = torch.stack([question_features(text) for _, text in pairs])
    labels = torch.tensor([KINDS.index(kind) for kind, _ in pairs])  # type: ignore[arg-type] # one of them
    counts = torch.bincount(labels, minlength=len(KINDS)).float()
    logits = features @ weight.T + bias
    factors = np.geomspace(0.5, 8, 41).tolist()
    best = min(factors, key=lambda f: float(torch.nn.functional.cross_entropy(f * logits, labels, 1 / counts)))
    print(f"calibrated: logits times {best:.3g}")
    return best * weight, best * bias


def judge(classify: Any, pairs: list[tuple[str, str]]) -> dict[str, Counter[str]]:
    """What questions of each kind are taken for."""
    taken: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for kind, text in pairs:
        taken[kind][classify(text).kind or _NONE] += 1
    return taken


def whole(source: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """(kind, text) of questions that are no templates."""
    return [(kind, text) for kind, texts in source.items() for text in texts]


def table(taken: dict[str, Counter[str]]) -> str:
    """Accuracy per kind, and what the others are taken for."""
    lines = ["| kind | questions | right | taken for |", "| --- | --- | --- | --- |"]
    for kind, found in taken.items():
        others = ", ".join(f"{name} {n}" for name, n in found.most_common() if name != kind) or "-"
        lines.append(f"| {kind} | {found.total()} | {found[kind] / found.total():.3f} | {others} |")
    rights = [found[kind] / found.total() for kind, found in taken.items()]
    lines.append(f"| mean of the kinds | {sum(f.total() for f in taken.values())} | {np.mean(rights):.3f} | |")
    return "\n".join(lines) + "\n"


def plain(taken: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """As it is stored."""
    return {kind: dict(sorted(found.items())) for kind, found in taken.items()}


def encoder(directory: Path) -> Callable[[list[str]], Tensor]:
    """Texts -> means of the last hidden states of an encoder of transformers."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()

    @torch.no_grad()
    def embed(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        weight = batch["attention_mask"][..., None].float()
        total: Tensor = (model(**batch).last_hidden_state * weight).sum(1)
        return total / weight.sum(1)

    return embed


def voices(classify: Any) -> dict[str, Any]:
    """How questions in other voices are taken, and how many that are not English are not understood."""
    found: dict[str, Any] = {}
    for name, source in (("first", paraphrases.FIRST), ("second", paraphrases.SECOND)):
        found[name] = plain(judge(classify, whole(source)))
    refused = sum(classify(text).kind is None for text in paraphrases.OTHER)
    return {**found, "other": {"questions": len(paraphrases.OTHER), "not understood": refused}}


def voices_table(found: Mapping[str, Any]) -> str:
    """Accuracy per kind on both lists, and what is not understood."""
    lines = ["| kind | first list | | second list | |", "| --- | --- | --- | --- | --- |"]
    for kind in (*KINDS, "all"):
        cells = []
        for name in ("first", "second"):
            own = [found[name][k] for k in ([kind] if kind != "all" else KINDS)]
            total = sum(sum(n.values()) for n in own)
            right = sum(n.get(k, 0) for k, n in zip([kind] if kind != "all" else KINDS, own, strict=True))
            cells += [f"{right} of {total}", f"not understood {sum(n.get(_NONE, 0) for n in own)}"]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    other = found["other"]
    lines.append(f"| not English | {other['not understood']} of {other['questions']} not understood | | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trial", action="store_true", help="judge by the trial questions alone; writes nothing")
    parser.add_argument("--encoder", type=Path, help="directory of a sentence encoder; judges that alone")
    parser.add_argument("--train", action="store_true", help="make the weights again first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.encoder:
        classify = EmbeddingClassifier(encoder(options.encoder))
        held = judge(classify, questions(held_out, 1))
        found = {"encoder": options.encoder.name.split("__")[-1], "held out": plain(held), **voices(classify)}
        write_text(RESULTS / "embedding.json", json.dumps(found, indent=1) + "\n")
        print(table(held), voices_table(found), sep="\n")
        return
    if options.train:
        weight, bias = calibrated(*fit(questions(train, PER_TEMPLATE)), questions(trial, PER_TEMPLATE))
        examples = {kind: [filled(train, kind, n) for n in range(len(train.TEMPLATES[kind]))] for kind in KINDS}
        write_text(EXAMPLES, json.dumps(examples, indent=1) + "\n")
        write_tensors(
            WEIGHTS,
            {"weight": weight.half(), "bias": bias},
            {"kinds": json.dumps(KINDS), "words": " ".join(words(train))},
        )
    if options.trial:
        print(table(judge(QuestionClassifier(), questions(trial, 30))))
        return
    taken = judge(QuestionClassifier(), questions(held_out, 30))
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / "questions.json", json.dumps(plain(taken), indent=1) + "\n")
    print(table(taken))
    said = voices(QuestionClassifier())
    write_text(RESULTS / "voices.json", json.dumps(said, indent=1) + "\n")
    print(voices_table(said))


if __name__ == "__main__":
    main()
