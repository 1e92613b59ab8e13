"""What people see of an answer: every turn, nothing that runs, nothing from the network."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.inference.model import Answer, Emotion
from emofuse.inference.pages import as_html, as_text

EVIL = '<script>alert("1")</script>&\' onload="x"'
CLASSES = ("neutral", "happy", "sad")


def answer(*texts: str | None, speaker: str | None = "Ann", remark: str | None = None) -> Answer:
    turns = tuple(
        Emotion(speaker, text, "happy", {"neutral": 0.25, "happy": 0.5, "sad": 0.25}, ("no sound",)) for text in texts
    )
    return Answer("hcam", remark, turns)


class Tags(HTMLParser):
    """The tags, their attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))))
def test_no_text_becomes_markup(text: str) -> None:
    page = Tags(as_html(answer(text + EVIL, speaker=text + EVIL, remark=EVIL), EVIL))
    assert "script" not in page.tags
    assert "onload" not in page.attributes
    assert text + EVIL in page.text


def test_a_page_has_every_turn_and_class_and_asks_for_nothing() -> None:
    page = as_html(answer("You are late.", None), "demo/hcam")
    assert page.count('<li class="turn') == 2
    for each in (*CLASSES, "You are late.", "no words", "no sound", "demo/hcam", "happy 50 %"):
        assert each in page
    assert not re.search(r"src=|href=|url\(|@import|https?:", page)
    assert [tag for tag in Tags(page).tags if tag not in ("meta",)].count("li") == 2 + len(CLASSES)


def test_speakers_take_sides() -> None:
    turns = [answer("a").turns[0], answer("b", speaker="Ben").turns[0], answer("c").turns[0]]
    page = as_html(Answer("hcam", None, tuple(turns)), "m")
    assert re.findall(r'<li class="turn( other)?"', page) == ["", " other", ""]


@pytest.mark.parametrize("text", ["You are late.", None])
def test_lines_have_the_probabilities(text: str | None) -> None:
    lines = as_text(answer(text, remark="no sound: ..."), "demo/hcam").splitlines()
    assert lines[:3] == ["demo/hcam", "no sound: ...", ""]
    said = f"{text} (no sound)" if text else "(no sound)"
    assert lines[3].split(maxsplit=4) == ["1", "Ann", "happy", "0.50", f"neutral 0.25, sad 0.25  {said}"]
    assert json.dumps(lines)
