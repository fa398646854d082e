"""What a number is stored in does not decide a score: lists, tuples, arrays and tensors are one and the same."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore
from ov2kit.recipes.metrics import (
    HOTA,
    JAndF,
    JumpScoreMAP,
    TemporalIoU,
    aggregate_jumpscore,
    average_precision,
    box_similarity,
    hota_counts,
    is_explicit_empty,
    jumpscore_row,
    mask_similarity,
    parse_answer,
    region_iou,
    span_iou,
    temporal_row,
)
from ov2kit.recipes.metrics.plain import plain


def tuples(value):
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def leaves(make):
    """Lists of numbers of one's own kind: [tensor(1), tensor(2)], as `list(tensor)` gives them."""

    def convert(value):
        return [convert(item) for item in value] if isinstance(value, list) else make(value)

    return convert


def rows(make):
    """A list with one array or tensor per row."""
    return lambda value: [make(item) for item in value] if any(isinstance(v, list) for v in value) else make(value)


FORMS = {
    "tuple": tuples,
    "numpy": rows(np.array),
    "numpy scalars": leaves(np.float32),
    "float32 array": rows(lambda value: np.array(value, dtype=np.float32)),
    "tensor": rows(torch.tensor),
    "tensor scalars": leaves(torch.tensor),
    "float64 tensor": rows(lambda value: torch.tensor(value, dtype=torch.float64, requires_grad=True)),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def score(metric, *arguments):
    metric.update(*arguments)
    return {name: value.item() for name, value in metric.compute().items()}


def test_a_tracker_that_swaps(form):
    """Two objects, two tracks that change places halfway: each match has A = 2 / (2 + 2 + 2) = 1 / 3."""
    predicted, target = [[1, 2], [1, 2], [2, 1], [2, 1]], [[7, 8]] * 4
    same = [[[1.0, 0.0], [0.0, 1.0]]] * 4
    made = score(HOTA(), form(predicted), form(target), same)
    assert made["assa"] == pytest.approx(1 / 3)
    assert made["hota"] == pytest.approx(math.sqrt(1 / 3))
    half = score(HOTA(), form([[1], [1], [2], [2]]), form([[3]] * 4), [[[1.0]]] * 4)
    assert half["hota"] == pytest.approx(math.sqrt(1 / 2))


def sequences():
    def frame(shape):
        p, g = shape
        ids = st.permutations(range(4))
        table = st.lists(st.lists(st.integers(0, 20), min_size=g, max_size=g), min_size=p, max_size=p)
        return st.tuples(
            ids.map(lambda ids: list(ids)[:p]), ids.map(lambda ids: list(ids)[:g]),
            table.map(lambda rows: [[k / 20 for k in row] for row in rows]),
        )  # fmt: skip

    shapes = st.tuples(st.integers(1, 3), st.integers(1, 3))
    return st.lists(shapes.flatmap(frame), min_size=1, max_size=4).map(lambda frames: list(zip(*frames, strict=True)))


@settings(max_examples=25)
@given(sequences(), st.sampled_from(sorted(FORMS)), st.sampled_from(["paper", "trackeval"]))
def test_tracks(sequence, name, matching):
    form = FORMS[name]
    wanted = score(HOTA(matching=matching), *sequence)
    made = score(HOTA(matching=matching), *([form(item) for item in part] for part in sequence))
    assert made == wanted


TIMES = st.lists(st.integers(0, 40).map(lambda k: k / 10), min_size=1, max_size=5)


@settings(max_examples=60)
@given(TIMES, TIMES, TIMES, st.sampled_from(sorted(FORMS)))
def test_start_times(times, truth, confidence, name):
    form = FORMS[name]
    assert parse_answer(form(truth)) == sorted(truth)
    assert is_explicit_empty(form(truth)) is False
    for tolerance in (0.1, 0.2, 0.3):
        wanted = average_precision(times, truth, tolerance, confidence)
        assert average_precision(form(times), form(truth), form([tolerance])[0], form(confidence)) == wanted
    row, wanted = jumpscore_row(str(times), form(truth), form(confidence)), jumpscore_row(str(times), truth, confidence)
    assert row == wanted
    assert score(JumpScoreMAP(), [str(times)], [form(truth)], [form(confidence)]) == score(
        JumpScoreMAP(), [str(times)], [truth], [confidence]
    )


@settings(max_examples=60)
@given(TIMES, TIMES, st.sampled_from(sorted(FORMS)))
def test_spans(starts, lengths, name):
    form = FORMS[name]
    spans = [[a, round(a + b, 1)] for a, b in zip(starts, lengths, strict=False)]
    said = f"from {starts[-1]} to {starts[-1] + 1.5:.1f}"
    assert temporal_row(said, form(spans)) == temporal_row(said, spans)
    assert temporal_row(said, form(spans[0])) == temporal_row(said, spans[0])
    assert span_iou(form(spans[0]), form(spans[-1])) == span_iou(spans[0], spans[-1])
    said = [said] * len(spans)
    assert score(TemporalIoU(), said, form(spans)) == score(TemporalIoU(), said, spans)


def test_whole_tables_of_answers():
    """One array for all rows, not a list of them."""
    spans = [[0.0, 4.0], [1.5, 2.25], [3.1, 9.7]]
    texts = ["0 to 4", "1 to 2", "3.1 to 9.7"]
    wanted = score(TemporalIoU(), texts, spans)
    for answers in (np.array(spans), torch.tensor(spans)):
        assert score(TemporalIoU(), np.array(texts), answers) == wanted
    wanted = score(JumpScoreMAP(), texts, spans)
    assert score(JumpScoreMAP(), texts, torch.tensor(spans)) == wanted
    ids = torch.tensor([[1], [1], [2], [2]])
    assert score(HOTA(), ids, ids.numpy(), torch.ones(4, 1, 1))["hota"] == 1
    assert score(HOTA(), ids, ids * 0, torch.ones(4, 1, 1))["hota"] == pytest.approx(math.sqrt(1 / 2))


def test_an_empty_list_of_any_kind_is_an_explicit_one():
    for nothing in ([], (), np.array([]), torch.tensor([])):
        assert is_explicit_empty(nothing) is True
        assert jumpscore_row("never", nothing).map == 1.0
        assert box_similarity(nothing, [[0, 0, 1, 1]]).shape == (0, 1)
    empty = score(HOTA(), [torch.tensor([])], [np.array([3])], [torch.zeros(0, 1)])
    assert (empty["hota"], empty["detre"]) == (0, 0)


def test_masks_and_boxes(form):
    generator = torch.Generator().manual_seed(0)
    mine, true = torch.rand(2, 3, 3, 6, 7, generator=generator) > 0.5
    kinds = {"tuple": tuples, "numpy": np.array, "tensor": torch.tensor, "rows": rows(np.array)}
    wanted = score(JAndF(), mine, true)
    for kind in kinds.values():
        assert score(JAndF(), kind(mine.tolist()), kind(true.tolist())) == wanted
        assert torch.equal(region_iou(kind(mine[0].tolist()), kind(true[0].tolist())), region_iou(mine[0], true[0]))
        made = mask_similarity(kind(mine[0].tolist()), kind(true[0].tolist()))
        assert torch.equal(made, mask_similarity(mine[0], true[0]))
    boxes = [[0.0, 0.0, 2.5, 3.0], [1.0, 1.0, 4.0, 4.5]]
    wanted = box_similarity(torch.tensor(boxes), torch.tensor(boxes))
    assert wanted[0, 1] == pytest.approx(1.5 * 2 / (7.5 + 10.5 - 3))
    assert torch.equal(box_similarity(form(boxes), form(boxes)), wanted)


def test_tolerances_and_thresholds(form):
    given_ones, texts, answers = [0.1, 0.3], ["[1.2, 3.0]"], [[1.0, 3.05]]
    made = score(JumpScoreMAP(tolerances=form(given_ones)), texts, answers)
    assert made == score(JumpScoreMAP(tolerances=given_ones), texts, answers)
    assert made["ap@0.1"] == pytest.approx(0.25)  # a miss, then a hit at rank 2, of two answers
    row = jumpscore_row(texts[0], answers[0], tolerances=form(given_ones))
    assert aggregate_jumpscore([row], form(given_ones))["ap@0.1"] == pytest.approx(0.25)
    made = score(TemporalIoU(thresholds=form(given_ones)), ["0 to 1"], [(0, 3.0)])
    assert made == pytest.approx({"miou": 1 / 3, "r1@0.1": 1, "r1@0.3": 1})


def test_two_numbers_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"tolerances must differ .* got \[0\.1, 0\.1\]"):
        JumpScoreMAP(tolerances=(0.1, 0.1))
    with pytest.raises(ValueError, match=r"thresholds must differ .* got \[0\.5, 0\.50000001\]"):
        TemporalIoU(thresholds=(0.5, 0.50000001))


def test_ids_that_are_no_ids():
    for bad in ([float("nan")], [1.5], [None], torch.tensor([float("inf")]), [[1]]):
        with pytest.raises(ValueError, match=r"predicted_ids of frame 0 must be whole numbers or text, got"):
            hota_counts([bad], [[1]], [[[1.0]]])
    with pytest.raises(ValueError, match=r"target_ids of frame 0 must be a list of ids, got 3"):
        hota_counts([[1]], torch.tensor([3]), [[[1.0]]])
    with pytest.raises(ValueError, match=r"frame 0 hold an id twice: \[4, 4\]"):
        hota_counts([torch.tensor([4, 4])], [[1]], [[[1.0], [1.0]]])
    text = hota_counts([np.array(["a"]), ["a"]], [["x"], np.array(["x"])], [[[1.0]]] * 2)
    assert text.association[0] == 2


def test_times_that_are_none():
    with pytest.raises(ValueError, match=r"confidence must be numbers, got nan in \[nan\]"):
        average_precision([1.0], [1.0], 0.1, torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match=r"times of an answer must be finite, got \[0\.0, nan\]"):
        temporal_row("0 to 1", torch.tensor([0.0, float("nan")]))


@given(st.lists(st.integers(-(10**6), 10**6).map(lambda k: k / 1000)))
def test_a_float32_stands_for_its_shortest_decimal(numbers):
    for stored in (np.array(numbers, dtype=np.float32), torch.tensor(numbers)):
        assert plain(stored) == [float(f"{number:.7g}") for number in numbers]
    assert plain([torch.tensor(3), np.array(["a"]), (None, {"k": 1})]) == [3, ["a"], [None, {"k": 1}]]
    assert type(plain(torch.tensor(3))) is int


def test_a_count_of_tokens_in_a_tensor_reaches_the_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    row = {"video": "a.mp4", "question": "when?", "answer": "[1.0]"}
    (tmp_path / "annotations.json").write_text(json.dumps([row]))
    scores = evaluate_jumpscore(lambda video, question: ("1.0s", torch.tensor(12)), tmp_path, tmp_path / "out")
    assert scores["tokens_per_question"] == 12
    assert scores["map"] == 1


def test_rows_hold_plain_numbers():
    row = jumpscore_row("1.0s", torch.tensor([1.0, 2.5]), tolerances=torch.tensor([0.1]))
    assert json.loads(json.dumps(dataclasses.asdict(row)))["gt_starts"] == [1.0, 2.5]
    assert list(row.ap) == [0.1]
