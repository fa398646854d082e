"""JumpScore: start times out of text and their average precision, against the public reference's numbers."""

import json
import time
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.recipes.metrics import (
    JumpScoreMAP,
    aggregate_jumpscore,
    average_precision,
    is_explicit_empty,
    jumpscore_row,
    parse_answer,
    parse_starts,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "10_jumpscore.json").read_text())
ROWS = GOLDEN["rows"]
TIMES = st.lists(st.integers(0, 60).map(lambda k: k / 10), max_size=7)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["prediction"][:24] + "|" + row["answer"][:12])
def test_every_row_of_the_reference(row):
    assert parse_starts(row["prediction"]) == row["pred_starts"]
    assert parse_answer(row["answer"]) == row["gt_starts"]
    assert is_explicit_empty(row["answer"]) is row["explicit_empty"]
    made = jumpscore_row(row["prediction"], row["answer"])
    assert (list(made.pred_starts), list(made.gt_starts)) == (row["pred_starts"], row["gt_starts"])
    assert {str(tolerance): value for tolerance, value in made.ap.items()} == pytest.approx(row["ap"], abs=1e-12)
    assert made.map == pytest.approx(row["map"], abs=1e-12)
    assert (len(made.pred_starts), len(made.gt_starts)) == (row["num_pred"], row["num_gt"])


@pytest.mark.parametrize("case", GOLDEN["with_confidence"], ids=range(len(GOLDEN["with_confidence"])))
def test_confidences_of_the_reference(case):
    for tolerance, value in case["ap"].items():
        made = average_precision(case["pred"], case["gt"], float(tolerance), case["confidence"])
        assert made == pytest.approx(value, abs=1e-12)
    text = str(case["pred"])
    assert jumpscore_row(text, case["gt"], case["confidence"]).map == pytest.approx(case["map"], abs=1e-12)


def test_aggregate_of_the_reference():
    metric = JumpScoreMAP()
    for start in range(0, len(ROWS), 7):
        part = ROWS[start : start + 7]
        metric.update([row["prediction"] for row in part], [row["answer"] for row in part])
    made = metric.compute()
    assert list(made) == ["map", "ap@0.1", "ap@0.2", "ap@0.3"]
    assert made["map"].item() == pytest.approx(GOLDEN["aggregate_map_over_rows_without_exception"], abs=1e-12)
    for tolerance in ("0.1", "0.2", "0.3"):
        values = [row["ap"][tolerance] for row in ROWS if row["ap"]]
        assert len(values) < len(ROWS)
        assert made[f"ap@{tolerance}"].item() == pytest.approx(sum(values) / len(values), abs=1e-12)
    plain = aggregate_jumpscore(jumpscore_row(row["prediction"], row["answer"]) for row in ROWS)
    assert plain == pytest.approx({name: value.item() for name, value in made.items()}, abs=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_aggregate_of_nothing():
    assert {value.item() for value in JumpScoreMAP().compute().values()} == {GOLDEN["aggregate_of_nothing"]}
    assert set(aggregate_jumpscore([]).values()) == {0.0}


def test_by_hand():
    # 1.0 hits at rank 1, 2.5 misses at rank 2, 3.0 hits at rank 3: (1/1 + 2/3) / 3 answers
    assert average_precision([3.0, 1.0, 2.5], [1.05, 2.0, 3.0], 0.1) == pytest.approx((1 + 2 / 3) / 3)
    # the closest free answer is taken, not the first within reach
    assert average_precision([1.1, 0.9], [1.0, 1.15], 0.2) == pytest.approx(1.0)
    # confidence decides who comes first: the miss does
    assert average_precision([1.0, 5.0], [1.0], 0.1, [0.2, 0.9]) == 0.5


@pytest.mark.parametrize("answer", ["[]", [], "```json\n[ ]\n```"])
def test_an_empty_answer_wants_silence(answer):
    assert jumpscore_row("nothing", answer).map == 1.0
    assert jumpscore_row("at 1.0s", answer).map == 0.0
    assert jumpscore_row("at 1.0s", answer).ap == {}


def test_an_answer_that_cannot_be_read_is_not_an_empty_one():
    for answer in ("not json", "", "{}", "[oops"):
        made = jumpscore_row("never", answer)
        assert (made.map, made.ap, made.explicit_empty) == (0.0, {}, False)


def test_stretches_in_brackets():
    assert parse_starts("[-0.5, 0.5,]") == [-0.5, 0.5]  # read as JSON once the comma is gone: signs stay
    assert parse_answer("[1.0, 2.0,]") == [1.0, 2.0]
    assert parse_answer("[1.0] or [2.0, 3.0]") == [1.0]  # the first for answers, the longest for predictions
    assert parse_starts("[1.0] or [2.0, 3.0]") == [2.0, 3.0]


def _first_principles(times, truth, tolerance):
    """Every ranking position looked at on its own, with numbers taken out of a copy."""
    left, hits = sorted(truth), []
    for t in sorted(times):
        within = [(abs(g - t), g) for g in left if abs(g - t) <= tolerance]
        hits.append(bool(within))
        if within:
            left.remove(min(within)[1])
    recall_step = 1 / len(truth)
    return sum(sum(hits[: k + 1]) / (k + 1) * recall_step for k in range(len(hits)) if hits[k])


@settings(max_examples=200, deadline=None)
@given(TIMES, TIMES.filter(bool))
def test_average_precision_from_first_principles(times, truth):
    for tolerance in (0.1, 0.2, 0.3):
        made = average_precision(times, truth, tolerance)
        assert made == pytest.approx(_first_principles(times, truth, tolerance), abs=1e-12)
        assert 0 <= made <= 1
    assert average_precision(truth, truth, 0.1) == pytest.approx(1.0)
    assert average_precision(times, truth, 0.3) == pytest.approx(
        jumpscore_row(str(times), truth).ap[0.3] if times else 0.0
    )


def test_order_of_the_list_does_not_matter():
    scores = {average_precision(order, [1.0, 2.0, 2.2], 0.2) for order in permutations([1.1, 2.1, 2.3, 4.0])}
    assert len(scores) == 1


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.,[]s \"'{}-+eE:naift\n", max_size=40))
def test_no_text_breaks_the_parser(text):
    for times in (parse_starts(text), parse_answer(text)):
        assert times == sorted(times)
        assert all(abs(time) < float("inf") for time in times)
    assert 0 <= jumpscore_row(text, text).map <= 1


@pytest.mark.parametrize(
    "text", ["9" * 30000, "[" * 30000, "[" * 30000 + "1]", "1 " * 30000, "9" * 5000 + "s", "[1e999]"]
)
def test_a_model_that_repeats_itself_costs_no_time(text):
    begin = time.perf_counter()
    jumpscore_row(text, "[1.0]")
    jumpscore_row("1.0s", text)
    assert time.perf_counter() - begin < 2


def test_bare_texts_and_uneven_lists_are_refused():
    metric = JumpScoreMAP()
    with pytest.raises(ValueError, match=r"predictions must be a list.*str: '1\.0s'"):
        metric.update("1.0s", "[1.0]")
    with pytest.raises(ValueError, match=r"equal lengths, got \[2, 1\]"):
        metric.update(["1.0s", "2.0s"], ["[1.0]"])
    with pytest.raises(ValueError, match=r"seconds >= 0, got \[-0\.1\]"):
        JumpScoreMAP(tolerances=[-0.1])
    assert metric.rows == 0
