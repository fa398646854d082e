"""JumpScore: start times out of text and their average precision, against the public reference's numbers."""

import json
import math
import random
import signal
from contextlib import suppress
from itertools import permutations

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
from tests.paths import read_golden

REFERENCE = read_golden("10_jumpscore.json")
ROWS = REFERENCE["rows"]
TEXTS = read_golden("13_start_times.json")
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


@pytest.mark.parametrize("case", REFERENCE["with_confidence"], ids=range(len(REFERENCE["with_confidence"])))
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
    assert made["map"].item() == pytest.approx(REFERENCE["aggregate_map_over_rows_without_exception"], abs=1e-12)
    for tolerance in ("0.1", "0.2", "0.3"):
        values = [row["ap"][tolerance] for row in ROWS if row["ap"]]
        assert len(values) < len(ROWS)
        assert made[f"ap@{tolerance}"].item() == pytest.approx(sum(values) / len(values), abs=1e-12)
    plain = aggregate_jumpscore(jumpscore_row(row["prediction"], row["answer"]) for row in ROWS)
    assert plain == pytest.approx({name: value.item() for name, value in made.items()}, abs=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_aggregate_of_nothing():
    assert {value.item() for value in JumpScoreMAP().compute().values()} == {REFERENCE["aggregate_of_nothing"]}
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
    assert parse_answer("[1.0, 2.0,]") == []  # the comma goes from predictions only
    assert parse_answer("[1.0] or [2.0, 3.0]") == [1.0]  # the first for answers, the longest for predictions
    assert parse_starts("[1.0] or [2.0, 3.0]") == [2.0, 3.0]


def test_every_text_of_the_reference():
    assert len(TEXTS) == 400
    for row in TEXTS:
        text = row["text"]
        assert parse_starts(text) == row["as_prediction"], text
        assert parse_answer(text) == row["as_answer"], text
        assert is_explicit_empty(text) is row["explicit_empty"], text


@pytest.mark.parametrize(
    ("text", "as_prediction", "as_answer"),
    [
        ('["s1.5"] at 2', [1.5], [1.5]),  # every s goes, wherever it stands
        ('["1s.5"]', [1.0], [1.5]),
        ('["1.5 sec", "2.0"]', [2.0], [2.0]),  # what is left of it, "1.5 ec", is no number
        ('["1_0", "+2", " 3 "]', [2.0, 3.0, 10.0], [2.0, 3.0, 10.0]),
        ('["1S"]', [1.0], []),  # predictions are read in small letters, answers as they stand
        ("[True]", [1.0], []),
        ("[1.0,]", [1.0], []),
        ("[1.0,] or [2.0]", [1.0], []),  # the first stretch is the answer, readable or not
        ("```json\n[1, [2], 3]\n```", [1.0, 3.0], [1.0, 3.0]),  # up to the last bracket, the nested one included
        ("```json\n[[1], [2]]\n``` [3]", [1.0, 2.0, 3.0], []),  # no number in it: all numbers of the text
        ("```json [1] and [2] ```", [1.0, 2.0], []),
        ("```json [1], [2], x [3, [4]] ``` [5]", [1.0, 2.0, 3.0, 4.0], []),
        ("[0] ```json [1, [2]] ```", [1.0], [0.0]),
        ("```JSON [1, [2], 3] ```", [1.0, 3.0], []),
        ("``` [1, [2], 3] ```", [1.0, 2.0], []),  # only blocks that say json
        ("```json here: [1, [2], 3] ```", [1.0, 2.0], []),  # and that begin with the bracket
        ("```json [1, [2], 3] so ```", [1.0, 2.0], []),  # and end with one
        ("```json [1, [2], 3]", [1.0, 2.0], []),  # and are closed
    ],
)
def test_habits_of_the_public_task(text, as_prediction, as_answer):
    assert (parse_starts(text), parse_answer(text)) == (as_prediction, as_answer)
    assert (_by_the_rules(text, True), _by_the_rules(text, False)) == (as_prediction, as_answer)


def _is_word(text, at):
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")


def _digits(text, at):
    while at < len(text) and text[at].isdecimal():
        at += 1
    return at


def _spaces(text, at):
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _decimal(text, at):
    """Where the whole part of the number at `at` ends, and where its fraction does, if there is one."""
    whole = _digits(text, at)
    fraction = _digits(text, whole + 1) if text[whole : whole + 1] == "." else whole + 1
    return whole, fraction if fraction > whole + 1 else whole


def _numbers_before_s(text):
    found, at = [], 0
    while at < len(text):
        if text[at].isdecimal() and not (at and text[at - 1].isdecimal()):
            end = _decimal(text, at)[1]
            unit = _spaces(text, end)
            if text[unit : unit + 1] == "s" and not _is_word(text, unit + 1):
                found.append(float(text[at:end]))
                at = unit
        at += 1
    return found


def _numbers_by_themselves(text):
    found, at = [], 0
    while at < len(text):
        if text[at].isdecimal() and not _is_word(text, at - 1):
            ends = [end for end in _decimal(text, at)[::-1] if not _is_word(text, end)]
            if ends:
                found.append(float(text[at : ends[0]]))
                at = ends[0] - 1
        at += 1
    return found


def _stretches(text):
    found, at = [], 0
    while at < len(text):
        start = _spaces(text, at + 7) if text.startswith("```json", at) else at
        ends = []
        if text[start : start + 1] == "[":
            ends = [end for end in range(start, len(text)) if text[end] == "]"]
            if start > at:
                ends = [end for end in ends if text.startswith("```", _spaces(text, end + 1))]
        if ends:
            found.append(text[start : ends[0] + 1])
            at = _spaces(text, ends[0] + 1) + 2 if start > at else ends[0]
        at += 1
    return found


def _list_of(stretch):
    try:
        return json.loads(stretch)
    except ValueError:
        return None


def _values(items):
    found = []
    for item in items:
        with suppress(TypeError, ValueError):
            found.append(float("".join(c for c in item if c != "s") if isinstance(item, str) else item))
    return found


def _by_the_rules(text, is_prediction):
    """The documented rules letter by letter, without a pattern; slow, and nothing of it is shared."""
    if not is_prediction:
        stretches = _stretches(text)
        return sorted(filter(math.isfinite, _values(_list_of(stretches[0]) or []))) if stretches else []
    text = text.lower()
    if found := _numbers_before_s(text):
        return sorted(found)
    found = []
    if stretches := _stretches(text):
        longest = next(s for s in stretches if len(s) == max(map(len, stretches)))
        inside = longest[:-1].rstrip()
        items = _list_of((inside[:-1] if inside.endswith(",") else longest[:-1]) + "]")
        found = _numbers_by_themselves(longest) if items is None else _values(items)
    return sorted(filter(math.isfinite, found or _numbers_by_themselves(text)))


def test_the_rules_written_twice_agree_with_the_reference():
    for row in TEXTS:
        assert _by_the_rules(row["text"], True) == row["as_prediction"], row
        assert _by_the_rules(row["text"], False) == row["as_answer"], row
    for row in ROWS:
        assert _by_the_rules(row["prediction"], True) == row["pred_starts"], row
        assert _by_the_rules(row["answer"], False) == row["gt_starts"], row


PIECES = [
    *(
        "[",
        "]",
        "[",
        "]",
        '"',
        "```",
        "```json",
        "```json\n[",
        "\n```",
        "```JSON",
        "json",
        ",",
        ".",
        "-",
        "+",
        "_",
        "\\",
    ),
    *(
        "s",
        "S",
        "e",
        "x",
        "sec",
        "seconds",
        "null",
        "true",
        "True",
        "NaN",
        "{",
        "}",
        ":",
        " ",
        "  ",
        "\n",
        "\t",
        "\u00a0",
    ),
    *(
        "1",
        "2.5",
        "10",
        "1e2",
        ".5",
        "5.",
        "٣",
        "ſ",
        "é1s",
        '"1s"',
        '"1 s"',
        '"s1.5"',
        '"1.5s"',
        '"1S"',
        '"1_0"',
        '"a"',
    ),
    *("[]", ",]", "[1,2]", "[1,[2]]", "[[1],[2]]", "[0.5,1.5,]"),
]


@pytest.mark.parametrize("seed", range(4))
def test_random_texts_follow_the_rules(seed):
    rng = random.Random(seed)
    fenced = commas = 0
    for _ in range(4000):
        text = "".join(rng.choices(PIECES, k=rng.randint(1, 14)))
        text = f"```json [1, {text}]\n```" if rng.random() < 0.2 else text
        assert parse_starts(text) == _by_the_rules(text, True), text
        assert parse_answer(text) == _by_the_rules(text, False), text
        stretches = _stretches(text)
        fenced += any(s.count("]") > 1 for s in stretches)
        commas += bool(stretches) and stretches[0][:-1].rstrip().endswith(",")
    assert min(fenced, commas) > 50  # both kinds are among them


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


@settings(max_examples=200)
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


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.,[]s \"'{}-+eE:naift\n", max_size=40))
def test_no_text_breaks_the_parser(text):
    for times in (parse_starts(text), parse_answer(text)):
        assert times == sorted(times)
        assert all(abs(time) < float("inf") for time in times)
    assert 0 <= jumpscore_row(text, text).map <= 1


@pytest.fixture
def a_minute_of_work():
    """Processor time that a test may take; of the clock it may take hours."""

    def end(*_):
        raise AssertionError("a minute of work")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, 60)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.usefixtures("a_minute_of_work")
def test_a_model_that_repeats_itself_costs_no_more_than_its_length():
    """One second of work if it grows with the length, minutes if with its square."""
    n = 300_000
    for text in (
        "9" * n, "[" * n, "[" * n + "1]", "1 " * n, "9" * 50_000 + "s", "[1e999]", "```json[" * (n // 8),
        "```json [1] " * (n // 10), "[] " * (n // 3) + "```json[",
    ):  # fmt: skip
        jumpscore_row(text, "[1.0]")
        jumpscore_row("1.0s", text)


def test_bare_texts_and_uneven_lists_are_refused():
    metric = JumpScoreMAP()
    with pytest.raises(ValueError, match=r"predictions must be a list.*str: '1\.0s'"):
        metric.update("1.0s", "[1.0]")
    with pytest.raises(ValueError, match=r"equal lengths, got \[2, 1\]"):
        metric.update(["1.0s", "2.0s"], ["[1.0]"])
    with pytest.raises(ValueError, match=r"tolerances\[0\] must be at least 0, got -0\.1"):
        JumpScoreMAP(tolerances=[-0.1])
    assert metric.rows == 0
