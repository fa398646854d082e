"""Subtitles: files as they are found, and where a line stands between the pictures."""

import re

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.errors import DataError
from ov2kit.recipes import read_subtitles
from ov2kit.recipes.prompt.subtitles import Subtitle, interleave
from ov2kit.recipes.prompt.time_stamps import TimeRun, timestamp
from tests.clips import shared_clip
from tests.odd_streams import with_sound
from tests.recipes.prompt.conversations import CODEC, FRAMES, dots, processor, user, video
from tests.test_canvases import build

SRT = """1
00:00:00,500 --> 00:00:01,250
<i>Hello</i> &amp; welcome,
{\\an8}you two.

2
00:00:01,000 --> 00:01:02,5
- a < b

3
01:00:00,000 --> 01:00:01,000
Late.
"""
VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red --> none }

NOTE
00:01.000 --> 00:02.000 is no cue

intro
00:00.500 --> 00:01.250 line:90% align:start
<v Ann>Hello</v> <00:00:00.700><c.loud>&lt;there&gt;</c>

00:01:01.5 --> 00:01:02.000
Bye
"""


def file(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def test_srt(tmp_path):
    assert read_subtitles(file(tmp_path, "a.srt", SRT)) == [
        Subtitle("Hello & welcome, you two.", 0.5, 1.25),
        Subtitle("- a < b", 1.0, 62.5),
        Subtitle("Late.", 3600.0, 3601.0),
    ]


def test_vtt(tmp_path):
    assert read_subtitles(str(file(tmp_path, "a.VTT", VTT))) == [
        Subtitle("Hello <there>", 0.5, 1.25),
        Subtitle("Bye", 61.5, 62.0),
    ]


@pytest.mark.parametrize(("name", "text"), [("a.srt", SRT), ("a.vtt", VTT)])
@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r"),
    lambda text: "\ufeff" + text,
    lambda text: text.rstrip("\n"),
    lambda text: text + "\n\n\n",
])  # fmt: skip
def test_line_ends_and_marks_do_not_matter(tmp_path, name, text, change):
    assert read_subtitles(file(tmp_path, name, change(text))) == read_subtitles(file(tmp_path, f"b{name}", text))


def test_a_vtt_cue_may_follow_the_first_line(tmp_path):
    path = file(tmp_path, "a.vtt", "WEBVTT\n00:01.000 --> 00:02.000\nHi\n")
    assert read_subtitles(path) == [Subtitle("Hi", 1.0, 2.0)]


VTT_BLOCKS = [
    # as YouTube writes automatic captions: lines of one space stand within cues
    ("Kind: captions\nLanguage: en\n\n"
     "00:00:01.000 --> 00:00:02.000 align:start position:0%\n \nso<00:00:01.500><c> it</c>\n\n"
     "00:00:02.000 --> 00:00:02.010 align:start position:0%\nso it\n \n\n"
     "00:00:02.010 --> 00:00:04.000 align:start position:0%\nso it\nbegins<00:00:03.000><c> here</c>\n",
     [("so it", 1.0, 2.0), ("so it", 2.0, 2.01), ("so it begins here", 2.01, 4.0)]),
    ("\n00:01.000 --> 00:02.000\none\n\t\ntwo\n\u00a0\nthree", [("one two three", 1.0, 2.0)]),
    # a cue may have any name
    ("\nNOTEBOOK\n00:01.000 --> 00:02.000\nHi", [("Hi", 1.0, 2.0)]),
    ("\nSTYLEGUIDE 3\n00:01.000 --> 00:02.000\nHi", [("Hi", 1.0, 2.0)]),
    ("\nREGIONAL news\n00:01.000 --> 00:02.000\nHi", [("Hi", 1.0, 2.0)]),
    ("\n00:01.000 --> 00:02.000\nHi\n\nSTYLE\n00:03.000 --> 00:04.000\nlate", [("Hi", 1.0, 2.0), ("late", 3.0, 4.0)]),
    ("\nchapter\nNOTE\n00:01.000 --> 00:02.000\nHi", [("Hi", 1.0, 2.0)]),  # not the first word of its block
    # comments and sheets go to the next empty line, and no further
    ("\nNOTE one\n00:01.000 --> 00:02.000\ncut\n \nstill cut\n\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    ("\nNOTE\tone\nand on\n\nNOTE\n\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    ("\nREGION \nid:a\nwidth:40%\n\nSTYLE\n::cue { color: red }\n\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    ("NOTE in the header\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    # words that look like a comment are words
    ("\n00:01.000 --> 00:02.000\nNOTE this\nSTYLE", [("NOTE this STYLE", 1.0, 2.0)]),
    # cues without words, with and without an empty line after them
    ("\n00:01.000 --> 00:02.000\n\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    ("\n00:01.000 --> 00:02.000\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    ("\n00:01.000 --> 00:02.000\n \n<i></i>\n\n00:03.000 --> 00:04.000\nHi", [("Hi", 3.0, 4.0)]),
    ("\n00:01.000 --> 00:02.000", []),
    # times with and without hours, more than two digits of them, settings after them, no spaces around the arrow
    ("\n100:00:01.000-->100:00:02.500\tline:0 vertical:rl\nHi", [("Hi", 360001.0, 360002.5)]),
    # an arrow begins a cue wherever it stands
    ("\n00:01.000 --> 00:02.000\none\n00:03.000 --> 00:04.000\ntwo", [("one", 1.0, 2.0), ("two", 3.0, 4.0)]),
    # tags, over two lines too, and character references
    ("\n00:01.000 --> 00:02.000\n<v.loud Ann\nLee>Hi</v> <lang en>you</lang> &amp;&lt;i&gt;&nbsp;&lrm;2 &#62; 1 < 3",
     [("Hi you &<i> \u200e2 > 1 < 3", 1.0, 2.0)]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "cues"), VTT_BLOCKS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blocks_of_a_vtt_file(tmp_path, body, cues, end):
    path = file(tmp_path, "a.vtt", f"\ufeffWEBVTT\n{body}\n".replace("\n", end))
    assert read_subtitles(path) == [Subtitle(*cue) for cue in cues]


@pytest.mark.parametrize("first", ["WEBVTT", "WEBVTT ", "WEBVTT\ta title"])
def test_the_first_line_of_a_vtt_file(tmp_path, first):
    assert len(read_subtitles(file(tmp_path, "a.vtt", f"{first}\n\n00:01.000 --> 00:02.000\nHi"))) == 1


SRT_HABITS = [
    ("1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:03.5 --> 00:00:04.25\nHi", [("Hi", 3.5, 4.25)]),
    ("1\n00:00:01,000 --> 00:00:02,000\n2\n00:00:03,000 --> 00:00:04,000\nHi", [("Hi", 3.0, 4.0)]),
    ("00:00:01,000 --> 00:00:02,000\n00:00:03,000 --> 00:00:04,000\nHi", [("Hi", 3.0, 4.0)]),
    ("1\n00:00:01,000 --> 00:00:02,000\n \nHi\n\n \n2\n0:0:3 --> 0:0:4\n42", [("Hi", 1.0, 2.0), ("42", 3.0, 4.0)]),
    ("1\n00:00:01,000 --> 00:00:02,000\nNOTE this\n\nSTYLE", [("NOTE this STYLE", 1.0, 2.0)]),
    ("1 \n 00:00:01,000  -->  00:00:02,000  X1:40 X2:600\n<font color=red>Hi</font>", [("Hi", 1.0, 2.0)]),
]


@pytest.mark.parametrize(("text", "cues"), SRT_HABITS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_habits_of_srt_files(tmp_path, text, cues, end):
    path = file(tmp_path, "a.srt", text.replace("\n", end))
    assert read_subtitles(path) == [Subtitle(*cue) for cue in cues]


def test_srt_habits_that_players_accept(tmp_path):
    text = (
        "00:00:01,000 --> 00:00:02,000\nNo number,\n\nbut a blank line\n\n\n7\n0:00:00.5 --> 0:00:00.90 X1:3\nEarly\n"
    )
    text += "\n9\n00:00:03,000 --> 00:00:04,000\n\n"
    assert read_subtitles(file(tmp_path, "a.srt", text)) == [
        Subtitle("Early", 0.5, 0.9),
        Subtitle("No number, but a blank line", 1.0, 2.0),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.srt", "", r"no subtitle in it"),
        ("a.srt", "Hello\n", r"line 1: expected a number or times with -->, got 'Hello'"),
        ("a.srt", "1\n00:00:01 -> 00:00:02\nHi\n", r"line 2: expected a number or times"),
        ("a.srt", "1\n00:00:01,0 --> soon\nHi\n", r"line 2: cannot read the times in '00:00:01,0 --> soon'"),
        ("a.srt", "1\n00:00:01,0 -->\nHi\n", r"line 2: cannot read the times"),
        ("a.srt", "1\n00:99:01,0 --> 01:00:00,0\nHi\n", r"line 2: cannot read the times"),
        ("a.srt", "1\n\n2\n00:00:03,0 --> 00:00:02,0\nHi\n", r"line 4: subtitle 'Hi': ends at 2.0 s, before its start"),
        ("a.srt", "00:01,0 --> 00:02,0\nHi\n00:03,0 --> 00:04,0\nHo", r"line 3: .* that of line 1 has ended"),
        ("a.vtt", "00:01.000 --> 00:02.000\nHi\n", r"line 1: a vtt file begins with WEBVTT, got '00:01.000"),
        ("a.vtt", "WEBVTT\n\nNOTE nothing\n", r"no subtitle in it"),
        ("a.vtt", "WEBVTTfile\n\n00:01.000 --> 00:02.000\nHi\n", r"line 1: a vtt file begins with WEBVTT"),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\ngo --> there\n", r"line 4: cannot read the times in 'go -->"),
        ("a.txt", "Hi", r"expected a subtitle file .srt or .vtt"),
    ],
)  # fmt: skip
def test_broken_files_name_file_and_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_subtitles(file(tmp_path, name, text))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"gone.srt: no such file"):
        read_subtitles(tmp_path / "gone.srt")
    with pytest.raises(DataError, match=r"latin.srt: subtitles must be UTF-8; convert the file \(byte 3\d\)"):
        read_subtitles(file(tmp_path, "latin.srt", "1\n00:00:01,0 --> 00:00:02,0\ncaf\u00e9\n", "latin-1"))
    (tmp_path / "folder.srt").mkdir()
    with pytest.raises(DataError, match=r"folder.srt: expected a subtitle file, got a folder"):
        read_subtitles(tmp_path / "folder.srt")


def test_lists():
    given = [{"start": 2, "end": 3.5, "text": " two\nlines "}, Subtitle("first", 0.5), {"text": "none"}]
    assert read_subtitles(given) == [Subtitle("none"), Subtitle("first", 0.5), Subtitle("two lines", 2.0, 3.5)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"start": 1}], r"subtitle 0: expected a mapping with text, start and end"),
        ([{"text": "a"}, {"text": "b", "start": "1"}], r"subtitle 1: start must be a number of seconds, got '1'"),
        ([{"text": "a", "start": True}], r"start must be a number of seconds, got True"),
        ([{"text": "a", "start": -1}], r"'a': start must be seconds from 0 on, got -1"),
        ([{"text": "a", "start": float("nan")}], r"from 0 on, got nan"),
        ([{"text": "a", "start": 3, "end": 2}], r"ends at 2.0 s, before its start at 3.0 s"),
        (3, r"a path or a list .* got int"),
    ],
)
def test_broken_lists_name_the_entry(given, message):
    with pytest.raises(DataError, match=message):
        read_subtitles(given)


# --- in the prompt


def test_lines_stand_between_the_runs():
    lines = [
        {"start": 0.4, "end": 9, "text": "with a picture"},
        {"start": 0.41, "end": 0.5, "text": "overlaps"},
        {"start": 0.1, "end": 0.2, "text": "before"},
        {"start": 1.3, "end": 2, "text": "after"},
    ]
    text = processor(system=None).text([user(video(CODEC, subtitles=lines), "\nWhat?")])
    assert dots(text) == (
        "<|im_start|>user\n<0.1 seconds> before\n<0.3 seconds>[6]\n<0.4 seconds>[1]\n"
        "<0.4 seconds> with a picture\n<0.4 seconds> overlaps\n<0.7 seconds>[2]\n<1.2 seconds>[6]\n"
        "<1.3 seconds> after\nWhat?<|im_end|>\n"
    )
    two = dots(processor(system=None, decimals=2).text([user(video(CODEC, subtitles=lines[1:2]))]))
    assert "[1]\n<0.41 seconds> overlaps\n<0.70 seconds>[2]" in two


def test_lines_between_frames():
    lines = [{"start": 0.2, "end": 9, "text": "now"}, {"start": 0.6, "text": "late"}, {"text": "untimed"}]
    text = processor(system=None).text([user(video(FRAMES, subtitles=lines), "\nWhat?")])
    assert dots(text) == (
        "<|im_start|>user\nuntimed\n<0.0 seconds>[6]<0.2 seconds> now\n<0.5 seconds>[6]<0.6 seconds> late\n"
        "What?<|im_end|>\n"
    )


def test_lines_after_the_end_are_left_out_and_counted():
    lines = [{"start": 1.25, "text": "in time"}, {"start": 1.31, "text": "too late"}, {"text": "untimed"}]
    known = build([3, 12], provenance={"source": {"seconds": 1.3}})
    sample = processor()([user(video(known, subtitles=lines))])
    assert sample.stats["subtitles_dropped"] == 1
    text = processor().text([user(video(known, subtitles=lines))])
    assert "in time" in text
    assert "untimed" in text
    assert "too late" not in text
    assert "too late" in processor().text([user(video(CODEC, subtitles=lines))])  # its end is not known


def test_a_file_in_a_message(tmp_path):
    path = file(tmp_path, "a.srt", SRT)
    assert "<0.5 seconds> Hello & welcome, you two.\n" in processor().text([user(video(CODEC, subtitles=path))])
    with pytest.raises(DataError, match=r"message 0: .*gone.srt"):
        processor().text([user(video(CODEC, subtitles="gone.srt"))])
    joined = CODEC.cat([build([0]), build([1])])
    with pytest.raises(DataError, match=r"message 0: subtitles need one video"):
        processor().text([user(video(joined, subtitles=path))])


TIMES = st.integers(0, 40).map(lambda n: n / 8)


@settings(max_examples=200)
@given(st.lists(TIMES, max_size=6), st.lists(TIMES, max_size=6), st.one_of(st.none(), TIMES))
def test_where_a_line_stands(shown, said, end):
    runs = [TimeRun(1, t, timestamp(t)) for t in shown]
    subtitles = read_subtitles([{"start": t, "text": str(i)} for i, t in enumerate(said)])
    mixed, dropped = interleave(runs, subtitles, decimals=3, end_seconds=end)
    assert [item for item in mixed if isinstance(item, TimeRun)] == runs
    kept = [s for s in subtitles if end is None or s.start <= end]
    lines = [(i, item) for i, item in enumerate(mixed) if isinstance(item, str)]
    assert [line for _, line in lines] == [f"<{s.start:.3f} seconds> {s.text}\n" for s in kept]
    assert dropped == len(said) - len(kept)
    for (place, _), subtitle in zip(lines, kept, strict=True):
        later = [i for i, t in enumerate(shown) if t > subtitle.start]
        assert sum(isinstance(item, TimeRun) for item in mixed[:place]) == (later[0] if later else len(shown))


def test_subtitles_are_on_the_clock_of_the_file_and_stamps_on_that_of_the_picture(tmp_path):
    """Sound from 0 s, pictures from 3 s on: what is said at 4.0 s is said 1.0 s into the picture."""
    path = with_sound(tmp_path / "late.mkv", frames=100, late_ms=3000, sound_seconds=7)
    spoken = [{"start": s, "end": s + 0.2, "text": f"at {s}"} for s in (1.0, 4.0, 6.5)]
    part = {"type": "video", "video": str(path), "source": "frames", "subtitles": spoken}
    real = processor(source="frames")
    shown = real.text([{"role": "user", "content": [part]}])
    assert [
        shown.count(line) for line in ("<0.0 seconds> at 1.0\n", "<1.0 seconds> at 4.0\n", "<3.5 seconds> at 6.5")
    ] == [1] * 3


def test_subtitles_of_the_shared_file_whose_picture_is_late():
    """Its picture starts 3.023 s after its sound: 4.0 s of the file are 0.977 s of the picture, 8.5 s are 5.477 s."""
    path = shared_clip("odd/picture_late.mkv")
    with av.open(str(path)) as container:
        stamps = sorted(float(p.pts * p.time_base) for p in container.demux(container.streams.video[0]) if p.size)
        begins = (container.start_time or 0) / av.time_base
    assert stamps[0] - begins == pytest.approx(3.023, abs=1e-3)
    spoken = [{"start": s, "end": s + 0.2, "text": f"at {s}"} for s in (2.0, 4.0, 8.5)]
    part = {"type": "video", "video": str(path), "source": "frames", "subtitles": spoken}
    real = processor(source="frames", decimals=3)
    prompt = real.text([{"role": "user", "content": [part]}])
    times = {text: float(s) for s, text in re.findall(r"<([\d.]+) seconds> (at [\d.]+)\n", prompt)}
    assert times == pytest.approx({"at 2.0": 0.0, "at 4.0": 0.977, "at 8.5": 5.477}, abs=1e-3)
    # Between the pictures shown before it and those shown after it, by their own time stamps.
    shown = [stamps[index] - stamps[0] for index in sorted(real.frames(str(path)).frame_times)]
    for text, said in times.items():
        before = re.findall(r"<([\d.]+) seconds>(?! at )", prompt[: prompt.index(f" {text}\n")].rpartition("<")[0])
        assert [float(s) for s in before] == pytest.approx([s for s in shown if s <= said], abs=1e-3)
