"""Measured tables on the pages are what the stored results say."""

import json
import re

import pytest

from benchmarks._tables.markdown import MARKED, RESULTS, fill, read_tables, table
from benchmarks.tables import PAGES, TABLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_made_from_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert fill(text, TABLES) == text, "run: python -m benchmarks.tables"


def test_every_table_stands_on_one_page():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    names = [found[2] for text in texts for found in MARKED.finditer(text)]
    assert sorted(names) == sorted(TABLES)
    for text in texts:  # no marker that is spelled differently and so never filled
        assert len(re.findall("<!-- (?:end of )?table", text)) == 2 * len(MARKED.findall(text))


def test_a_changed_number_is_seen():
    page = "<!-- table: x -->\n\n| a |\n| --- |\n| 1.4 |\n\n<!-- end of table -->\n"
    assert fill(page, {"x": lambda: table(["a"], [["1.5"]])}) == page.replace("1.4", "1.5")


@pytest.mark.parametrize("gap", ["\n", "\n\n", ""], ids=["line", "blank line", "nothing"])
def test_an_empty_place_is_filled_and_nothing_behind_it_is_lost(gap):
    empty, full = (
        f"<!-- table: x -->{gap}<!-- end of table -->",
        "<!-- table: x -->\n\n| a |\n| --- |\n\n<!-- end of table -->",
    )
    assert fill(f"{empty}\n\nText.\n\n{empty}\n", {"x": lambda: table(["a"], [])}) == f"{full}\n\nText.\n\n{full}\n"


def test_a_table_without_an_end_is_an_error():
    page = "<!-- table: x -->\n\nText.\n\n<!-- table: x -->\n\n<!-- end of table -->\n"
    with pytest.raises(ValueError, match="2 tables begin and 1 end"):
        fill(page, {"x": lambda: ""})


def test_what_is_kept_says_when_and_on_which_commit():
    for kept in json.loads((RESULTS / "once.json").read_text(encoding="utf-8")).values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["measured"])
        assert kept["machine"]
        assert kept["command"]
        assert re.fullmatch("[0-9a-f]{7,}", kept["commit"])


def test_columns_that_share_a_name_belong_to_the_one_before():
    row = read_tables("bitcost.md")[0][0]
    assert (row["correlation, worst"], row["overlap, worst"]) == ("0.43", "0.46")
