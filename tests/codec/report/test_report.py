"""The report is whole, honest about its numbers, safe against what files contain, and looks right in a browser."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ov2kit import Canvases
from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.saving import save_assets
from ov2kit.codec.grouping.bitcost import BitCostGrouping
from ov2kit.codec.report.charts import Plot, clock_text, time_ticks
from ov2kit.codec.report.facts import Facts, text_rows
from ov2kit.codec.report.overlays import heat_layer, spotlight
from ov2kit.codec.report.page import _script_json, write_report
from ov2kit.codec.selection.blocks import SaliencyBlockSelector
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.tokenizers.codec import CodecTokenizer
from ov2kit.errors import CanvasError, OutputError, VideoError
from tests.paths import SAMPLE
from tests.patience import PATIENCE

CLIP = SAMPLE
SECTIONS = [
    "Bit cost and groups", "Frames looked at", "Tokens against uniform frames", "Canvases",
    "Where the chosen blocks lie", "Source frames", "Seconds per stage", "Provenance",
]  # fmt: skip


@pytest.fixture(scope="module")
def stream() -> VideoStream:
    return VideoStream(CLIP)


@pytest.fixture(scope="module")
def canvases(stream) -> Canvases:
    """The bundled clip in groups by bit cost, blocks by plain luma difference; 4 canvases a group."""
    table = stream.packets
    columns = [
        torch.from_numpy(table.frame_seconds),
        *(torch.from_numpy(table.display(n)) for n in ("nbytes", "is_key")),
    ]
    trace = BitCostGrouping(4, min_seconds=1.0, max_seconds=2.0).explain(*columns, max_groups=4)
    frames = list(stream.frames(range(0, stream.num_frames, 3), size=(196, 336), luma_size=(70, 120)))
    luma = torch.stack([frame.luma for frame in frames]).float()
    moved = torch.cat([luma[:1] * 0, luma.diff(dim=0).abs()])
    scores = moved.reshape(len(frames), 7, 10, 12, 10).sum((2, 4))
    groups = []
    for start, end in trace.seconds().tolist():
        mine = [i for i, frame in enumerate(frames) if start <= frame.seconds < end]
        blocks = SaliencyBlockSelector(3)(scores[mine], 84)
        pixels = torch.stack([frames[i].rgb for i in mine])
        groups.append(CanvasPacker()(pixels, torch.tensor([frames[i].index for i in mine]), 0, blocks))
    images, positions, is_anchor = (torch.cat(parts) for parts in zip(*groups, strict=True))
    return Canvases(
        images=images,
        positions=positions,
        groups=torch.arange(len(groups), dtype=torch.int32).repeat_interleave(
            torch.tensor([len(g[0]) for g in groups])
        ),
        is_anchor=is_anchor,
        frame_times={frame.index: frame.seconds for frame in frames},
        signal="luma",
        fps=stream.fps,
        provenance={
            "preset": "paper",
            "codec": "h264",
            "signal": {"used": "luma"},
            "groups": [{"seconds": span} for span in trace.seconds().tolist()],
            "bit_cost": {
                "bin_seconds": trace.bin_seconds,
                "energy": trace.energy.tolist(),
                "triggers": list(trace.triggers),
                "cuts": list(trace.cuts),
            },
            "lost": {"failed_packets": 0, "missing_frames": 0, "cut": False},
            "seconds": {"packets": 0.01, "decode": 0.2, "score": 0.05},
            "versions": {"ov2kit": "0.1.0"},
        },
    ).validate()


@pytest.fixture(scope="module")
def page(tmp_path_factory, stream, canvases) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "page.html", stream, canvases)


class Reader(html.parser.HTMLParser):
    """Elements with attributes and text; complains about tags that do not match."""

    VOID = frozenset({"meta", "img", "input", "br", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.found if name == tag]


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def block_data(path: Path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="blocks">(.*?)</script>', path.read_text())[1])


# --- the page


def test_page_has_every_part(page, canvases):
    found = read(page)
    assert found.texts["h2"] == SECTIONS
    assert found.texts["h1"] == ["bbb_360p.mp4"]
    assert found.texts["title"][0] == "bbb_360p.mp4"
    figures = [a["data-canvas"] for a in found.all("figure") if "data-canvas" in a]
    assert figures == [str(k) for k in range(len(canvases))]
    text = page.read_text()
    assert 'class="trigger' in text.replace("dot trigger", "trigger")
    assert text.count('class="cut"') == 1
    assert text.count('class="band') == 2 * len(canvases.segments().lengths)
    assert "No network" not in text
    assert page.stat().st_size < 3_000_000


def test_page_needs_nothing_but_itself(page):
    text = page.read_text()
    found = read(page)
    assert not {"link", "iframe", "object", "embed", "video", "base"} & {name for name, _ in found.found}
    sources = [attrs["src"] for _, attrs in found.found if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not any("href" in attrs or "srcset" in attrs for _, attrs in found.found)
    assert re.findall(r"https?://[^\s\"'<]+", text) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:")


def test_blocks_on_the_page_are_the_positions(page, canvases):
    """What a touch on a block shows is rebuilt from the page and compared with the canvases."""
    data = block_data(page)
    rows, columns = data["rows"], data["columns"]
    rebuilt = np.full((len(canvases), rows * columns, 3), -1)
    for k, canvas in enumerate(data["canvases"]):
        for frame, first, *sources in canvas["runs"]:
            for i, source in enumerate(sources):
                rebuilt[k, first + i] = frame, source // columns, source % columns
    corner = canvases.positions[:, ::2, ::2].numpy().reshape(len(canvases), -1, 3).astype(int)
    corner[..., 1:] = np.where(corner[..., 1:] >= 0, corner[..., 1:] // 2, -1)
    np.testing.assert_array_equal(rebuilt, corner)
    assert [canvas["group"] for canvas in data["canvases"]] == canvases.groups.tolist()
    assert {int(f): t for f, t in data["times"].items()} == {
        frame: pytest.approx(canvases.frame_times[frame], abs=1e-4) for frame in set(corner[..., 0].ravel()) - {-1}
    }


def test_pictures_are_the_canvases(page, canvases):
    sources = [a["src"] for a in read(page).all("img") if a["alt"].startswith("canvas")]
    assert len(sources) == len(canvases)
    for source, image in zip(sources, canvases.images, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB")
        assert shown.size == (336, 196)
        assert np.abs(np.asarray(shown).astype(int) - image.permute(1, 2, 0).numpy()).mean() < 8


def test_source_frames_are_decoded_and_outlined(page, canvases, stream):
    """Each outlined frame shows that frame of the video, with as many squares as it gave blocks."""
    text = page.read_text()
    figures = re.findall(r'<img src="data:[^,]+,([^"]+)"[^>]*alt="frame (\d+)">(<svg.*?</svg>)', text)
    assert 4 <= len(figures) <= 8
    moving = canvases.positions[~canvases.is_anchor][:, ::2, ::2, 0]
    decoded = {frame.index: frame.rgb for frame in stream.frames([int(i) for _, i, _ in figures], size=(196, 336))}
    for data, index, svg in figures:
        outline = re.search(r'class="outline" d="([^"]*)"', svg)[1]
        assert outline.count("M") == int((moving == int(index)).sum()) > 0
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        assert np.abs(shown - decoded[int(index)].permute(1, 2, 0).numpy()).mean() < 8


def test_hostile_texts_stay_texts(tmp_path, stream, canvases):
    evil = '</script><script>alert(1)</script><img src="http://evil/x">"\'&\udcff'
    poisoned = replace(
        canvases,
        signal=evil,
        provenance={
            "preset": evil,
            evil: evil,
            "seconds": {evil: 1.0},
            "lost": {"cut": True},
            "versions": {evil: evil},
        },
    )
    path = write_report(tmp_path / "page.html", stream, poisoned, title=evil)
    found = read(path)
    assert len(found.all("script")) == 2
    assert all(a["src"].startswith("data:") for a in found.all("img"))
    assert "alert(1)" in found.texts["h1"][0]  # shown, not run
    assert "the file ends early" in path.read_text()


def test_data_cannot_end_its_script_element():
    text = _script_json({"name": "</script><b>"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><b>"}


def test_lists_and_odd_records_do_not_break_the_page(tmp_path, stream, canvases):
    odd = {"groups": "none", "bit_cost": [1], "seconds": ["a"], "lost": 3, "options": None, "long": list(range(99))}
    path = write_report(tmp_path / "page.html", stream, replace(canvases, provenance=odd))
    assert "(99 in all)" in path.read_text()
    bare = write_report(tmp_path / "bare.html", stream, replace(canvases, provenance={}))
    assert read(bare).texts["h2"] == [s for s in SECTIONS if s not in ("Seconds per stage", "Provenance")]


def test_whole_frames_need_no_heat_map(tmp_path, stream, canvases):
    whole = canvases.is_anchor
    frames = replace(
        canvases, images=canvases.images[whole], positions=canvases.positions[whole], groups=canvases.groups[whole],
        is_anchor=whole[whole], clips=None, signal="none",
    )  # fmt: skip
    headings = read(write_report(tmp_path / "page.html", stream, frames)).texts["h2"]
    assert "Where the chosen blocks lie" not in headings
    assert "Canvases" in headings


def test_noise_keeps_the_page_light(tmp_path, stream, canvases):
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (32, 3, 280, 504), dtype=np.uint8))
    grid = torch.stack(torch.meshgrid(torch.arange(20), torch.arange(36), indexing="ij"), -1)
    positions = torch.cat([torch.arange(32)[:, None, None, None].expand(32, 20, 36, 1), grid.expand(32, 20, 36, 2)], -1)
    frames = Canvases(
        noise, positions.int(), torch.arange(32, dtype=torch.int32) // 4, torch.ones(32, dtype=torch.bool),
        {i: i / 25 for i in range(32)},
    )  # fmt: skip
    assert write_report(tmp_path / "page.html", stream, frames).stat().st_size < 3_000_000


@pytest.mark.parametrize("preset", ["paper", "release", "event"])
def test_page_of_the_tokenizer_itself(tmp_path, stream, preset):
    """What the tokenizer records is what the page shows, also after a trip through a directory of assets."""
    made = CodecTokenizer(8, preset=preset)(stream)
    path = write_report(tmp_path / "page.html", stream, made)
    found = read(path)
    assert found.texts["h2"] == SECTIONS
    facts = Facts(made, stream.packets)
    assert len(facts.group_spans) == len(made.provenance["groups"])
    assert bool(facts.bit_cost.triggers) == (preset != "release")
    assert f"preset {preset}" in path.read_text()
    loaded = load_assets(save_assets(made, tmp_path / "assets"))
    assert write_report(tmp_path / "again.html", stream, loaded).read_text() == path.read_text()


# --- what it refuses, and what it leaves behind


def test_refuses(tmp_path, stream, canvases):
    with pytest.raises(CanvasError, match="one clip"):
        write_report(tmp_path / "a.html", stream, Canvases.cat([canvases, canvases]))
    times = canvases.frame_times | {500: 20.0}
    positions = canvases.positions.clone()
    positions[..., 0] = torch.where(positions[..., 0] == positions[..., 0].max(), 500, positions[..., 0])
    with pytest.raises(CanvasError, match="show frame 500, the video has 132"):
        write_report(tmp_path / "a.html", stream, replace(canvases, positions=positions, frame_times=times))
    with pytest.raises(VideoError):
        write_report(tmp_path / "a.html", tmp_path / "missing.mp4", canvases)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="got a folder"):
        write_report(tmp_path / "folder", stream, canvases)
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "file" / "page.html", stream, canvases)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_interrupted_write_leaves_the_old_page(tmp_path, stream, canvases, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_report(path, stream, canvases)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"


def test_same_input_gives_the_same_page(tmp_path, stream, canvases, page):
    assert write_report(tmp_path / "again.html", CLIP, canvases, title="bbb_360p.mp4").read_text() == page.read_text()


# --- the numbers


def test_counts_against_loops(stream, canvases):
    facts = Facts(canvases, stream.packets)
    moving, whole, heat = {}, {}, np.zeros((7, 12), int)
    for k in range(len(canvases)):
        for row in range(0, 14, 2):
            for column in range(0, 24, 2):
                frame, y, x = canvases.positions[k, row, column].tolist()
                if frame < 0:
                    continue
                kind = whole if canvases.is_anchor[k] else moving
                kind[frame] = kind.get(frame, 0) + 1
                if kind is moving:
                    heat[y // 2, x // 2] += 1
    assert facts.frames.tolist() == sorted(set(moving) | set(whole))
    assert facts.tokens_of_frame[0].tolist() == [moving.get(f, 0) for f in facts.frames.tolist()]
    assert facts.tokens_of_frame[1].tolist() == [whole.get(f, 0) for f in facts.frames.tolist()]
    np.testing.assert_array_equal(facts.heat(), heat)
    np.testing.assert_array_equal(sum(facts.heat(g) for g in facts.group_ids), heat)
    edges, part, full = facts.tokens_over_time(10)
    assert len(edges) == 11
    assert part.sum() + full.sum() == canvases.num_tokens


def test_uniform_frames_cost_as_much(stream, canvases):
    facts = Facts(canvases, stream.packets)
    spent = len(facts.uniform.frames) * facts.uniform.tokens_per_frame
    assert canvases.num_tokens - facts.uniform.tokens_per_frame < spent <= canvases.num_tokens
    assert facts.uniform.frames[0] == 0
    assert facts.uniform.frames[-1] == stream.num_frames - 1
    assert facts.longest_gap(np.array([1.0, 4.0])) == pytest.approx(3.0)
    assert facts.longest_gap(np.array([0.0, 1.0])) == pytest.approx(facts.duration - 1.0)
    assert facts.byte_share(np.arange(stream.num_frames)) == 1.0


def test_bit_cost_as_told_or_counted(stream, canvases):
    told = Facts(canvases, stream.packets).bit_cost
    record = canvases.provenance["bit_cost"]
    assert told.energy.tolist() == record["energy"]
    assert told.cuts == [(cut + 1) * record["bin_seconds"] for cut in record["cuts"]]
    counted = Facts(replace(canvases, provenance={}), stream.packets).bit_cost
    table = stream.packets
    assert counted.energy.sum() == table.nbytes[~table.is_key].sum()
    assert counted.energy[0] == sum(
        n for n, s, key in zip(table.nbytes, table.seconds, table.is_key, strict=True) if s < 0.5 and not key
    )
    assert counted.triggers == []


def test_telling_frames_are_spread_and_gave_blocks(stream, canvases):
    facts = Facts(canvases, stream.packets)
    frames = facts.telling_frames(6)
    moving = dict(zip(facts.frames.tolist(), facts.tokens_of_frame[0].tolist(), strict=True))
    assert len(frames) == len(set(frames)) == 6
    assert frames == sorted(frames)
    assert min(moving[f] for f in frames) > 0
    assert max(moving, key=moving.get) in frames


# --- drawing


def test_plot_places_things_by_hand():
    plot = Plot(10.0, 4.0)
    plot.steps([0, 5, 10], [1.0, 4.0], "a")
    plot.sticks([2.5], "b", 0.0, 0.5)
    plot.dots([(10.0, 2.0)], "c")
    plot.bands([(2.0, 4.0)], ["<b>"])
    drawn = plot.html("label")
    assert 'd="M0.0 100.0L0.0 75.0H500.0L500.0 0.0H1000.0L1000.0 100.0H500.0L500.0 100.0H0.0Z"' in drawn
    assert 'class="b" d="M250.0 100.0V50.0"' in drawn
    assert 'class="dot c" d="M1000.0 50.0h0.01"' in drawn
    assert 'x="200.0" y="0" width="200.00"' in drawn
    assert "<title>&lt;b&gt;</title>" in drawn


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (59.5, "59.50 s"), (61.25, "1:01.2"), (-75, "-1:15.0"), (3600, "1:00:00"), (7384.6, "2:03:04")],
)
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


@pytest.mark.parametrize("duration", [0.02, 0.3, 5.28, 59, 3600, 100_000])
def test_ticks_are_few_and_inside(duration):
    ticks = time_ticks(duration)
    assert 1 <= len(ticks) <= 7
    assert ticks[0] == 0
    assert ticks[-1] <= duration + 1e-9


def test_layers_over_pictures():
    counts = np.array([[0, 1], [8, 4]])
    drawn = heat_layer(counts, 8)
    assert drawn.count("M") == 3
    assert "M0 1h1v1h-1z" in drawn.split('fill-opacity="0.92"')[1]
    lit = spotlight(np.array([[1, 0]]), (2, 3))
    assert 'd="M0 0H3V2H0zM0 1h1v1h-1z"' in lit


def test_text_rows():
    assert text_rows({"a": {"b": 1}, "c": [1, 2]}) == [("a.b", "1"), ("c", "[1, 2]")]
    assert text_rows({"n": list(range(20))})[0][1] == "0, 1, 2, 3, 4, 5 ... (20 in all)"


# --- in a browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.usefixtures("needs_browser")
PROBE = """<script>
const report = {};
report.width = innerWidth;
report.scroll = document.documentElement.scrollWidth;
report.requests = performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).length;
report.broken = [...document.images].filter((i) => !i.complete || i.naturalWidth === 0).length;
const picture = document.querySelectorAll("figure.canvas .picture")[1];
const box = picture.getBoundingClientRect();
const [x, y] = [box.left + 2.5 * box.width / 12, box.top + 1.5 * box.height / 7];
const at = {clientX: x, clientY: y, bubbles: true, pointerType: "mouse"};
picture.dispatchEvent(new PointerEvent("pointermove", at));
report.tip = document.getElementById("tip").textContent;
report.hidden = document.getElementById("tip").hidden;
report.marked = picture.querySelector(".same").getAttribute("d").split("M").length - 1;
picture.dispatchEvent(new PointerEvent("pointerleave", at));
report.gone = document.getElementById("tip").hidden;
document.getElementById("tint").click();
report.tints = document.querySelectorAll("canvas.tint").length;
picture.dispatchEvent(new PointerEvent("pointerdown", at));
picture.click();
report.large = document.getElementById("large").open;
report.scroll2 = document.documentElement.scrollWidth;
parent.postMessage(JSON.stringify(report), "*");
</script>"""
# A window cannot be as narrow as a phone, a frame in it can.
PHONE = """<!doctype html><title>nothing came</title>
<script>addEventListener("message", (event) => { document.title = event.data; });</script>
<iframe src="probed.html" style="border: 0; width: WIDTHpx; height: 800px"></iframe>"""


@pytest.fixture
def needs_browser():
    if BROWSER is None:
        pytest.skip("no Chromium (chromium, chromium-browser, google-chrome) on the path")


def chromium(tmp_path: Path, *options: str) -> str:
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *quiet]
    command += [f"--user-data-dir={tmp_path / 'profile'}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout


@browser
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_browser(tmp_path, page, canvases, width):
    (tmp_path / "probed.html").write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    phone = tmp_path / "phone.html"
    phone.write_text(PHONE.replace("WIDTH", str(width)))
    dom = chromium(tmp_path, "--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom", phone.as_uri())
    report = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]))
    assert report["width"] == width
    assert max(report["scroll"], report["scroll2"]) <= width  # nothing sticks out sideways
    assert report["requests"] == 0
    assert report["broken"] == 0
    frame, row, column = canvases.positions[1, 2, 4].tolist()  # block row 1, column 2 of canvas 1
    second = canvases.frame_times[frame]
    assert (
        report["tip"] == f"{second:.2f} s, frame {frame}, from row {row // 2 + 1} of 7, column {column // 2 + 1} of 12"
    )
    assert report["hidden"] is False
    assert report["marked"] == int((canvases.positions[1, ::2, ::2, 0] == frame).sum())
    assert report["gone"] is True
    assert report["tints"] == len(canvases)
    assert report["large"] is True


@browser
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_screenshots_show_the_page_light_and_dark(tmp_path, page, width):
    shots = {}
    for scheme, number in (("light", 1), ("dark", 0)):
        target = tmp_path / f"{scheme}.png"
        setting = f"--blink-settings=preferredColorScheme={number}"
        chromium(tmp_path, f"--window-size={width},1400", setting, f"--screenshot={target}", page.as_uri())
        shots[scheme] = np.asarray(Image.open(target).convert("RGB")).astype(float)
        assert shots[scheme].shape == (1400, width, 3)
        assert shots[scheme].std() > 12  # not blank
        assert len(np.unique(shots[scheme].reshape(-1, 3), axis=0)) > 100
    assert np.median(shots["light"]) > 200
    assert np.median(shots["dark"]) < 60
