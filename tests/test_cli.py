"""The command line as a stranger types it."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from ov2kit.cli import COMMANDS, run
from ov2kit.codec import CodecTokenizer, load_assets
from tests.fresh import python
from tests.paths import SAMPLE


@pytest.fixture
def ov2kit(capfd, monkeypatch):
    """Run one command in this process; capture what it prints."""

    def run_command(*arguments, cwd=None, status=0):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capfd.readouterr()
        try:
            code = run([str(argument) for argument in arguments])
        except SystemExit as leaving:  # --help
            code = leaving.code or 0
        printed = capfd.readouterr()
        assert code == status, printed.err
        return SimpleNamespace(stdout=printed.out, stderr=printed.err)

    return run_command


def assert_one_error_line(done, *parts):
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


class TestTokenize:
    def test_two_videos_with_a_config_file(self, ov2kit, tmp_path):
        (tmp_path / "other").mkdir()
        twin = tmp_path / "other" / SAMPLE.name
        twin.write_bytes(SAMPLE.read_bytes())
        config = tmp_path / "options.yaml"
        config.write_text(
            "budget_canvases: 5\nmax_pixels: 20000\n"
            "saliency:\n  class_path: MotionResidualSaliency\n  init_args: {normalize: frame}\n"
        )
        done = ov2kit("tokenize", SAMPLE, twin, "--out", tmp_path / "out", "--config", config, "--json")
        facts = [json.loads(line) for line in done.stdout.splitlines()]
        assert [f["canvases"] for f in facts] == [5, 5]
        assert facts[1]["out"].endswith("bbb_360p-2")
        first = load_assets(tmp_path / "out" / "bbb_360p")
        assert (first.images == CodecTokenizer(5, max_pixels=20000)(SAMPLE).images).float().mean() < 1
        assert "normalize='frame'" in first.provenance["options"]["saliency"]

    @pytest.mark.parametrize("kind", ["npy", "jpg", "safetensors"])
    def test_formats(self, ov2kit, tmp_path, kind):
        ov2kit("tokenize", SAMPLE, "--out", tmp_path, "--budget_canvases", 2, "--format", kind, "--quiet")
        names = {path.suffix for path in (tmp_path / "bbb_360p").iterdir()}
        assert f".{kind}" in names

    def test_existing_results_are_kept_without_overwrite(self, ov2kit, tmp_path):
        command = ("tokenize", SAMPLE, "--out", tmp_path, "--budget_canvases", 1)
        ov2kit(*command)
        before = (tmp_path / "bbb_360p" / "_DONE").stat().st_mtime_ns
        assert_one_error_line(ov2kit(*command, status=2), "bbb_360p", "exists", "--overwrite")
        assert (tmp_path / "bbb_360p" / "_DONE").stat().st_mtime_ns == before
        ov2kit(*command, "--overwrite")

    def test_bad_video_among_good_ones_is_one_line_and_the_rest_is_done(self, ov2kit, tmp_path):
        (tmp_path / "text.mp4").write_text("no video\n" * 100)
        done = ov2kit(
            "tokenize", tmp_path / "text.mp4", SAMPLE, "--out", tmp_path / "out", "--budget_canvases", 1, status=2
        )
        assert_one_error_line(done, "text.mp4", "not a video")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["bbb_360p"]

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["missing.mp4", "--out", "o"], ["missing.mp4", "no such file"]),
            ([".", "--out", "o"], ["folder"]),
            (["a.mp4"], ["--out"]),
            (["--out", "o"], ["VIDEO"]),
            (["a.mp4", "--out", "o", "--budget_canvases", "many"], ["budget_canvases", "many"]),
            (
                ["a.mp4", "--out", "o", "--budget_tokens", "1.5"],
                ["--budget_tokens: expected a whole number or null, got '1.5'"],
            ),
            (["a.mp4", "--out", "o", "--canvas_size", "8"], ["--canvas_size: expected [int, int] or null, got '8'"]),
            (["a.mp4", "--out", "o", "--grouping", "x"], ["'container' or Module or null, got 'x'"]),
            (["a.mp4", "--out", "o", "--quiet", "--threads", "x"], ["--threads: expected a whole number", "got 'x'"]),
            (["a.mp4", "--out", "o", "--preset", "papers"], ["preset", "papers"]),
            (["a.mp4", "--out", "o", "--canvas_count", "3"], ["--canvas_count"]),
            (["a.mp4", "--out", "o", "--config", "none.yaml"], ["none.yaml"]),
        ],
    )
    def test_bad_input_is_one_line(self, ov2kit, tmp_path, arguments, parts):
        done = ov2kit("tokenize", *arguments, cwd=tmp_path, status=2)
        assert_one_error_line(done, *parts)
        assert list(tmp_path.iterdir()) == []

    def test_as_a_program_it_fails_without_a_traceback(self, tmp_path):
        command = [sys.executable, "-m", "ov2kit", "tokenize", "missing.mp4", "--out", "o"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert_one_error_line(done, "missing.mp4")

    def test_interrupting_leaves_nothing_half_written(self, tmp_path):
        command = [sys.executable, "-m", "ov2kit", "tokenize", *[str(SAMPLE)] * 200, "--out", str(tmp_path / "out")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        process.stdout.readline()  # the first video is done, the next is under way
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert errors.strip().splitlines()[-1].startswith("interrupted")
        for folder in (tmp_path / "out").iterdir():
            assert (folder / "_DONE").exists(), f"{folder} is half-written"
            load_assets(folder)


class TestOthers:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_help(self, ov2kit, command):
        assert "usage" in ov2kit(command, "--help").stdout
        assert command in ov2kit("--help").stdout

    def test_report_writes_one_page(self, ov2kit, tmp_path):
        ov2kit("report", SAMPLE, "--out", tmp_path / "page.html", "--budget_canvases", 4)
        page = (tmp_path / "page.html").read_text()
        assert "bbb_360p.mp4" in page
        assert_one_error_line(ov2kit("report", tmp_path / "none.mp4", status=2, cwd=tmp_path), "none.mp4")
        assert [p.name for p in tmp_path.iterdir()] == ["page.html"]

    def test_demo_shows_the_bundled_clip_and_ends_with_a_model_that_learned_it(self, ov2kit, tmp_path):
        done = ov2kit("demo", "--out", tmp_path / "demo")
        assert "16 canvases" in done.stdout
        assert (tmp_path / "demo" / "report.html").exists()
        assert len(load_assets(tmp_path / "demo" / "canvases")) == 16
        losses = [float(loss) for loss in re.findall(r"^step \d+/\d+  loss ([\d.]+)", done.stderr, re.M)]
        assert losses[0] > 1
        assert losses[-1] < 0.1
        taught = re.search(r"taught: '(.*)'; it answers:", done.stdout)
        assert taught
        assert done.stdout.strip().splitlines()[-1] == taught[1]

    def test_doctor_knows_which_codecs_export_motion(self, ov2kit):
        facts = json.loads(ov2kit("doctor", "--json").stdout)
        motion = {name: codec["motion"] for name, codec in facts["codecs"].items()}
        assert motion["h264"]
        assert motion["mpeg4"]
        assert not motion["hevc"]
        assert not motion["vp9"]
        assert facts["core"]["av"]
        assert "H.264" in ov2kit("doctor").stdout


TOKENIZE = ["tokenize", "x.mp4", "--out", "o"]
DATASET = ["dataset", "x.mp4", "--out", "o"]
FIT = ["fit", "--config", "debug.yaml"]


class TestOfEveryCommand:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([*TOKENIZE, "--budget_canvases", "nan"], "--budget_canvases: expected a whole number or null, got 'nan'"),
            ([*TOKENIZE, "--budget_canvases", ""], "--budget_canvases: expected a whole number or null, got ''"),
            ([*TOKENIZE, "--max_pixels", "1e99"], "--max_pixels: expected a whole number, got '1e+99'"),
            ([*TOKENIZE, "--rank_damping", "inf"], "--rank_damping: expected a number, got 'inf'"),
            ([*TOKENIZE, "--preset", "papr"], "--preset: expected one of 'paper', 'release', 'event', got 'papr'"),
            ([*TOKENIZE, "--max_pixles", "9"], "unknown option --max_pixles; did you mean --max_pixels?"),
            ([*TOKENIZE, "--colour", "red"], "unknown option --colour; see --help"),
            ([*DATASET, "--workers", "two"], "--workers: expected a whole number, got 'two'"),
            ([*DATASET, "--limits.secnds", "1"], "unknown option --limits.secnds; did you mean --limits.seconds?"),
            (["tokenize", "x.mp4", "--out", ""], "--out: expected a path, got ''"),
            (["report", "x.mp4", "--out="], "--out: expected a path, got ''"),
            (["dataset", "x.mp4", "--out", ""], "--out: expected a path, got ''"),
            ([*FIT, "--out", ""], "--out: expected a path, got ''"),
            ([*FIT, "--out", "/dev/null"], "/dev/null: expected a folder for runs, got a device"),
            ([*FIT, "--model.eps", "nan"], "--model.eps: expected a number, got 'nan'"),
            ([*FIT, "--model.start", ""], "--model.start: expected a path, got ''"),
            ([*FIT, "--ckpt_path="], "--ckpt_path: expected a path, got ''"),
            (["tokenize", "", "--out", "o"], "tokenize: expected a path, got ''"),
            (["convert", "model", ""], "convert: expected a path, got ''"),
        ],
    )
    def test_wrong_values_are_one_line_in_words_and_nothing_is_written(self, ov2kit, tmp_path, arguments, said):
        assert ov2kit(*arguments, cwd=tmp_path, status=2).stderr == f"error: {said}\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", [b"budget_canvases: [1\n", b"\xff\xfe"], ids=["half", "binary"])
    @pytest.mark.parametrize("command", [TOKENIZE, ["fit"]], ids=["tokenize", "fit"])
    def test_a_config_that_cannot_be_read_is_named(self, ov2kit, tmp_path, command, content):
        (tmp_path / "bad.yaml").write_bytes(content)
        done = ov2kit(*command, "--config", "bad.yaml", cwd=tmp_path, status=2)
        assert_one_error_line(done, "error: bad.yaml: not a YAML file that can be read (")
        assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]

    @pytest.mark.parametrize("command", [TOKENIZE, ["fit"]], ids=["tokenize", "fit"])
    def test_a_config_that_holds_no_options_is_named(self, ov2kit, tmp_path, command):
        (tmp_path / "text.yaml").write_text("some text\n")
        done = ov2kit(*command, "--config", "text.yaml", cwd=tmp_path, status=2)
        assert done.stderr == "error: text.yaml: expected a YAML file with a mapping at its top, got 'some text'\n"

    def test_an_unknown_command_names_the_nearest(self, ov2kit):
        assert_one_error_line(ov2kit("tokenise", status=2), "tokenise", "did you mean 'tokenize'?")

    @pytest.mark.parametrize("option", ["--budget_canvases=2", "--budget-canvases=2"])
    def test_dashes_and_underscores_are_the_same_option(self, ov2kit, tmp_path, option):
        ov2kit("tokenize", SAMPLE, "--out", tmp_path, option, "--max-pixels", 4000, "--quiet")
        assert len(load_assets(tmp_path / "bbb_360p")) == 2

    def test_only_names_of_options_are_respelled(self, ov2kit, tmp_path):
        assert_one_error_line(
            ov2kit("compare", "a-b", f"{tmp_path}/c-d", "--metric=e-f", status=2, cwd=tmp_path), "a-b"
        )
        done = ov2kit("tokenize", "--out", tmp_path / "o-o", "--", "--no-video.mp4", status=2, cwd=tmp_path)
        assert_one_error_line(done, "--no-video.mp4")

    @pytest.mark.parametrize(
        ("arguments", "raised"),
        [
            (["tokenize", "none.mp4", "--out", "o"], "VideoError"),
            (["report", "none.mp4"], "VideoError"),
            (["fit", "--config", "nine.yaml"], "ArgumentError"),
            (["tokenise"], "OptionError"),
        ],
    )
    def test_traceback_at_any_place_shows_what_one_line_hides(self, ov2kit, tmp_path, arguments, raised):
        plain = ov2kit(*arguments, status=2, cwd=tmp_path).stderr
        assert "Traceback" not in plain
        for place in range(len(arguments) + 1):
            shown = ov2kit(*arguments[:place], "--traceback", *arguments[place:], status=2).stderr
            assert "Traceback (most recent call last)" in shown
            assert raised in shown
            assert shown.endswith(plain)

    def test_a_missing_extra_is_one_line_that_names_it(self, tmp_path):
        code = """
            import sys

            class Missing:
                def find_spec(self, name, *rest):
                    if name.split(".")[0] in ("lightning", "transformers", "torchmetrics"):
                        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

            sys.meta_path.insert(0, Missing())
            from ov2kit.cli import run

            for arguments in (["--help"], ["fit", "--help"], ["demo", "--help"]):
                try:
                    assert run(arguments) == 0
                except SystemExit as end:
                    assert end.code == 0
            print("none is needed for help", file=sys.stderr)
            assert run(["fit", "--config", "debug.yaml"]) == 2
            assert run(["evaluate", "--model", ".", "--data", ".", "--out", "o"]) == 2
            assert run(["demo", "--out", "demo"]) == 0
        """
        done = python(textwrap.dedent(code), tmp_path)
        assert done.returncode == 0, done.stderr
        help_needs, *errors = done.stderr.strip().splitlines()
        assert help_needs == "none is needed for help"
        remedy = "which is not installed; run: pip install 'ov2kit[recipes]'"
        assert errors == [
            f"error: 'ov2kit fit' needs lightning, {remedy}",
            f"error: ov2kit.recipes.metrics needs torchmetrics, {remedy}",
        ]
        assert done.stdout.strip().splitlines()[-1].endswith(remedy)
        assert (tmp_path / "demo" / "report.html").exists()
