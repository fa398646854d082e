"""Calls side by side: in order, few at a time, and nothing left behind."""

import threading
from functools import partial

import pytest
import torch

from ov2kit.codec.tokenizers.side_by_side import side_by_side
from tests.patience import PATIENCE


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_results_come_in_the_order_of_the_calls_and_few_are_under_way(threads):
    lock, now, most = threading.Lock(), 0, 0
    width = min(threads, 4)
    go_on = threading.Barrier(width)

    def call(number):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if number < width:  # the first ones end when all that may be under way are
            go_on.wait(PATIENCE)
        with lock:
            now -= 1
        return number

    assert list(side_by_side((partial(call, number) for number in range(50)), threads)) == list(range(50))
    assert most == width


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_at_its_place_and_ends_the_calls(threads):
    made = []

    def call(number):
        made.append(number)
        if number == 4:
            raise ValueError("the fifth")
        return number

    results = side_by_side((partial(call, number) for number in range(100)), threads)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="the fifth"):
        next(results)
    assert max(made) <= (4 if threads == 1 else 4 + 2 * threads)


def test_calls_have_one_torch_thread_and_leaving_early_leaves_no_thread():
    before, found = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        both = threading.Barrier(2)

        def call(number):
            if number < 2:
                both.wait(PATIENCE)
            return threading.current_thread(), torch.get_num_threads()

        results = side_by_side((partial(call, number) for number in range(8)), 2)
        helper, count = next(results)
        results.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(found)
    assert (helper.name.startswith("ov2kit-groups"), count) == (True, 1)
    assert not set(threading.enumerate()) - before
