"""A corpus's page of plots: whole in itself, the same bytes for the same corpus, whatever the corpus lacks."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from emofuse.core import schema
from emofuse.reporting.corpus_page import overview, write_overview
from emofuse.reporting.palette import MEANINGS

Browser = Any
"""The class of the fixture, in ``conftest.py``."""

ROW: dict[str, Any] = dict.fromkeys(schema.UTTERANCES.names) | {"dialogue_id": "d", "turn": 0, "defects": []}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    whole = [ROW | {"utterance_id": f"u{number}"} | row for number, row in enumerate(rows)]
    return pl.DataFrame(pa.Table.from_pylist(whole, schema.UTTERANCES))


def summary(splits: dict[str, dict[str, int]], *notes: str) -> dict[str, Any]:
    counts = {"utterances": 1_234, "dialogues": 5, "speakers": 2, "hours_of_audio": 1.5}
    return counts | {"splits": splits, "notes": list(notes)}


SPOKEN = table(
    *[{"dialogue_id": f"d{number}", "label": "joy", "split": "train", "n_samples": 16_000} for number in range(12)],
    {"label": "a < b & $c$", "split": "test", "text": "one two three", "start_s": 1.0, "end_s": 9.5},
    {"split": "test", "n_samples": 0, "defects": ["audio_empty", "text_empty"]},
    *[{"dialogue_id": "e", "turn": turn, "split": "dev", "defects": ["text_empty"]} for turn in range(11)],
)
SPLITS = {"dev": {"unlabelled": 11}, "test": {"a < b & $c$": 1, "unlabelled": 1}, "train": {"joy": 12}}


@pytest.fixture(scope="module")
def page() -> str:
    return overview("mine & yours", SPOKEN, summary(SPLITS, "one <b> note"))


def test_a_page_carries_everything_with_it(page: str) -> None:
    assert "<h1>mine &amp; yours</h1>" in page
    assert "1,234 utterances, 5 dialogues, 2 speakers, 1.50 hours of audio" in page
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)", page)
    assert set(re.findall(r"""(?:href|src)="([^#"][^"]*)""", page)) == set()
    assert not re.search(r"20\d\d-\d\d", page)


def test_what_a_corpus_names_is_text_and_no_markup(page: str) -> None:
    assert "<li>one &lt;b&gt; note</li>" in page
    assert "<td>a &lt; b &amp; $c$</td>" in page
    assert page.count("a &lt; b &amp; $c$</text>") == 1


def test_defects_are_counted_by_kind_with_the_first_utterances(page: str) -> None:
    first = ", ".join(f"u{number}" for number in range(13, 23))
    assert f'<tr><td>text_empty</td><td>12</td><td class="text">{first} …</td></tr>' in page
    assert '<tr><td>audio_empty</td><td>1</td><td class="text">u13</td></tr>' in page


def test_each_figure_is_there(page: str) -> None:
    assert page.count("<svg") == 4
    for title in ("Labels by split", "Lengths", "Counts", "Defects"):
        assert page.count(f"<h2>{title}</h2>") == 1
    assert "utterances; median 1 (line), longest 8.5" in page
    assert "dialogues; median 1 (line), longest 11" in page
    assert "utterances; median 3 (line), longest 3" in page


def test_shares_of_a_label_are_of_the_split(page: str) -> None:
    assert ">train 100.0 %, 12</text>" in page
    assert ">test 50.0 %, 1</text>" in page
    assert f"--hue:{MEANINGS['joy']}" in page


def test_twice_the_same_bytes(page: str, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    SPOKEN.write_parquet(tmp_path / "corpus" / "utterances.parquet")
    (tmp_path / "summary.json").write_text(json.dumps(summary(SPLITS, "one <b> note")))
    write_overview("mine & yours", tmp_path / "corpus", tmp_path / "summary.json", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page


def test_a_corpus_of_sentiments_and_one_of_nothing() -> None:
    rows = [{"sentiment": value / 2, "split": ("train", "test")[value % 2]} for value in range(-6, 7)]
    shown = overview("mosi", table(*rows), summary({"train": {"unlabelled": 7}, "test": {"unlabelled": 6}}))
    assert "<h2>Sentiment by split</h2>" in shown
    assert ">train, 7</text>" in shown
    bare = overview("bare", table({}), summary({"none": {"unlabelled": 1}}))
    assert "<p>No labels or sentiments.</p>" in bare
    assert bare.count(">unknown</p>") == 2
    assert "<p>None.</p>" in bare


def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(browser: Browser, page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page)
    browser.check_fits(tmp_path / "page.html")
    browser.show(tmp_path / "page.html", 360, phone=True)
    words = "[...document.querySelectorAll('svg text')]"
    outside = f"{words}.filter(each => each.getBoundingClientRect().right > innerWidth)"
    assert browser.run(f"{outside}.map(each => each.textContent)") == []
