"""Asking: questions to a model beside the loop over groups, which does not wait for answers."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ov2kit.errors import check_flag
from ov2kit.recipes.live.answers import LiveAnswer, LiveAnswers
from ov2kit.recipes.live.context import KeptGroup

_LONGEST_STEP = 3.0  # seconds that a model which was stopped may take for the token it is at


@dataclass(frozen=True)
class Answered:
    """What became of one question; each that was asked becomes one of these.

    Args:
        group: number of the newest group that it was about.
        end_seconds: of that group, on the stream.
        outcome: "answered"; "cut", because all was stopped while it was written; or no answer, because a newer question
            took its place while the model was busy ("replaced"), or all was stopped before its turn ("stopped").
        answer: None where there is none.
        seconds: on the clock, from the question to this.
    """

    group: int
    end_seconds: float
    outcome: Literal["answered", "cut", "replaced", "stopped"]
    answer: LiveAnswer | None
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Plain values, as one line of JSON."""
        answer = self.answer
        return {
            "answer_to": self.group,
            "end_seconds": round(self.end_seconds, 3),
            "outcome": self.outcome,
            "answer": None if answer is None else answer.text,
            "prompt_tokens": None if answer is None else answer.prompt_tokens,
            "reused_tokens": None if answer is None else answer.reused_tokens,
            "answer_seconds": None if answer is None else round(answer.seconds, 3),
            "asked_seconds_ago": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class _Question:
    groups: Sequence[KeptGroup]
    asked: float


class Asking:
    """One thread that answers. One question may wait for it, the newest: an older one gives way.

    Args:
        answers: calls the model; used by that thread alone.
        on_answer: given each outcome, one at a time, from that thread or the one that asks.
        waits: let `settle` wait for the answer, where nothing is lost by it.
    """

    def __init__(self, answers: LiveAnswers, on_answer: Callable[[Answered], None], *, waits: bool = False) -> None:
        self.waits = check_flag("waits", waits)
        self._answers, self._on_answer = answers, on_answer
        self._change, self._telling = threading.Condition(), threading.Lock()
        self._waiting: _Question | None = None
        self._is_busy = self._is_over = False
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ov2kit-answers", daemon=True)
        self._thread.start()

    def ask(self, groups: Sequence[KeptGroup]) -> None:
        """Ask about these groups, the oldest first; at least one. Returns at once."""
        with self._change:
            before, self._waiting = self._waiting, _Question(groups, time.monotonic())
            self._change.notify_all()
        if before is not None:
            self._tell(before, "replaced")
        self._raise()

    def settle(self) -> None:
        """Between two groups: wait for the answers if that was wanted.

        Raises:
            Exception: what the model raised.
        """
        if self.waits:
            self._idle()
        self._raise()

    def finish(self) -> None:
        """Wait for what was asked, then end the thread. After `stop` it is left behind if it does not end soon.

        Raises:
            Exception: what the model raised.
        """
        self._idle()
        with self._change:
            self._is_over = True
            self._change.notify_all()
        self._thread.join(_LONGEST_STEP)
        self._raise()

    def stop(self) -> None:
        """End at once, from anywhere: the answer that is written ends with the token it is at."""
        self._stop.set()  # nothing else: a signal handler may be inside of a lock

    def _idle(self) -> None:
        stopped_at: float | None = None
        with self._change:
            while (self._waiting is not None or self._is_busy) and self._failure is None:
                if self._stop.is_set():
                    stopped_at = stopped_at or time.monotonic()
                    if time.monotonic() - stopped_at > _LONGEST_STEP:
                        return
                self._change.wait(0.1)

    def _raise(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self) -> None:
        while True:
            with self._change:
                self._is_busy = False
                self._change.notify_all()
                while self._waiting is None and not self._is_over:
                    self._change.wait()
                question, self._waiting = self._waiting, None
                self._is_busy = question is not None
            if question is None:
                return
            try:
                if self._stop.is_set():
                    self._tell(question, "stopped")
                    continue
                answer = self._answers(question.groups, self._stop.is_set)
                self._tell(question, "cut" if answer.is_cut else "answered", answer)
            except Exception as error:  # it belongs to whoever asks next
                self._failure = error

    def _tell(
        self, question: _Question, outcome: Literal["answered", "cut", "replaced", "stopped"],
        answer: LiveAnswer | None = None,
    ) -> None:  # fmt: skip
        newest = question.groups[-1]
        told = Answered(newest.number, newest.end_seconds, outcome, answer, time.monotonic() - question.asked)
        with self._telling:
            self._on_answer(told)
