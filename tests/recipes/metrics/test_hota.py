"""HOTA against its definition, tried over every matching, and against the public benchmarks' tool."""

import itertools
import math

import numpy as np
import pytest

from ov2kit.recipes.metrics import HOTA, assign, hota_counts
from tests.paths import read_golden

REFERENCE = read_golden("hota_trackeval.json")
ALPHAS = [k / 20 for k in range(1, 20)]
ONE = [[1.0]]


def random_sequence(seed, frames=5, tracks=3, objects=3):
    rng = np.random.default_rng(seed)
    predicted, target, similarity = [], [], []
    for _ in range(frames):
        p = rng.permutation(tracks)[: rng.integers(0, tracks + 1)].tolist()
        g = rng.permutation(objects)[: rng.integers(0, objects + 1)].tolist()
        predicted.append(p)
        target.append(g)
        similarity.append(rng.random((len(p), len(g))) ** rng.choice([0.3, 1.0]))
    return predicted, target, similarity


def matchings(p, g):
    """Every one-to-one set of pairs of the positions of two lists."""
    for size in range(min(p, g) + 1):
        for rows in itertools.combinations(range(p), size):
            for columns in itertools.permutations(range(g), size):
                yield list(zip(rows, columns, strict=True))


def hota_by_definition(predicted, target, similarity, alpha):
    """Equations of the paper one by one, over sets of detections (frame, position); the matching by trying all."""
    found = [(t, p) for t, ids in enumerate(predicted) for p in range(len(ids))]
    true = [(t, g) for t, ids in enumerate(target) for g in range(len(ids))]
    possible = [((t, p), (u, g)) for t, p in found for u, g in true if t == u and similarity[t][p][g] >= alpha - 1e-15]

    def pair_ids(c):
        (t, p), (_, g) = c
        return predicted[t][p], target[t][g]

    def association(c, matches):
        pr, gt = pair_ids(c)
        tpa = sum(pair_ids(k) == (pr, gt) for k in matches)
        fna = sum(target[t][g] == gt for t, g in true) - tpa
        fpa = sum(predicted[t][p] == pr for t, p in found) - tpa
        return tpa / (tpa + fna + fpa)

    matches = []
    for t in range(len(predicted)):
        here = {(p, g): association(((t, p), (t, g)), possible) for (u, p), (_, g) in possible if u == t}
        candidates = [m for m in matchings(len(predicted[t]), len(target[t])) if all(pair in here for pair in m)]
        best = max(
            candidates,
            key=lambda m: (len(m), round(sum(here[k] for k in m), 9), sum(similarity[t][p][g] for p, g in m)),
        )
        matches += [((t, p), (t, g)) for p, g in best]
    total = len(found) + len(true) - len(matches)
    detection = len(matches) / total if total else 0.0
    mean_association = sum(association(c, matches) for c in matches) / len(matches) if matches else 0.0
    hota = math.sqrt(sum(association(c, matches) for c in matches) / total) if total else 0.0
    assert hota == pytest.approx(math.sqrt(detection * mean_association))
    return hota, detection, mean_association


@pytest.mark.parametrize("seed", range(8))
def test_definition_at_every_threshold(seed):
    sequence = random_sequence(seed)
    metric = HOTA()
    metric.update(*sequence)
    made = metric.per_alpha()
    wanted = [hota_by_definition(*sequence, alpha) for alpha in ALPHAS]
    for column, name in enumerate(("hota", "deta", "assa")):
        np.testing.assert_allclose(made[name].numpy(), [row[column] for row in wanted], rtol=0, atol=1e-12)
        mean = sum(row[column] for row in wanted) / 19
        assert metric.compute()[name].item() == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("index", range(len(REFERENCE["sequences"])))
def test_the_benchmarks_tool_at_every_threshold(index):
    case = REFERENCE["sequences"][index]
    metric = HOTA(matching="trackeval")
    metric.update(case["predicted_ids"], case["target_ids"], case["similarity"])
    made = metric.per_alpha()
    assert made.keys() == case["per_alpha"].keys()
    for name, values in case["per_alpha"].items():
        np.testing.assert_allclose(made[name].numpy(), values, rtol=0, atol=1e-9 if name == "loca" else 1e-12)


def test_the_benchmarks_tool_over_all_sequences():
    metric = HOTA(matching="trackeval")
    for case in REFERENCE["sequences"]:
        metric.update(case["predicted_ids"], case["target_ids"], case["similarity"])
    made = {name: value.item() for name, value in metric.compute().items()}
    assert made == pytest.approx(REFERENCE["together"], abs=1e-9)


def test_the_two_matchings_differ_where_a_pair_falls_below_the_threshold():
    # Once: 0-0 with 1-1 has the larger sum, then both fall below 0.5. Anew: 0-1 is left, and taken.
    similarity = [[[0.45, 0.55], [0.0, 0.45]]]
    at = ALPHAS.index(0.5)
    matched = {
        kind: hota_counts([[0, 1]], [[0, 1]], similarity, matching=kind).tp[at] for kind in ("paper", "trackeval")
    }
    assert matched == {"paper": 1, "trackeval": 0}


@pytest.mark.parametrize("matching", ["paper", "trackeval"])
class TestByHand:
    def score(self, matching, *sequence):
        metric = HOTA(matching=matching)
        metric.update(*sequence)
        return {name: value.item() for name, value in metric.compute().items()}

    def test_perfect(self, matching):
        made = self.score(matching, [[7]] * 4, [[3]] * 4, [ONE] * 4)
        assert set(made.values()) == {1.0}

    def test_an_identity_that_changes_halfway(self, matching):
        # each match: TPA 2, FNA 2, FPA 0 -> A = 1/2; all detections right
        made = self.score(matching, [[1], [1], [2], [2]], [[3]] * 4, [ONE] * 4)
        assert made["deta"] == 1
        assert made["assa"] == pytest.approx(0.5)
        assert made["hota"] == pytest.approx(math.sqrt(0.5))
        assert (made["assre"], made["asspr"]) == (pytest.approx(0.5), 1)

    def test_missing_and_extra(self, matching):
        # 4 true, 2 found, 1 invented track of 2: TP 2, FN 2, FP 2; A = 2 / (2 + 2 + 0)
        predicted, target = [[1], [1], [9], [9]], [[3]] * 4
        made = self.score(matching, predicted, target, [ONE, ONE, [[0.0]], [[0.0]]])
        assert made["deta"] == pytest.approx(2 / 6)
        assert made["assa"] == pytest.approx(0.5)
        assert made["hota"] == pytest.approx(math.sqrt(2 * 0.5 / 6))

    def test_localisation_decides_how_many_thresholds_are_reached(self, matching):
        made = self.score(matching, [[1]], [[1]], [[[0.5]]])  # reached at 0.05 ... 0.50: 10 of 19
        assert made["hota"] == made["deta"] == pytest.approx(10 / 19)
        made = self.score(matching, [[1]], [[1]], [[[0.15]]])  # exactly on a threshold that is no binary fraction
        assert made["hota"] == pytest.approx(3 / 19)

    def test_nothing_found_and_nothing_there(self, matching):
        assert self.score(matching, [[], []], [[1], [1]], [np.zeros((0, 1))] * 2)["hota"] == 0
        assert self.score(matching, [[1]], [[]], [np.zeros((1, 0))])["hota"] == 0
        assert self.score(matching, [[]], [[]], [[]])["hota"] == 0

    def test_ids_of_two_sequences_are_strangers(self, matching):
        metric = HOTA(matching=matching)
        metric.update([[1]], [[1]], [ONE])
        metric.update([[2]], [[1]], [ONE])  # another object that happens to have the same number
        assert metric.compute()["assa"] == 1


def test_the_matching_prefers_the_track_that_lasts():
    # In frame 0 track 9 fits a little better, but track 1 follows the object for three frames.
    predicted, target = [[1, 9], [1], [1]], [[5], [5], [5]]
    counts = hota_counts(predicted, target, [[[0.8], [0.9]], ONE, ONE])
    assert counts.association[0] == pytest.approx(3.0)


@pytest.mark.parametrize("seed", range(30))
def test_assignment_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 6, 2)
    scores = rng.random((rows, columns)) if seed % 2 else rng.integers(0, 3, (rows, columns)).astype(float)
    scores -= 0.5 * (seed % 3)
    pairs = assign(scores)
    size = min(rows, columns)
    assert len(pairs) == len({p for p, _ in pairs}) == len({g for _, g in pairs}) == size
    best = max(sum(scores[p, g] for p, g in m) for m in matchings(rows, columns) if len(m) == size)
    assert sum(scores[p, g] for p, g in pairs) == pytest.approx(best, abs=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match=r"one entry per frame, got \(1, 2, 1\)"):
        hota_counts([[1]], [[1], [1]], [ONE])
    with pytest.raises(ValueError, match=r"frame 0 hold an id twice: \[4, 4\]"):
        hota_counts([[4, 4]], [[1]], [[[1.0], [1.0]]])
    with pytest.raises(ValueError, match=r"frame 0 must be \(1, 1\), got \(1, 2\)"):
        hota_counts([[4]], [[1]], [[[1.0, 0.0]]])
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], got 1\.5"):
        hota_counts([[4]], [[1]], [[[1.5]]])
    with pytest.raises(ValueError, match="unknown matching 'best'; known: paper, trackeval"):
        HOTA(matching="best")
    assert assign(np.zeros((0, 3))) == []
