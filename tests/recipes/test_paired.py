"""Paired tests: right on cases worked by hand, and as often wrong as they say."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.cli import run
from ov2kit.errors import DataError
from ov2kit.recipes.paired import compare_predictions, mcnemar, paired_bootstrap


def write(path, predictions, answers=None, **more):
    lines = [
        {"id": f"q{k}", "video": "v", "question": "When?", "answer": "[1.0]" if answers is None else answers[k],
         "prediction": said, "error": None, **{name: values[k] for name, values in more.items()}}
        for k, said in enumerate(predictions)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class TestMcNemar:
    @pytest.mark.parametrize(
        ("only_a", "only_b", "p"),
        [(0, 0, 1.0), (1, 0, 1.0), (0, 5, 2 / 32), (1, 5, 2 * 7 / 64), (3, 3, 1.0), (2, 8, 2 * 56 / 1024)],
    )
    def test_by_hand(self, only_a, only_b, p):
        a = [True] * only_a + [False] * only_b + [True] * 3 + [False] * 2
        b = [False] * only_a + [True] * only_b + [True] * 3 + [False] * 2
        made = mcnemar(a, b)
        assert (made.only_a, made.only_b) == (only_a, only_b)
        assert made.p == pytest.approx(p, rel=1e-12)

    @settings(max_examples=50)
    @given(st.integers(0, 60), st.integers(0, 60))
    def test_against_whole_fractions(self, x, y):
        tail = sum(Fraction(math.comb(x + y, k), 2 ** (x + y)) for k in range(min(x, y) + 1))
        made = mcnemar([True] * x + [False] * y, [False] * x + [True] * y)
        assert made.p == pytest.approx(float(min(Fraction(1), 2 * tail)), rel=1e-12)

    def test_many_items_do_not_overflow(self):
        made = mcnemar([True] * 2600 + [False] * 2400, [False] * 2600 + [True] * 2400)
        tail = sum(math.comb(5000, k) for k in range(2401))
        assert made.p == pytest.approx(float(Fraction(2 * tail, 2**5000)), rel=1e-12)


class TestBootstrap:
    def test_a_constant_gain(self):
        made = paired_bootstrap([0.1, 0.5, 0.9], [0.3, 0.7, 1.1])
        assert (made.difference, made.low, made.high) == pytest.approx((0.2, 0.2, 0.2))
        assert made.p == pytest.approx(1 / 10_001)

    def test_no_difference_at_all(self):
        made = paired_bootstrap([0.1, 0.5], [0.1, 0.5])
        assert (made.difference, made.low, made.high, made.p) == (0, 0, 0, 1)

    def test_two_items_by_hand(self):
        # gains -1 and 3: a draw has the mean -1, 1 or 3 with 1/4, 1/2, 1/4; |mean - 1| >= 1 in half of them
        made = paired_bootstrap([1.0, 0.0], [0.0, 3.0], resamples=40_000)
        assert made.difference == 1
        assert made.p == pytest.approx(0.5, abs=0.01)
        assert (made.low, made.high) == (-1, 3)

    def test_the_interval_is_that_of_the_normal_law_at_many_items(self):
        rng = np.random.default_rng(1)
        a = rng.normal(size=2000)
        b = a + rng.normal(0.02, 0.5, 2000)
        made = paired_bootstrap(a, b, resamples=20_000)
        error = (b - a).std() / math.sqrt(2000)
        assert made.low == pytest.approx(made.difference - 1.96 * error, abs=0.05 * error)
        assert made.high == pytest.approx(made.difference + 1.96 * error, abs=0.05 * error)
        assert made.p == pytest.approx(math.erfc(abs(made.difference) / error / math.sqrt(2)), abs=0.01)

    def test_pairing_is_used(self):
        rng = np.random.default_rng(2)
        a = rng.random(60)
        b = a + 0.02 + 0.01 * rng.normal(size=60)  # far smaller than the spread over items, and clear
        assert paired_bootstrap(a, b).p < 0.001
        assert paired_bootstrap(a, rng.permutation(b)).p > 0.1

    def test_seed_and_sign(self):
        rng = np.random.default_rng(3)
        a, b = rng.random((2, 40))
        assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
        assert paired_bootstrap(a, b, seed=5) != paired_bootstrap(a, b, seed=6)
        there, back = paired_bootstrap(a, b, seed=5), paired_bootstrap(b, a, seed=5)
        assert (there.difference, there.low, there.p) == pytest.approx((-back.difference, -back.high, back.p))

    def test_refusals(self):
        with pytest.raises(ValueError, match=r"shapes \(2,\) and \(1,\)"):
            paired_bootstrap([1, 2], [1])
        with pytest.raises(ValueError, match="finite"):
            paired_bootstrap([1.0], [math.nan])
        with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
            paired_bootstrap([1.0], [1.0], resamples=0)


class TestCalibration:
    """On 1000 made-up pairs of files: how often is p below 0.05, and the truth inside the interval?"""

    RUNS, ITEMS = 1000, 80

    def rates(self, gain):
        rng = np.random.default_rng(11)
        rejected = covered = exact = 0
        for k in range(self.RUNS):
            common = rng.random(self.ITEMS)
            a = np.round(np.clip(common + 0.3 * rng.normal(size=self.ITEMS), 0, 1) * 3) / 3  # ties, as scores have
            b = np.round(np.clip(common + gain + 0.3 * rng.normal(size=self.ITEMS), 0, 1) * 3) / 3
            made = paired_bootstrap(a, b, resamples=600, seed=k)
            rejected += made.p <= 0.05
            covered += made.low <= 0 <= made.high
            exact += mcnemar((a > 0.5).tolist(), (b > 0.5).tolist()).p <= 0.05
        return rejected / self.RUNS, covered / self.RUNS, exact / self.RUNS

    def test_without_a_difference_it_is_wrong_as_often_as_it_says(self):
        rejected, covered, exact = self.rates(0.0)
        assert 0.035 < rejected < 0.075  # 0.05 +- 3 standard errors, and a little for 80 items
        assert 0.925 < covered < 0.965
        assert 0.01 < exact <= 0.05  # an exact test of few unequal pairs is on the safe side

    def test_a_difference_is_found(self):
        rejected, covered, _ = self.rates(0.2)
        assert rejected > 0.95
        assert covered < 0.05


class TestFiles:
    def test_jumpscore(self, tmp_path):
        a = write(tmp_path / "a.jsonl", ["1.0s", "9s", "1.15s", "9s"])
        (tmp_path / "b").mkdir()
        b = write(tmp_path / "b" / "predictions.jsonl", ["1.0s", "1.0s", "9s", "1.25s"])
        made = compare_predictions(a, b.parent, resamples=500)
        maps = [1, 0, 2 / 3, 0], [1, 1, 0, 1 / 3]
        assert (made["mean_a"], made["mean_b"]) == pytest.approx(tuple(sum(m) / 4 for m in maps))
        assert made["difference"] == pytest.approx((sum(maps[1]) - sum(maps[0])) / 4)
        assert (made["a_better"], made["b_better"], made["equal"], made["items"]) == (1, 2, 1, 4)
        wanted = paired_bootstrap(*maps, resamples=500)
        assert [*made["interval_95"], made["p"]] == pytest.approx([wanted.low, wanted.high, wanted.p])
        assert "mcnemar" not in made
        assert compare_predictions(a, b, threshold=0.6)["mcnemar"] == {"only_a": 1, "only_b": 1, "p": 1.0}

    def test_other_metrics(self, tmp_path):
        a = write(tmp_path / "a", ["Yes", "no "], ["yes", "yes"], score=[1, 0.5])
        b = write(tmp_path / "b", ["yes", "yes"], ["yes", "yes"], score=[2, 0.5])
        made = compare_predictions(a, b, metric="exact")
        assert (made["mean_a"], made["mean_b"]) == (0.5, 1.0)
        assert made["mcnemar"] == {"only_a": 0, "only_b": 1, "p": 1.0}
        assert compare_predictions(a, b, metric="score")["difference"] == 0.5
        with pytest.raises(DataError, match=r"a, item q0: has no 'speed'"):
            compare_predictions(a, b, metric="speed")
        a = write(tmp_path / "a", ["0 to 4"], ["2 to 6"])
        b = write(tmp_path / "b", ["2 to 6"], ["2 to 6"])
        assert compare_predictions(a, b, metric="temporal_iou")["difference"] == pytest.approx(2 / 3)

    def test_errors_count_nothing_or_are_left_out(self, tmp_path):
        a = write(tmp_path / "a", ["1.0s", "1.0s", "9s"])
        b = write(tmp_path / "b", ["1.0s", "1.0s", "1.0s"])
        lines = [json.loads(line) for line in b.read_text().splitlines()]
        lines[0] |= {"error": "broken", "prediction": None}
        b.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert compare_predictions(a, b)["difference"] == 0
        skipped = compare_predictions(a, b, errors="skip")
        assert (skipped["difference"], skipped["items"], skipped["left_out"]) == (0.5, 2, 1)

    def test_different_items_are_refused_by_name(self, tmp_path):
        a = write(tmp_path / "a", ["1.0s"] * 9)
        b = write(tmp_path / "b", ["1.0s"] * 2)
        with pytest.raises(DataError, match=r"b lacks 7 items of .*a: q2, q3, q4, q5, q6, \.\.\.; both"):
            compare_predictions(a, b)
        with pytest.raises(DataError, match="b lacks 7 items"):
            compare_predictions(b, a)
        b = write(tmp_path / "b", ["1.0s"] * 9, ["[1.0]"] * 8 + ["[2.0]"])
        with pytest.raises(DataError, match="1 items have another answer: q8"):
            compare_predictions(a, b)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", r"b: expected predictions as .*, got none; name another file"),
            (b"\n\n", r"b: expected predictions as .*, got none; name another file"),
            (b"PK\x03\x04\x00\x00\xff", r"b: expected predictions as .*, got something else; name another file"),
            (b"\x00\x00\x00\x20ftypisom\n\xff", r"b: expected .* something else; line 1: not JSON .*; name another"),
            (b"\xff\xfe\n", r"b: expected .* something else; line 1: not UTF-8 text; name another file"),
            (b'{"loss": 1}\n{"loss": 2}\n', r"b: expected .*; line 1: expected an object with an \"id\" of text, got"),
            (b'{"id": "q0", "pre', r"b: expected predictions as .*, got none; name another file"),
        ],
        ids=["empty", "blank", "binary", "video", "bytes", "other lines", "cut"],
    )
    def test_what_holds_no_predictions_is_named(self, tmp_path, content, said):
        a = write(tmp_path / "a", ["1.0s"])
        (tmp_path / "b").write_bytes(content)
        for pair in ((a, tmp_path / "b"), (tmp_path / "b", a), (tmp_path / "b", tmp_path / "b")):
            with pytest.raises(DataError, match=said):
                compare_predictions(*pair)

    def test_errors_at_every_item_leave_nothing_to_compare(self, tmp_path):
        a = write(tmp_path / "a", ["1.0s"])
        b = write(tmp_path / "b", ["1.0s"])
        b.write_text(b.read_text().replace('"error": null', '"error": "broken"'))
        with pytest.raises(DataError, match="one of them has an error at each; errors='zero'"):
            compare_predictions(a, b, errors="skip")

    def test_command(self, tmp_path, capfd):
        a = write(tmp_path / "a.jsonl", ["1.0s", "9s"])
        b = write(tmp_path / "b.jsonl", ["1.0s", "1.0s"])
        assert run(["compare", str(a), str(b), "--resamples", "200", "--out", str(tmp_path / "c.json")]) == 0
        printed = capfd.readouterr().out
        assert json.loads(printed) == compare_predictions(a, b, resamples=200)
        assert json.loads((tmp_path / "c.json").read_text()) == json.loads(printed)
        for arguments, message in (
            (["compare", str(a), str(tmp_path / "no")], "no: no such file"),
            (["compare", str(a)], "arguments are required: B"),
            (["compare", str(a), str(b), "--resamples", "0"], "resamples must be at least 1"),
            (["compare", str(a), str(b), "--metric", "speed"], "has no 'speed'"),
        ):
            assert run(arguments) == 2
            err = capfd.readouterr().err
            assert err.startswith("error: ")
            assert err.count("\n") == 1
            assert message in err
