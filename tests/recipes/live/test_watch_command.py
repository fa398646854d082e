"""`ov2kit watch`: answers as they come, in a terminal and on a page."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from ov2kit.cli import run
from ov2kit.codec import BitCostGate, CodecTokenizer, LiveTokenizer
from ov2kit.errors import OutputError
from ov2kit.recipes import Processor
from ov2kit.recipes.generate import answer, load
from ov2kit.recipes.live.answers import LiveAnswer, LiveAnswers
from ov2kit.recipes.live.asking import Answered
from ov2kit.recipes.live.context import RollingContext
from ov2kit.recipes.live.page import LivePage
from ov2kit.recipes.live.watching import watch
from ov2kit.recipes.prompt.text_tokenizer import small_tokenizer
from tests.codec.live.senders import paced, tcp_server
from tests.codec.live.streams import packets_of, pushed, ts_clip
from tests.paths import ROOT
from tests.patience import PATIENCE

SMALL = ("--codec.max_pixels", "10000", "--live.tokens_per_second", "20")


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("model") / "tiny", small_tokenizer()
    model.save_pretrained(folder, tokenizer)
    Processor(tokenizer, codec=CodecTokenizer(max_pixels=10_000)).save_pretrained(folder)
    return folder


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.ts"
    path.write_bytes(ts_clip(frames=400))
    return path


def watched_clip():
    live = LiveTokenizer(CodecTokenizer(max_pixels=10_000), tokens_per_second=20)
    groups = pushed(live, packets_of(ts_clip(frames=400)))
    return list(watch(groups, RollingContext(keep_seconds=8.0), BitCostGate(quantile=0.5, warmup_groups=2), None))


def test_answers_are_those_to_the_context_of_their_time(directory, clip, capsys):
    arguments = ["watch", str(clip), "--model", str(directory), "--prompt", "What now?", "--json", *SMALL]
    arguments += ["--give_up_seconds", "0.1", "--max_new_tokens", "6", "--keep_seconds", "8", "--device", "cpu"]
    assert run([*arguments, "--gate.quantile", "0.5", "--gate.warmup_groups", "2"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    lines = [line for line in printed if "group" in line]
    assert len(lines) > 4
    answers = {line["answer_to"]: line for line in printed if "answer_to" in line}
    for before, after in itertools.pairwise(printed):  # a file waits
        assert ("answer_to" in after) == before.get("is_asked", False)
    assert {line["outcome"] for line in answers.values()} == {"answered"}
    model, processor = load(directory, device="cpu")
    fresh = LiveAnswers(model, processor, "What now?", max_new_tokens=6, reuse=False)
    context = RollingContext(keep_seconds=8.0)
    live = LiveTokenizer(CodecTokenizer(max_pixels=10_000), tokens_per_second=20)
    groups = pushed(live, packets_of(ts_clip(frames=400)))
    assert len(groups) == len(lines)
    for group, line in zip(groups, lines, strict=True):
        context.add(group)
        assert line["start_seconds"] == pytest.approx(group.start_seconds, abs=1e-3)
        assert line["kept_groups"] == len(context)
        assert line["is_asked"] == (line["gate"] in ("event", "heartbeat")) == (line["group"] in answers)
        if line["is_asked"]:
            assert (
                answers[line["group"]]["answer"]
                == answer(model, processor, [fresh.sample(context)], max_new_tokens=6)[0]
            )
    assert {line["gate"] for line in lines} >= {"event", "quiet"}
    assert any(line["reused_tokens"] for line in answers.values())


def test_without_a_model_groups_are_shown(clip, capsys):
    assert run(["watch", str(clip), "--give_up_seconds", "0.1", *SMALL]) == 0
    out = capsys.readouterr()
    assert re.match(r"\[0\.00 to \d+\.\d\d s\] \d+ canvases, \w+, event, latency \d+\.\d\d s", out.out)
    assert "clip.ts: the stream ended" in out.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothere.ts"], "nothere.ts: No such file or directory"),
        (["x", "--model", "m"], "--model and --prompt go together"),
        (["ftp://x/y"], "unknown scheme 'ftp'"),
        (["x", "--gate.quantile", "2"], "quantile must be from 0 to 1, got 2"),
        (["x", "--max_lag_seconds", "nan"], "--max_lag_seconds: expected a number or null, got 'nan'"),
        (["x", "--max_lag_seconds", ".nan"], "max_lag_seconds must be a finite number, got nan"),
        (["x", "--keep_seconds", "null"], "a stream has no end: give keep_seconds, keep_tokens or both"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert run(["watch", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("content", [b"", b"this is no video"], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_one_line(content, tmp_path, capsys):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert run(["watch", str(path), "--give_up_seconds", "0.1"]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert line.startswith(f"error: {path}: not a video that can be opened as it comes (")


def test_ctrl_c_ends_it_at_once_with_what_was_seen():
    data = ts_clip(frames=400)
    half = len(data) // 2 // 188 * 188
    done = threading.Event()

    def hangs(peer):
        paced(data[:half], 0.5, peer.sendall)
        done.wait(2 * PATIENCE)

    with tcp_server(hangs) as address:
        command = [sys.executable, "-m", "ov2kit", "watch", address, "--json", *SMALL]
        command += ["--live.silence_seconds", str(2 * PATIENCE), "--give_up_seconds", str(2 * PATIENCE)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        first = process.stdout.readline()
        assert json.loads(first)["reason"] == "quota"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)  # the sender hangs for longer, and so does the source's own end
        done.set()
    assert process.returncode == 130
    assert json.loads(out.strip().split("\n")[-1])["reason"] == "end"


def get(url, host=None):
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read()


def test_the_page_gives_each_group_once_and_only_here():
    page = LivePage("a <b>camera</b>")
    try:
        watched = watched_clip()
        for each in watched[:3]:
            page.add(each)
        state = json.loads(get(page.url + "groups.json"))
        assert [group["group"] for group in state["groups"]] == [0, 1, 2]
        assert state["groups"][1]["latency_seconds"] == round(watched[1].group.latency_seconds, 3)
        assert all(len(group["pictures"]) == min(8, group["canvases"]) for group in state["groups"])
        page.add(watched[3])
        page.answer(Answered(1, 4.0, "answered", LiveAnswer("a cat", 9, 0, 1, 0.5), 0.6))
        page.answer(Answered(2, 6.0, "replaced", None, 0.6))
        state = json.loads(get(page.url + "groups.json?after=2"))
        assert [group["group"] for group in state["groups"]] == [3]
        assert [(a["answer_to"], a["answer"]) for a in state["answers"]] == [(1, "a cat"), (2, None)]
        page.end()
        assert json.loads(get(page.url + "groups.json?after=3"))["ended"] is True
        for target, host in (("groups.json", "evil.example:80"), ("nothing", None)):
            with pytest.raises(urllib.error.HTTPError):
                get(page.url + target, host)
        port = int(page.url.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(OutputError, match=f"127.0.0.1:{port}: the page cannot be served there"):
            LivePage("x", port=port)
    finally:
        page.close()
    with pytest.raises(urllib.error.URLError):
        get(page.url)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium (chromium, chromium-browser, google-chrome) on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(tmp_path, width):
    page = LivePage("a <b>camera</b>")
    try:
        watched = watched_clip()
        latencies = [0.25 * number + 0.07 for number in range(len(watched))]  # hundredths: nothing is rounded
        for each, seconds in zip(watched, latencies, strict=True):
            group = replace(each.group, latency_seconds=seconds)
            page.add(replace(each, group=group, is_asked=each.gated.is_open))
        page.answer(Answered(0, 4.0, "answered", LiveAnswer("a <cat>", 9, 0, 1, 0.5), 0.6))
        page.end()
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--window-size={width},900"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", "--dump-dom", page.url]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    finally:
        page.close()
    assert "a &lt;b&gt;camera&lt;/b&gt;" in dom  # as text
    shown = re.findall(r'<article(?: class="(\w*)")? data-group="(\d+)">', dom)
    assert [int(number) for _, number in shown] == list(range(len(watched)))[::-1]  # the newest first
    assert [name == "open" for name, _ in shown] == [each.gated.is_open for each in watched][::-1]
    assert re.findall(r"latency (\d+\.\d\d) s", dom) == [f"{seconds:.2f}" for seconds in latencies][::-1]
    assert dom.count('<img src="data:image/') == sum(min(8, len(each.group.canvases)) for each in watched)
    assert re.search(r'data-group="0">.*?<p class="answer">a &lt;cat&gt;</p>', dom)
    assert "the stream has ended" in dom
