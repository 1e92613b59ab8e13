"""What people see of an answer: every turn, nothing that runs but the player, nothing from the network."""

import base64
import csv
import io
import json
import re
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from emofuse.audio.sound import Sound
from emofuse.inference.conversation import ConversationError
from emofuse.inference.model import Prediction, TurnPrediction
from emofuse.inference.outputs import as_csv, as_srt, as_text, clock
from emofuse.inference.pages import as_html
from emofuse.reporting.palette import MEANINGS

EVIL = '<script>alert("1")</script>&\' onload="x"'
CLASSES = ("neutral", "happy", "sad")
SHARES = {"neutral": 0.25, "happy": 0.5, "sad": 0.25}
TRAINED = "trained on demo"
SECONDS = 8


def prediction(*texts: str | None, speaker: str | None = "Ann", remark: str | None = None) -> Prediction:
    turns = tuple(TurnPrediction(speaker, text, "happy", SHARES, ("no sound",)) for text in texts)
    return Prediction("hcam", remark, turns, trained_on=TRAINED)


def timed(*turns: TurnPrediction) -> Prediction:
    usual = (
        TurnPrediction("Ann", "You are late.", "happy", SHARES, (), 1.0, 2.5, "talk.wav"),
        TurnPrediction("Ben", None, None, {}, ("nothing to hear",), 5.25, 7.0, "talk.wav"),
    )
    return Prediction("hcam", None, turns or usual, "talk.wav", ("one speaker",), TRAINED)


@pytest.fixture(scope="module")
def sound() -> Sound:
    samples = 0.5 * np.sin(np.arange(SECONDS * 16_000) / 20) * np.linspace(0, 1, SECONDS * 16_000)
    return Sound("talk.wav", samples[None].astype(np.float32), 16_000)


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
    page = Tags(as_html([prediction(text + EVIL, speaker=text + EVIL, remark=EVIL)], EVIL))
    assert "script" not in page.tags
    assert "onload" not in page.attributes
    assert text + EVIL in page.text


def test_no_name_of_a_recording_becomes_markup(sound: Sound) -> None:
    shown = Prediction(
        "hcam", None, (TurnPrediction(EVIL, EVIL, "happy", SHARES, (EVIL,), 1.0, 2.0, EVIL),), EVIL, (EVIL,), EVIL
    )
    page = Tags(as_html([shown], EVIL, [sound], [Path(EVIL)]))
    assert page.tags.count("script") == 1
    assert "onload" not in page.attributes


def test_a_page_has_every_turn_and_class_and_asks_for_nothing(sound: Sound) -> None:
    page = as_html([prediction("You are late.", None)], "demo/hcam")
    assert page.count('<li class="turn"') == 2
    shown = (*CLASSES, "You are late.", "no words", "no sound", "demo/hcam", "happy 50 %", TRAINED, MEANINGS["joy"])
    for each in shown:
        assert each in page
    for whole in (page, as_html([timed()], "demo/hcam", [sound])):
        assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|https?:""", whole)


def test_a_page_carries_the_sound_to_the_sample_or_links_it(sound: Sound) -> None:
    page = as_html([timed()], "demo/hcam", [sound])
    (found,) = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(found)), dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(samples, sound.samples[0], atol=2**-15)
    linked = as_html([timed()], "demo/hcam", [sound], [Path("talks/my talk #1.wav")])
    assert 'src="talks/my%20talk%20%231.wav"' in linked
    assert "base64" not in linked


def test_a_long_recording_is_put_into_a_page_piece_by_piece(sound: Sound) -> None:
    long = Sound("talk.wav", np.zeros((1, 300 * 16_000), np.float32), 16_000)
    as_html([timed()], "demo/hcam", [sound])  # what is loaded once does not count
    tracemalloc.start()
    try:
        as_html([timed()], "demo/hcam", [long])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1.5 * long.samples.nbytes


def test_a_timeline_has_a_lane_a_speaker_and_the_turns_where_they_are(sound: Sound) -> None:
    page = as_html([timed()], "demo/hcam", [sound])
    assert re.findall(r'<div class="lane"><span>(\w+)</span>', page) == ["Ann", "Ben"]
    places = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", page)
    assert [(float(left), float(width)) for left, width in places] == [(12.5, 18.75), (65.625, 21.875)]
    assert "no emotion" in page


@pytest.mark.parametrize("text", ["You are late.", None])
def test_lines_have_the_probabilities(text: str | None) -> None:
    lines = as_text([prediction(text, remark="no sound: ...")], "demo/hcam").splitlines()
    assert lines[:4] == ["demo/hcam", TRAINED, "no sound: ...", ""]
    shown = f"{text} (no sound)" if text else "(no sound)"
    assert lines[4].split(maxsplit=4) == ["1", "Ann", "happy", "0.50", f"neutral 0.25, sad 0.25  {shown}"]
    assert json.dumps(lines)


def test_lines_of_a_recording_have_times_and_those_of_several_its_name() -> None:
    lines = as_text([timed()], "demo/hcam").splitlines()
    assert lines[:4] == ["demo/hcam", TRAINED, "one speaker", ""]
    assert lines[4].split()[:5] == ["1", "0:01.0-0:02.5", "Ann", "happy", "0.50"]
    assert lines[5].split(maxsplit=4) == ["2", "0:05.2-0:07.0", "Ben", "–", "(nothing to hear)"]
    first = ["demo/hcam", "", "talk.wav:", TRAINED, "one speaker", "", *lines[4:]]
    assert as_text([timed()], "demo/hcam", several=True).splitlines() == first
    both = as_text([timed(), timed()], "demo/hcam", several=True).splitlines()
    assert both == [*first, "", "talk.wav:", "one speaker", "", *lines[4:]]


def test_each_of_several_has_the_score_of_the_network_that_answered() -> None:
    other = replace(timed(), model="text-context", trained_on="trained on demo, text alone")
    lines = as_text([timed(), timed(), other], "demo/hcam", several=True).splitlines()
    told = [line for line in lines if line.startswith("trained on")]
    assert told == [TRAINED, other.trained_on]
    assert lines[lines.index(other.trained_on) - 1] == "talk.wav:"
    page = Tags(as_html([timed(), timed(), other], "demo/hcam")).text
    assert page.count(TRAINED) == 2
    assert page.count(other.trained_on) == 1


def test_turns_of_different_files_name_them() -> None:
    turns = [TurnPrediction("Ann", "Hello.", "happy", SHARES, (), source=name) for name in ("01.wav", "2 & 3.wav")]
    apart = Prediction("hcam", None, tuple(turns), "talk", (), TRAINED)
    lines = as_text([apart], "demo/hcam").splitlines()
    assert [re.split(" {2,}", line)[1:3] for line in lines[-2:]] == [["01.wav", "Ann"], ["2 & 3.wav", "Ann"]]
    page = Tags(as_html([apart], "demo/hcam"))
    for turn in turns:
        assert str(turn.source) in page.text
    # Of one recording the heading has the name already.
    assert "talk.wav" not in as_text([timed()], "demo/hcam")
    assert Tags(as_html([timed()], "demo/hcam")).text.count("talk.wav") == 2


def test_a_table_has_a_row_a_turn() -> None:
    first = TurnPrediction("Ann", 'Late, "you"\nsay', "happy", SHARES, ("a", "b"), 1.0, 2.5, "talk.wav")
    rows = list(csv.reader(io.StringIO(as_csv([timed(first, timed().turns[1])], CLASSES), newline="")))
    fields = ["source", "turn", "start_s", "end_s", "speaker", "text", "emotion"]
    assert rows[0] == [*fields, *CLASSES, "notes", "model", "trained_on"]
    words = ["Ann", 'Late, "you"\nsay', "happy"]
    assert rows[1] == ["talk.wav", "1", "1.000", "2.500", *words, "0.2500", "0.5000", "0.2500", "a; b", "hcam", TRAINED]
    assert rows[2] == ["talk.wav", "2", "5.250", "7.000", "Ben", "", "", "", "", "", "nothing to hear", "hcam", TRAINED]


def test_captions_say_the_emotion_and_first_who_says_so() -> None:
    assert as_srt([timed()], "demo/hcam, seed 1") == (
        "1\n00:00:00,000 --> 00:00:01,000\nemofuse demo/hcam, seed 1; trained on demo\n\n"
        "2\n00:00:01,000 --> 00:00:02,500\n[happy 50 %] Ann: You are late.\n\n3\n00:00:05,250 --> 00:00:07,000\nBen:"
    )
    late = replace(timed(timed().turns[1]), remark="no transcripts")
    first = "1\n00:00:00,000 --> 00:00:05,000\nemofuse demo/hcam; trained on demo; no transcripts\n\n2\n"
    assert as_srt([late], "demo/hcam").startswith(first)
    with pytest.raises(ConversationError, match="captions need the times of turns"):
        as_srt([prediction("a")], "demo/hcam")
    with pytest.raises(ConversationError, match="captions are for a single recording; there are 2"):
        as_srt([timed(), timed()], "demo/hcam")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00.0"), (59.96, "1:00.0"), (3599.99, "1:00:00.0")])
def test_a_clock_carries_over(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


# In a browser.


Browser = Any
"""The class of the fixture, in ``tests/conftest.py``."""


@pytest.fixture(params=["embedded", "linked"])
def page(sound: Sound, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    link = Path("talk.wav") if request.param == "linked" else None
    soundfile.write(tmp_path / "talk.wav", sound.samples[0], sound.rate)
    (tmp_path / "talk.html").write_text(as_html([timed()], "demo/hcam", [sound], [link]))
    return tmp_path / "talk.html"


LISTEN = """for (const audio of document.querySelectorAll("audio")) {
  audio.addEventListener("seeking", () => { audio.dataset.sought ??= audio.currentTime; });
}"""
"""Write down where the player goes first."""

PLAYED = """new Promise(done => {
  const audio = document.querySelector("audio");
  const ready = () => done([audio.currentTime, audio.paused]);
  audio.ontimeupdate = () => audio.currentTime > 0 && !audio.seeking && ready();
  setTimeout(ready, 20000);
})"""
"""Where the player is, once it has moved, and whether it stands still."""


SOUGHT = "document.querySelector('audio').dataset.sought"


def click(browser: Browser, selector: str) -> None:
    """Press the mouse where an element is, as a person does."""
    script = f"""(() => {{
      const each = document.querySelector({selector!r});
      each.scrollIntoView({{block: "center"}});
      const box = each.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }})()"""
    browser.run(LISTEN)
    x, y = browser.run(script)
    for kind in ("mousePressed", "mouseReleased"):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@pytest.mark.parametrize("selector", [".turn:nth-child(2) button", ".lane:nth-of-type(2) .piece"])
def test_a_click_plays_from_the_turn_s_start(browser: Browser, page: Path, selector: str) -> None:
    browser.show(page, 1200)
    click(browser, selector)
    now, paused = browser.run(PLAYED)
    assert not paused
    assert float(browser.run(SOUGHT)) == pytest.approx(5.25, abs=0.1)
    assert 5.25 <= now < 7
    assert browser.run("document.querySelector('.turn.now p').textContent.trim()[0]") == "2"


def test_a_click_on_the_waveform_plays_from_there(browser: Browser, page: Path) -> None:
    browser.show(page, 1200)
    click(browser, ".wave")
    now, paused = browser.run(PLAYED)
    assert not paused
    assert float(browser.run(SOUGHT)) == pytest.approx(SECONDS / 2, abs=0.1)
    assert now < SECONDS / 2 + 2


def test_one_recording_of_a_page_plays_at_a_time(browser: Browser, sound: Sound, tmp_path: Path) -> None:
    (tmp_path / "both.html").write_text(as_html([timed(), timed()], "demo/hcam", [sound, sound]))
    browser.show(tmp_path / "both.html", 1200)
    for number in (1, 2):
        click(browser, f"section:nth-of-type({number}) .turn:nth-child(2) button")
        playing = f"""new Promise(done => {{
          const all = [...document.querySelectorAll("audio")];
          const ready = () => done(all.map(each => !each.paused));
          all[{number - 1}].ontimeupdate = () => all[{number - 1}].currentTime > 5.25 && ready();
          setTimeout(ready, 20000);
        }})"""
        assert browser.run(playing) == [number == 1, number == 2]


def test_a_page_fits_and_is_read_by_day_and_night(browser: Browser, page: Path) -> None:
    browser.check_fits(page)
