"""Metrics add up: over processes (also ones without rows), over merged copies, over a saved state."""

import json
import multiprocessing
import warnings
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ov2kit.recipes.metrics import (
    HOTA,
    BoxAccuracy,
    Counting,
    JAndF,
    JumpScoreMAP,
    PointsInMasks,
    PointTracks,
    RelationAccuracy,
    TemporalIoU,
    TokenAccounting,
    TokenCount,
)


def _masks(seed):
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) > 0.5


def _shown(seed, frame):
    """Masks of a frame: of one object, always the same."""
    return {5: torch.full((8, 8), seed % 2 == 0).numpy()}


# name -> (constructor, arguments of one update each)
CASES = {
    "jumpscore": (
        JumpScoreMAP,
        [
            (["1.0s", "[1.1]"], ["[1.0]", "[1.0]"]),
            (["at 2.25s"], ["[2.0, 4.0]"]),
            (["none"], ["[]"]),
            (["1.0s"], ["not json"]),
            (["[0.5, 3]"], [[0.5]]),
        ],
    ),
    "temporal": (
        TemporalIoU,
        [(["0 to 4"], ["2 to 6"]), (["0 to 1", "no"], [(0, 1), (2, 3)]), (["5-9"], [[[0, 2], [6, 9]]])],
    ),
    "masks": (JAndF, [(_masks(0), _masks(1)), (_masks(2)[:1], _masks(3)[:1]), (_masks(4), _masks(4))]),
    "hota": (
        HOTA,
        [
            ([[1], [2]], [[3], [3]], [[[0.8]], [[0.6]]]),
            ([[1, 2]], [[3]], [[[0.4], [0.9]]]),
            ([[1]], [[]], [[]]),
        ],
    ),
    "point tracks": (
        PointTracks,
        [
            ({0: {0: (1, 1)}}, {0: {5: (1, 1)}}, partial(_shown, 6)),
            ({}, {0: {5: (1, 1)}}, partial(_shown, 6)),
            ({0: {0: (7, 7)}}, {0: {5: (1, 1)}}, partial(_shown, 7)),
        ],
    ),
    "points": (PointsInMasks, [([(1, 1)], list(_masks(8)[0].numpy())), ([(2, 2), (3, 3)], list(_masks(9)[0].numpy()))]),
    "boxes": (BoxAccuracy, [([(0, 0, 4, 4)], [(0, 0, 4, 3)]), ([], [(0, 0, 1, 1)]), ([(0, 0, 1, 1)], [(0, 0, 1, 1)])]),
    "counts": (Counting, [(["3", "two"], [3, 3]), (["x"], [1])]),
    "relations": (RelationAccuracy, [(["left"], ["left"]), (["left", "behind"], ["right", "behind"])]),
    "tokens": (
        TokenAccounting,
        [([TokenCount(10, 6, 2.0, 3)],), ([TokenCount(7, 0, None, 1), TokenCount(9, 9, 0.7, 2)],)],
    ),
}
SPLITS = {"even": lambda k: k % 2, "uneven": lambda k: int(k > 0), "one rank has nothing": lambda k: 1}


def _value(metric):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method")
        return {name: value.item() for name, value in metric.compute().items()}


def _filled(name, keep=lambda k: True):
    make, updates = CASES[name]
    metric = make()
    for k, arguments in enumerate(updates):
        if keep(k):
            metric.update(*arguments)
    return metric


def _worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name in CASES:
        for split, where in SPLITS.items():
            metric = _filled(name, lambda k, where=where: where(k) == rank)
            first = _value(metric)
            again = _value(metric)  # the sums of one process come back after the gathering
            metric.update(*CASES[name][1][0])
            found[f"{name}, {split}"] = [first, again, _value(metric)]
    dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    multiprocessing.set_forkserver_preload([__name__])  # the libraries are imported once for both
    mp.start_processes(_worker, (folder,), nprocs=2, start_method="forkserver")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_value_of_one(two_processes, name, split):
    metric = _filled(name)
    whole = _value(metric)
    for _ in range(2):
        metric.update(*CASES[name][1][0])
    more = _value(metric)
    assert whole != more
    for rank in range(2):
        first, again, after = two_processes[rank][f"{name}, {split}"]
        assert first == again == pytest.approx(whole, abs=1e-12)
        assert after == pytest.approx(more, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
class TestOneProcess:
    def test_merged_copies_give_the_value_of_one(self, name):
        whole = _value(_filled(name))
        first, rest, empty = _filled(name, lambda k: k == 0), _filled(name, lambda k: k > 0), CASES[name][0]()
        first.merge_state(rest)
        assert _value(first) == pytest.approx(whole, abs=1e-12)
        empty.merge_state(first)
        assert _value(empty) == pytest.approx(whole, abs=1e-12)
        empty.merge_state(CASES[name][0]().metric_state)
        assert _value(empty) == pytest.approx(whole, abs=1e-12)

    def test_reset_forgets_everything(self, name):
        metric = _filled(name)
        metric.reset()
        assert _value(metric) == _value(CASES[name][0]())
        metric.update(*CASES[name][1][0])
        assert _value(metric) == _value(_filled(name, lambda k: k == 0))

    def test_forward_gives_the_batch_and_keeps_the_whole(self, name):
        make, updates = CASES[name]
        metric = make()
        for k, arguments in enumerate(updates):
            batch = {key: value.item() for key, value in metric(*arguments).items()}
            assert batch == pytest.approx(_value(_filled(name, lambda j, k=k: j == k)), abs=1e-12)
        assert _value(metric) == pytest.approx(_value(_filled(name)), abs=1e-12)

    def test_a_saved_state_is_tensors_and_goes_on(self, name, tmp_path):
        metric = _filled(name, lambda k: k == 0)
        assert metric.state_dict() == {}  # a model's checkpoint is not touched unless asked
        metric.persistent(True)
        torch.save(metric.state_dict(), tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert state
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        other = CASES[name][0]()
        other.persistent(True)
        other.load_state_dict(state)
        for arguments in CASES[name][1][1:]:
            other.update(*arguments)
        assert _value(other) == pytest.approx(_value(_filled(name)), abs=1e-12)
