"""Sweeps: what is planned, what is written, what happens to a run that fails."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml

from ov2kit.cli import run
from ov2kit.recipes.evidence import jobs
from ov2kit.recipes.evidence.jobs import Limits, plan, result_path
from ov2kit.recipes.evidence.runs.variant import SweepError, Variant
from ov2kit.recipes.evidence.summary import mean_interval, paired_difference, read_run, summarize
from ov2kit.recipes.evidence.sweep import CONFIGS, read_sweep
from tests.paths import ROOT

TINY = {
    "train": 2,
    "val": 1,
    "test": 2,
    "budget": 4,
    "steps": 2,
    "batch": 2,
    "difficulty": {"seconds": [2.0, 2.2]},
}


def test_interval_by_hand():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.303 / math.sqrt(3)))
    assert math.isnan(mean_interval([1.0])[1])


def test_paired_difference_sees_through_what_both_share():
    rng = np.random.default_rng(0)
    hard = rng.random((1, 200)) + rng.random((5, 1))  # clips and seeds that are hard for both
    mean, low, high = paired_difference(hard, hard + 0.1)
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))
    noise = rng.normal(0, 0.2, (5, 200))
    mean, low, high = paired_difference(hard, hard + noise)
    assert low < 0 < high
    assert mean == pytest.approx(noise.mean())
    # the spread of a mean of 200 clips whose gains, averaged over 5 seeds, vary by 0.2 / sqrt(5); seeds add to it
    assert 3.5 < (high - low) / (0.2 / math.sqrt(5) / math.sqrt(200)) < 8
    # one seed that differs must widen the interval even when all clips agree
    split = hard.copy()
    split[0] += 1.0
    _, low, high = paired_difference(hard, split)
    assert low == 0 < high


def test_every_bundled_sweep_reads_and_compares_like_with_like():
    paths = sorted(CONFIGS.glob("*.yaml"))
    assert len(paths) >= 3
    for path in paths:
        for experiment in read_sweep(path)[1]:
            assert len({row.variant for row in experiment.rows}) == len(experiment.rows)
            variants = {row.variant for row in experiment.rows}
            for row in experiment.rows:
                assert row.rival is None or row.rival in variants, (path.name, experiment.name)
    full = {experiment.name: experiment for experiment in read_sweep("full.yaml")[1]}
    for name in ("budget", "grouping", "saliency", "positions", "visibility"):
        assert full[name].seeds >= 5
    assert min(experiment.seeds for experiment in full.values()) >= 3


def test_rows_beside_the_grid_are_compared_like_the_others(tmp_path):
    path = tmp_path / "sweep.yaml"
    entry = {
        "name": "a",
        "grid": {"source": ["codec", "frames"], "budget": [4, 8]},
        "also": [{"source": "blank", "budget": 8}],
        "against": {"source": "frames"},
    }
    path.write_text(yaml.safe_dump({"base": {"steps": 5}, "experiments": [entry]}, sort_keys=False))
    rows = read_sweep(path)[1][0].rows
    assert [(row.variant.source, row.variant.budget) for row in rows] == [
        ("codec", 4), ("codec", 8), ("frames", 4), ("frames", 8), ("blank", 8),
    ]  # fmt: skip
    assert rows[-1].variant == Variant(source="blank", budget=8, steps=5)
    assert rows[-1].rival == Variant(source="frames", budget=8, steps=5)


def test_an_axis_of_names_sets_several_fields(tmp_path):
    path = tmp_path / "sweep.yaml"
    entry = {
        "name": "a",
        "choices": {
            "tokens": {
                "paper": {},
                "even": {"candidates": "uniform", "selection": "topk"},
                "no": {"source": "blank"},
            }
        },
        "grid": {"tokens": ["paper", "even"], "budget": [4]},
        "also": [{"tokens": "no", "budget": 4}],
        "against": {"tokens": "paper"},
    }
    path.write_text(yaml.safe_dump({"experiments": [entry]}, sort_keys=False))
    rows = read_sweep(path)[1][0].rows
    even = Variant(budget=4, candidates="uniform", selection="topk")
    assert [row.variant for row in rows] == [Variant(budget=4), even, Variant(budget=4, source="blank")]
    assert [row.label for row in rows][1] == {"tokens": "even", "budget": 4}
    assert [row.rival for row in rows] == [None, Variant(budget=4), Variant(budget=4)]


def test_jobs_are_planned_once_and_after_what_they_need():
    base, other = (Variant(train=10, val=4, test=1, positions=name) for name in ("release", "none"))
    planned = plan([(base, 0), (other, 0), (base, 1), (base, 0)])
    parts = [("train", 0), ("train", 4), ("train", 8), ("val", 0), ("test", 0)]  # 4 clips each: 4 + 4 + 2, 4, 1
    assert [job.kind for job in planned] == ["data", "canvases"] * 5 + ["run"] * 3
    assert [job.part for job in planned if job.kind == "data"] == parts
    keys = [job.key for job in planned]
    assert len(set(keys)) == len(keys)
    assert all(keys.index(need) < keys.index(job.key) for job in planned for need in job.needs)
    assert {len(job.needs) for job in planned if job.kind == "run"} == {5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: [{name: a, grid: {sorce: [x]}}]", "unknown key 'sorce' of a variant"),
        ("experiments: [{name: a, grid: {source: [codec]}, sedes: 3}]", "unknown key 'sedes'"),
        ("experiments: [{name: a, grid: {source: [codec]}, seeds: none}]", "seeds of 'a' must be a whole number"),
        ("experiments: [{grid: {source: [codec]}}]", "needs 'name'"),
        (
            "experiments: [{name: a, grid: {source: [codec]}, also: [{budget: 4}]}]",
            "beside the grid of 'a' needs source",
        ),
        ("experiments: [{name: a, grid: {connector: [nonsense]}}]", "unknown connector 'nonsense'"),
        ("experiments: [{name: a, grid: {saliency: [motin]}}]", "did you mean 'motion'"),
        ("experiments: [{name: a, grid: {lr: [.nan]}}]", "lr must be a finite number, got nan"),
        ("experiments: [{name: a, grid: {lr: ['4e-3 ']}}]", "lr must be a number"),
        ("experiments: [{name: a, grid: {steps: [0]}}]", "steps must be at least 1, got 0"),
        ("experiments: [{name: a, grid: {steps: [1.5]}}]", "steps must be a whole number"),
        ("experiments: [{name: a, grid: {width: [48]}}]", "width must be a multiple of 32, got 48"),
        ("experiments: [{name: a, grid: {train: [4]}}]", "batch must be at most the 4 clips of train, got 8"),
        ("experiments: [{name: a, grid: {difficulty: [{snow: 2}]}}]", "snow must be from 0 to 1, got 2"),
        ("experiments: [{name: a, grid: {difficulty: [{snwo: 1}]}}]", "snwo"),
        ("experiments: [{name: a, grid: {source: codec}}]", "grid of 'a' must map fields to lists"),
        ("experiments: [{name: a, grid: {source: [codec, codec]}}]", "two rows of 'a' are the same variant"),
        (
            "experiments: [{name: a, grid: {source: [codec]}, against: {source: frames}}]",
            "'a' compares {'source': 'codec'} against {'source': 'frames'}, which is no row of it",
        ),
        (
            "experiments: [{name: a, choices: {x: {one: {}}}, grid: {x: [two]}}]",
            "unknown x 'two'; known: one",
        ),
        (
            "experiments: [{name: a, choices: {source: {one: {}}}, grid: {source: [one]}}]",
            "expected axes of the grid that are no field of a variant, got 'source'",
        ),
        ("experiments: [{name: a, choices: {x: [one]}, grid: {x: [one]}}]", "x must map names to fields"),
        (
            "experiments: [{name: a, grid: {pruning: [evs], source: [frames]}}]",
            "expected more canvases as encoded with it",
        ),
        ("experiments: [{name: a, grid: {pruning: [evs], encoded: [16]}}]", "expected source frames"),
        ("experiments: [{name: a, grid: {encoded: [4]}}]", "encoded must be at least 8, got 4"),
        ("a: [", "while parsing a flow node"),
    ],
)
def test_faults_of_a_sweep_file_are_named(tmp_path, capsys, text, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(SweepError, match=message):
        read_sweep(path)
    assert run(["ablate", "--config", str(path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_file_that_holds_no_mapping_is_refused(tmp_path, capsys):
    path = tmp_path / "sweep.yaml"
    path.write_text("just text")
    with pytest.raises(SweepError, match="expected a mapping with a list of experiments"):
        read_sweep(path)
    assert run(["ablate", "--config", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "sweep.yaml: expected a YAML file with a mapping at its top, got 'just text'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_slice_of_the_sweep_end_to_end(tmp_path, capsys):
    """Two runs that work and one that cannot; then again, with nothing left to do."""
    sweep = {
        "base": TINY,
        "experiments": [
            {
                "name": "source",
                "seeds": 2,
                "grid": {"source": ["codec", "frames"]},
                "against": {"source": "frames"},
            },
            {"name": "broken", "seeds": 1, "grid": {"data_seed": [7]}},
        ],
    }
    config, out = tmp_path / "sweep.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(sweep))
    lost = plan([(Variant.of({**TINY, "data_seed": 7}), 0)])[0]
    result_path(out / "work", lost).mkdir(parents=True)  # a set without its videos
    assert run(["ablate", "--config", str(config), "--out", str(out), "--processes", "2"]) == 1  # one run failed
    assert "FAILED" in capsys.readouterr().err
    results = json.loads((out / "results.json").read_text())
    assert results["sweep"] == sweep
    assert results["command"].startswith("ov2kit ablate --config sweep.yaml")
    source, broken = results["experiments"]
    assert broken["rows"][0]["runs"] == 0
    assert len(results["failed"]) == 2  # the canvases, and the run that needs them
    assert "train.json" in next(iter(results["failed"].values()))
    codec, frames = source["rows"]
    assert codec["tokens"] == frames["tokens"] == 4 * 16
    assert codec["parameters"] == frames["parameters"]
    assert codec["seeds"] == frames["seeds"] == [0, 1]
    assert codec["difference"]["mean"] == pytest.approx(codec["map"] - frames["map"], abs=1e-4)
    assert "difference" not in frames
    table = (out / "results.md").read_text()
    assert "| codec |" in table
    assert "not run" in table
    assert (out / "source.png").stat().st_size > 1000

    runs = sorted((out / "work" / "runs").glob("*.json"))
    assert len(runs) == 4
    before = {path: path.stat().st_mtime_ns for path in runs}
    lines = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert sorted((line["variant"]["source"], line["seed"]) for line in lines) == [
        (source, seed) for source in ("codec", "frames") for seed in (0, 1)
    ]
    for row, name in ((codec, "codec"), (frames, "frames")):
        of_row = sorted((line for line in lines if line["variant"]["source"] == name), key=lambda line: line["seed"])
        assert row["map_per_seed"] == pytest.approx([line["scores"]["map"] for line in of_row], abs=1e-4)
    assert len({line["loss"] for line in lines}) == 4  # scores of two clips may agree, what was trained may not
    stored = json.loads(runs[0].read_text())
    assert Variant.of(stored["variant"]).run_key(stored["seed"]) in runs[0].name
    sweep["experiments"].pop()
    config.write_text(yaml.safe_dump(sweep))
    assert run(["ablate", "--config", str(config), "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs} == before
    assert capsys.readouterr().err == ""
    again = json.loads((out / "results.json").read_text())
    assert again["experiments"][0] == source

    table, lines = (out / "results.md").read_bytes(), (out / "runs.jsonl").read_bytes()
    shutil.rmtree(out / "work")  # what is kept of a sweep makes its report again, with the machine that it ran on
    marked = {**again, "machine": {**again["machine"], "processor": "another"}}
    (out / "results.json").write_text(json.dumps(marked))
    assert run(["ablate", "--config", str(config), "--out", str(out), "--report_only"]) == 0
    assert json.loads((out / "results.json").read_text()) == marked
    assert (out / "runs.jsonl").read_bytes() == lines
    assert (out / "results.md").read_bytes() == table.replace(again["machine"]["processor"].encode(), b"another")
    assert not (out / "work").exists()

    assert run(["ablate", "--config", str(config), "--out", str(out)]) == 0  # all is in runs.jsonl: nothing is run
    assert json.loads((out / "results.json").read_text()) == marked
    assert [path for path in (out / "work").rglob("*") if path.is_file()] == []


def test_a_sweep_ends_in_time_and_leaves_nothing_half_done(tmp_path, capsys):
    config = tmp_path / "sweep.yaml"
    long = {**TINY, "difficulty": {"seconds": [60_000.0, 60_000.0]}}  # a clip takes half an hour
    config.write_text(yaml.safe_dump({"base": long, "experiments": [{"name": "a", "grid": {"source": ["codec"]}}]}))
    assert run(["ablate", "--config", str(config), "--out", str(tmp_path / "out"), "--seconds", "0.2"]) == 2
    said = capsys.readouterr().err
    assert "stopped after 0.2 s with 9 jobs to do" in said  # 3 parts to make and to tokenize, 3 runs
    assert "no run succeeded" in said
    assert [path for path in (tmp_path / "out" / "work").rglob("*") if path.is_file() and path.suffix != ".txt"] == []


@pytest.mark.parametrize(
    ("name", "config", "some"),
    [
        ("evidence", "full.yaml", "snow"),
        ("minutes", "minutes.yaml", "pruning"),
        ("event-models", "event.yaml", "event-bframes"),
        ("positions", "positions.yaml", "positions"),
        ("pruning", "pruning.yaml", "pruning"),
    ],
)
def test_published_results_are_made_again_from_their_runs(name, config, some):
    folder = ROOT / "benchmarks" / "results" / name
    lines = [line for line in (folder / "runs.jsonl").read_text().split("\n") if line]
    runs = dict(read_run(line, folder) for line in lines)
    assert len(runs) == len(lines)
    published = {each["name"]: each for each in json.loads((folder / "results.json").read_text())["experiments"]}
    (found,) = summarize([each for each in read_sweep(config)[1] if each.name == some], runs)
    for row, stored in zip(found["rows"], published[some]["rows"], strict=True):
        same = {key: value for key, value in stored.items() if key != "variant"}  # older ones have fewer fields
        assert_same({key: row[key] for key in same}, same)


def assert_same(found, stored):
    """Equal, but for the last digits of sums, whose order depends on the processor."""
    if isinstance(stored, dict):
        assert found.keys() == stored.keys()
        for key in stored:
            assert_same(found[key], stored[key])
    elif isinstance(stored, list):
        for pair in zip(found, stored, strict=True):
            assert_same(*pair)
    elif isinstance(stored, float):
        assert found == pytest.approx(stored, rel=1e-12, abs=1e-14)
    else:
        assert found == stored


def test_limits_are_checked():
    for given, message in (
        ({"processes": 0}, "processes must be at least 1, got 0"),
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"seconds": 0}, "seconds must be above 0, got 0"),
        ({"device": "tpu"}, "unknown device 'tpu'; known: cpu, cuda"),
    ):
        with pytest.raises(SweepError, match=message):
            Limits(**given)
    if not torch.cuda.is_available():
        with pytest.raises(SweepError, match="finds no GPU here; use --device cpu"):
            Limits(device="cuda")


def test_at_most_so_many_jobs_train_at_a_time(tmp_path, monkeypatch):
    """Order of jobs without processes: two at a time, one run among them."""
    log = []

    class Worker:
        def __init__(self, work, device):
            self.connection, self.process, self.device = self, self, device
            self.exitcode = 0

        def send(self, job):
            if job is not None:
                log.append((self.device, job.kind))
                path = result_path(tmp_path, job)
                path.mkdir(parents=True) if job.kind != "run" else (path.parent.mkdir(exist_ok=True), path.touch())

        def recv(self):
            return True

        def terminate(self):
            log.append((self.device, "ended"))

        join = close = lambda self, *_: None
        is_alive = lambda self: False  # noqa: E731

    seen = []
    monkeypatch.setattr(jobs, "_Worker", Worker)
    monkeypatch.setattr(jobs, "wait", lambda busy, _: seen.append(len(busy)) or busy)
    planned = plan(
        [(Variant(train=2, val=1, test=1, batch=2, positions=name), 0) for name in ("release", "exact", "2d")]
    )
    assert jobs.run_jobs(planned, tmp_path, Limits(processes=2, runs=1), log.append) == {}
    started = [kind for device, kind in (entry for entry in log if isinstance(entry, tuple)) if kind != "ended"]
    assert sorted(started) == ["canvases"] * 3 + ["data"] * 3 + ["run"] * 3
    assert max(seen) == 2
    assert seen[-3:] == [1, 1, 1]  # the runs, one by one
    assert sum(entry == ("cpu", "ended") for entry in log) == 2  # workers that stayed; runs had one each
