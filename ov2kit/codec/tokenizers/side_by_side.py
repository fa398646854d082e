"""Calls side by side: groups are scored and packed by more than one thread while later ones are decoded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ov2kit.codec.tokenizers.threads import one_torch_thread

_T = TypeVar("_T")
_MOST_HELPERS = 3  # each holds the frames of a group


def side_by_side(calls: Iterable[Callable[[], _T]], threads: int) -> Iterator[_T]:
    """The results of calls, in their order.

    A call goes to a thread beside this one, or is made here while all of those are busy: whoever waits for
    a result does part of the work. At most `threads` calls, and never more than four, are under way at a time,
    so that few of the groups that they hold are in memory.

    Args:
        calls: taken one after the other in this thread, as soon as there is one to make them.
        threads: this one included; 1 makes every call here.

    Raises:
        Whatever a call raises. The calls after it are not made, but those under way end first.
    """
    helpers = min(threads - 1, _MOST_HELPERS)
    if helpers < 1:
        for call in calls:
            yield call()
        return
    pool = ThreadPoolExecutor(helpers, thread_name_prefix="ov2kit-groups")
    made: deque[Future[_T]] = deque()
    try:
        for call in calls:
            if sum(not each.done() for each in made) < helpers:
                made.append(pool.submit(_alone, call))
            else:
                made.append(_here(call))
            while made and (made[0].done() or len(made) > 2 * helpers):  # a slow one is not left too far behind
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(call: Callable[[], _T]) -> _T:
    with one_torch_thread():
        return call()


def _here(call: Callable[[], _T]) -> "Future[_T]":
    made: Future[_T] = Future()
    try:
        made.set_result(call())
    except Exception as error:  # comes when it is the turn of this call
        made.set_exception(error)
    return made
