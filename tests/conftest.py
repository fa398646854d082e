"""What every test process starts with, and the fixtures that all tests may use.

One thread, unless the caller wants otherwise: the models of the tests are so small that threads only
wait for each other, and on a busy machine they wait ten times as long. And Ctrl-C: whoever runs the
tests in the background has it ignored, which programs started from here would inherit.

Every test starts from the same random state, whatever ran before. Skipped tests are counted by what they
lack; `--require clips,cuda` fails those that lack one of these.
"""

import os
import random
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded

import hypothesis
import numpy as np
import pytest
import torch

from tests import needs
from tests.paths import SAMPLE, read_golden

hypothesis.settings.register_profile("ov2kit", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("ov2kit")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def golden():
    """Reads a stored reference by its name: JSON, arrays or tensors."""
    return read_golden


@pytest.fixture(scope="module")
def one_thread():
    """For models that train: at this size threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """A GPU; the test is skipped without one."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture
def rng() -> torch.Generator:
    """Random numbers of this test alone."""
    return torch.Generator().manual_seed(0)


def pytest_addoption(parser):
    known = ",".join([*needs.NEEDS, "other"])
    parser.addoption("--require", default="", metavar="NEEDS", help=f"fail what would skip for one of {known}")


def pytest_configure(config):
    try:
        config.stash[_REQUIRED] = needs.required(config.getoption("--require"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    _seed()


def pytest_sessionstart(session):
    """Each worker of a whole run compiles the kernels, or loads them, before a test that watches the clock would."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        from ov2kit.codec import CodecTokenizer

        for preset in ("paper", "release", "event"):
            CodecTokenizer(4, preset=preset)(SAMPLE)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    """Seed again after the modules are imported: what they drew must not show in any test."""
    _seed()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """The random state that was there before the fixtures of this test, whatever they and the test draw or seed."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        return (yield)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _refused((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _refused((yield), collector.config)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(needs.count([_reason(report) for report in skipped]))


#: modules of few tests that take long. Workers take modules in the order in which they are collected, and the last ones
#: to end must be short: otherwise one worker ends minutes after the other.
_FIRST = (
    "recipes/training/test_distributed.py",
    "test_cli.py",
    "recipes/datasets/test_fuzz.py",
    "recipes/datasets/test_kills.py",
    "recipes/datasets/test_ray.py",
    "recipes/datasets/test_object_store.py",
    "recipes/datasets/test_two_machines.py",
    "recipes/training/test_configs.py",
    "connectors/test_connectors.py",
    "codec/tokenizers/test_tokenizer.py",
    "recipes/training/test_lit.py",
    "recipes/training/test_run_end.py",
    "recipes/training/test_resuming.py",
    "recipes/evidence/test_ablate.py",
    "recipes/training/test_learning.py",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(places)))


_REQUIRED = pytest.StashKey()


def _seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _refused(report, config):
    """A failure in place of a skip for something that is required."""
    if report.skipped and not hasattr(report, "wasxfail") and needs.need(_reason(report)) in config.stash[_REQUIRED]:
        report.outcome = "failed"
        report.longrepr = f"required, but {_reason(report)}"
    return report


def _reason(report):
    return str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
