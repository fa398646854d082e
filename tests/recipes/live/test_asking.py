"""Answers beside the loop over groups: it never waits for them, and each question becomes of something."""

import itertools
import threading
from types import SimpleNamespace

import pytest

from ov2kit.codec import BitCostGate
from ov2kit.recipes import Processor
from ov2kit.recipes.live.answers import LiveAnswer, LiveAnswers
from ov2kit.recipes.live.asking import Asking
from ov2kit.recipes.live.context import RollingContext
from ov2kit.recipes.live.watching import watch
from ov2kit.recipes.prompt.text_tokenizer import small_tokenizer
from tests.patience import PATIENCE


class SlowModel:
    """Answers when it is let; one at a time."""

    def __init__(self):
        self.begun, self.may_end, self.seen = threading.Semaphore(0), threading.Semaphore(0), []

    def __call__(self, groups, is_stopped):
        self.seen.append([group.number for group in groups])
        self.begun.release()
        while not self.may_end.acquire(timeout=0.01):
            if is_stopped():
                return LiveAnswer("cut", 1, 0, 1, 0.1, is_cut=True)
        return LiveAnswer(f"about {groups[-1].number}", 1, 0, 1, 0.1)


def questions(numbers):
    return [[SimpleNamespace(number=number, end_seconds=2.0 * number)] for number in numbers]


def test_the_loop_does_not_wait_and_one_question_waits(groups):
    """A model that is at its first answer while all other groups come: it is asked about the newest next."""
    model, told = SlowModel(), []
    asking = Asking(model, told.append)
    loop = watch(groups, RollingContext(keep_seconds=7.0), BitCostGate(quantile=0.0, warmup_groups=64), asking)
    seen = [next(loop)]
    seen += [next(loop)]
    assert model.begun.acquire(timeout=PATIENCE)
    seen += list(itertools.islice(loop, len(groups) - 2))  # all of them, with the first answer still to come
    assert [watched.group.number for watched in seen] == list(range(len(groups)))
    assert all(watched.is_asked for watched in seen)
    assert [(a.group, a.outcome) for a in told] == [(n, "replaced") for n in range(1, len(groups) - 2)]
    model.may_end.release(2)
    assert list(loop) == []
    last = len(groups) - 1
    outcomes = {a.group: a.outcome for a in told}
    assert len(told) == len(outcomes) == len(groups)
    assert outcomes == {n: "answered" if n in (0, last) else "replaced" for n in range(len(groups))}
    assert model.seen[0] == [0]
    kept = RollingContext(keep_seconds=7.0)
    for group in groups:
        kept.add(group)
    assert model.seen[1] == [each.number for each in kept]
    assert told[-1].answer.text == f"about {last}"


def test_where_nothing_is_lost_by_it_each_answer_is_waited_for():
    model, told = SlowModel(), []
    asking = Asking(model, told.append, waits=True)
    model.may_end.release(5)
    for question in questions(range(5)):
        asking.ask(question)
        asking.settle()
    asking.finish()
    assert [(a.group, a.outcome, a.answer.text) for a in told] == [(n, "answered", f"about {n}") for n in range(5)]


def test_stop_cuts_what_is_written_and_drops_what_waits():
    model, told = SlowModel(), []
    asking = Asking(model, told.append)
    first, second = questions([3, 4])
    asking.ask(first)
    assert model.begun.acquire(timeout=PATIENCE)
    asking.ask(second)
    asking.stop()
    asking.finish()
    assert [(a.group, a.outcome) for a in told] == [(3, "cut"), (4, "stopped")]
    assert not asking._thread.is_alive()


@pytest.mark.parametrize("last", ["settle", "finish"])
def test_what_the_model_raises_comes_to_who_asked(last):
    def broken(groups, is_stopped):
        raise MemoryError("no room")

    asking = Asking(broken, lambda answered: None, waits=True)
    asking.ask(questions([0])[0])
    with pytest.raises(MemoryError, match="no room"):
        getattr(asking, last)()
    asking.finish()


def test_an_answer_ends_with_the_token_it_is_at_and_the_next_is_as_if_nothing_had_been(model, groups):
    live = LiveAnswers(model, Processor(small_tokenizer()), "What happens?", max_new_tokens=12)
    context = RollingContext(keep_seconds=30.0)
    context.add(groups[0])
    whole, count = live(context), itertools.count(1)
    cut = live(context, lambda: next(count) == 4)
    assert (whole.is_cut, cut.is_cut) == (False, True)
    assert whole.text.startswith(cut.text)
    assert len(cut.text) < len(whole.text)
    context.add(groups[1])
    again = LiveAnswers(model, Processor(small_tokenizer()), "What happens?", max_new_tokens=12, reuse=False)
    assert live(context).text == again(context).text
