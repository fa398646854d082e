"""`ov2kit watch`: a stream -> answers as it goes on, and a page to look at."""

import json
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args

from jsonargparse import ArgumentParser, Namespace

from ov2kit.codec import BitCostGate, CodecTokenizer, LiveTokenizer
from ov2kit.errors import OptionError
from ov2kit.recipes.generate import Dtype, load
from ov2kit.recipes.live.answers import LiveAnswers
from ov2kit.recipes.live.asking import Answered, Asking
from ov2kit.recipes.live.context import RollingContext
from ov2kit.recipes.live.page import LivePage
from ov2kit.recipes.live.watching import Watched, watch
from ov2kit.recipes.prompt.layout import Visibility

if TYPE_CHECKING:
    from ov2kit.codec.live.watch import LiveWatch


def parser() -> ArgumentParser:
    """Options of `ov2kit watch`."""
    command = ArgumentParser(
        description="Follow a stream, and answer a question about it whenever much happens.", exit_on_error=False
    )
    command.add_argument("source", metavar="SOURCE", help="rtsp, udp, tcp or http address, named pipe, file, or -")
    command.add_argument("--model", default=None, metavar="DIR", help="model directory; without one groups are shown")
    command.add_argument("--prompt", default=None, metavar="TEXT", help="what to ask")
    command.add_argument("--system", default=None, metavar="TEXT", help="system text; the tokenizer's own if omitted")
    command.add_argument("--max_new_tokens", default=128, type=int, help="most tokens of an answer")
    command.add_argument("--visibility", default="group", choices=get_args(Visibility), help="as it was trained")
    command.add_argument("--device", default=None, metavar="NAME", help="cuda, cuda:1, cpu, ...; chosen if omitted")
    command.add_argument("--dtype", default="auto", choices=get_args(Dtype), help="of the weights")
    command.add_argument("--keep_seconds", default=60.0, type=float | None, help="seconds that the model remembers")
    command.add_argument("--keep_tokens", default=None, type=int | None, help="most visual tokens it remembers")
    command.add_argument("--reconnect", default=True, type=bool, help="open a source again that has died")
    command.add_argument("--give_up_seconds", default=30.0, type=float, help="seconds without a packet that end it")
    command.add_argument(
        "--max_lag_seconds", default=None, type=float | None,
        help="seconds that packets may wait before groups are left out, .inf: never; if omitted 10 for rtsp, rtp, udp, "
        "srt and rtmp, .inf for others",
    )  # fmt: skip
    command.add_argument(
        "--wait_for_answers", default=None, type=bool | None, help="take no group meanwhile; files wait by default"
    )
    command.add_argument("--page", default=None, type=int | None, metavar="PORT", help="serve a page; 0: any free port")
    command.add_argument("--host", default="127.0.0.1", help="of the page; other than loopback shows it to others")
    command.add_argument("--json", action="store_true", help="print one JSON object per group and answer")
    command.add_argument("--config", action="config", help="YAML file of these options")
    command.add_class_arguments(LiveTokenizer, "live", skip={"tokenizer"})
    command.add_class_arguments(BitCostGate, "gate")
    names = command.add_class_arguments(CodecTokenizer, "codec", skip={"saliency", "patch", "merge"})
    command.set_defaults(dict.fromkeys(names))  # None: as the model directory says
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit watch`: until the stream ends, or Ctrl-C."""
    if (parsed.model is None) != (parsed.prompt is None):
        raise OptionError("--model and --prompt go together: give both, or none to see the groups alone")
    chosen = {name: value for name, value in parsed.codec.as_dict().items() if value is not None}
    gate = BitCostGate(**parsed.gate.as_dict())
    context = RollingContext(keep_seconds=parsed.keep_seconds, keep_tokens=parsed.keep_tokens)
    answers = None
    tokenizer = CodecTokenizer(**chosen) if parsed.model is None else None
    if parsed.model is not None:
        system = {} if parsed.system is None else {"system": parsed.system}
        model, processor = load(parsed.model, device=parsed.device, dtype=parsed.dtype, codec=chosen, **system)
        answers = LiveAnswers(
            model, processor, parsed.prompt, max_new_tokens=parsed.max_new_tokens, visibility=parsed.visibility
        )
        tokenizer = processor.codec
    live = LiveTokenizer(tokenizer, **parsed.live.as_dict())
    with ExitStack() as closes:
        page: LivePage | None = None

        def report(message: str) -> None:
            print(f"{groups.label}: {message}", file=sys.stderr, flush=True)
            if page is not None:
                page.report(message)

        groups = closes.enter_context(
            live.watch(
                parsed.source, reconnect=parsed.reconnect, give_up_seconds=parsed.give_up_seconds,
                max_lag_seconds=parsed.max_lag_seconds, on_fault=report,
            )
        )  # fmt: skip
        if parsed.page is not None:
            page = LivePage(groups.label, port=parsed.page, host=parsed.host)
            closes.callback(page.close)
            print(f"page at {page.url}", file=sys.stderr, flush=True)
        out = _Lines(as_json=parsed.json)

        def show(answered: Answered) -> None:
            out.answer(answered)
            if page is not None:
                page.answer(answered)

        asking = None
        if answers is not None:
            waits = groups.is_file if parsed.wait_for_answers is None else parsed.wait_for_answers
            asking = Asking(answers, show, waits=waits)
        interrupted = _Interrupt(groups, asking)
        closes.callback(interrupted.restore)
        for watched in watch(groups, context, gate, asking):
            out.group(watched)
            if page is not None:
                page.add(watched)
        if page is not None:
            page.end()
        return 130 if interrupted.came else 0


class _Interrupt:
    """The first Ctrl-C ends the stream with what was seen, the second everything."""

    def __init__(self, groups: "LiveWatch", asking: Asking | None) -> None:
        self._groups, self._asking, self.came = groups, asking, False
        self._before = signal.signal(signal.SIGINT, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True
        self._groups.stop()
        if self._asking is not None:
            self._asking.stop()

    def restore(self) -> None:
        signal.signal(signal.SIGINT, self._before)


class _Lines:
    """What is printed; groups and answers come from two threads."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._lock = as_json, threading.Lock()

    def group(self, watched: Watched) -> None:
        group = watched.group
        left_out = f"{group.shed_seconds:.2f} s before it left out, " if group.shed_seconds else ""
        self._print(
            watched.facts(),
            f"[{group.start_seconds:.2f} to {group.end_seconds:.2f} s] {len(group.canvases)} canvases, {group.reason}, "
            f"{watched.gated.decision}, {left_out}latency {group.latency_seconds:.2f} s",
        )

    def answer(self, answered: Answered) -> None:
        answer = answered.answer
        if answer is None:
            text = f"no answer: {answered.outcome}"
        else:
            text = f"{answer.text or '(no text)'}{' ...' if answer.is_cut else ''}"
        self._print(answered.facts(), f"  to {answered.end_seconds:.2f} s, {answered.seconds:.2f} s later: {text}")

    def _print(self, facts: dict[str, Any], line: str) -> None:
        with self._lock:
            print(json.dumps(facts) if self._as_json else line, flush=True)
