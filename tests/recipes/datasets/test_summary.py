"""The page of a dataset: right counts, escaped names, nothing from elsewhere."""

import json
import re
from html.parser import HTMLParser

import pytest

from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.summary import write_summary

EVIL = "<script>alert(1)</script>&.mp4"


class Page(HTMLParser):
    """Tags, cells of tables and the names that bars have."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.bars, self._inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, text):
        if self._inside in ("td", "th", "br") and text.strip():
            self.rows[-1][-1] += text
        elif self._inside == "title":
            self.bars.append(text)


@pytest.fixture
def shards(tmp_path):
    """States of 300 finished, 8 failed and 2 copied videos, without their shards."""
    rows = [{"name": f"{n:03d}.mp4", "status": "ok", "tokens": 100 + n, "duration": 6.0, "offset": 0, "size": 0}
            for n in range(300)]  # fmt: skip
    rows += [{"name": f"f{n}", "status": "failed", "kind": "timeout", "reason": "slow"} for n in range(7)]
    rows += [{"name": EVIL, "status": "failed", "kind": "video", "reason": "no <b>video</b>"}]
    rows += [{"name": f"c{n}", "status": "duplicate", "duplicate_of": "000.mp4"} for n in range(2)]
    (tmp_path / "state").mkdir()
    for number, begin in enumerate(range(0, len(rows), 100)):
        mine = rows[begin : begin + 100]
        state = {
            "items": [[row["name"], ""] for row in mine], "rows": mine,
            "seconds": [{"decode": float(begin + place), "pack": 0.5} for place in range(len(mine))],
            "finished": [1_000_000_000.0 + 36.0 * (begin + place) for place in range(len(mine))],
        }  # fmt: skip
        (tmp_path / "state" / f"{number:06d}.json").write_text(json.dumps(state))
    (tmp_path / "shards").mkdir()
    for number in range(4):
        (tmp_path / "shards" / f"shard-{number:06d}.tar").write_bytes(bytes(1024))
    return ShardFolder(tmp_path)


def test_what_the_page_says(shards, tmp_path):
    assert write_summary(shards) == str(tmp_path / "summary.html")
    text = (tmp_path / "summary.html").read_text()
    page = Page(text)
    assert [row for row in page.rows if row[0] in ("ok", "failed", "duplicate")] == [
        ["duplicate", "2"], ["failed", "8"], ["ok", "300"],
    ]  # fmt: skip
    assert f"0.5 hours of video, {sum(range(100, 400))} tokens" in text
    assert ["timeout", "7", "".join(f"f{n}: slow" for n in range(5))] in page.rows
    assert ["video", "1", f"{EVIL}: no <b>video</b>"] in page.rows
    slow = [row for row in page.rows if len(row) == 3 and row[1].endswith(".mp4") and row[0].endswith(".50")]
    assert slow[0] == ["299.50", "299.mp4", "decode 299.00, pack 0.50"]
    assert len(slow) == 20
    rates = [int(match[1]) for each in page.bars if (match := re.search(r"(\d+) videos an hour", each))]
    assert all(90 <= rate <= 120 for rate in rates)  # one in 36 seconds; a bar holds 7 or 8
    counts = [int(match[1]) for each in page.bars if (match := re.search(r"tokens: (\d+) videos", each))]
    assert sum(counts) == 300


def test_the_page_brings_nothing_and_runs_nothing(shards, tmp_path):
    write_summary(shards)
    text = (tmp_path / "summary.html").read_text()
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [value for _, each in page.tags for name, value in each.items() if name in ("src", "href")]
    assert "default-src 'none'" in text


def test_a_dataset_in_which_all_failed_has_a_page(tmp_path):
    (tmp_path / "state").mkdir()
    row = {"name": "a", "status": "failed", "kind": "video", "reason": "x"}
    state = {"items": [["a", ""]], "rows": [row], "seconds": [{}], "finished": [0.0]}
    (tmp_path / "state" / "000000.json").write_text(json.dumps(state))
    write_summary(ShardFolder(tmp_path))
    assert "There is no video to count." in (tmp_path / "summary.html").read_text()
