"""The page: everything in it, nothing from elsewhere; and in a real browser it sorts and fits."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.reporting.dialogues import Dialogue
from emofuse.reporting.layers import LayerShares
from emofuse.reporting.protocol import model_sizes
from emofuse.reporting.report import report, with_times
from emofuse.scoring.scores import Scores, ScoringConfig, score

Make = Callable[..., pl.DataFrame]
TagsOf = Callable[[str], list[tuple[str, dict[str, str | None]]]]
Browser = Any
"""The class of the fixture, in ``conftest.py``."""

SKILLS = {"majority": 0.3, "text-context": 0.6, "hcam": 0.9, "hcam/no-contrastive": 0.5}
COMPARISONS = [("hcam", "text-context"), ("text-context", "hcam"), ("hcam", "hcam/no-contrastive")]


@pytest.fixture
def scores(truth: Make, guess: Make, classes: tuple[str, ...]) -> Scores:
    targets = truth(n_dialogues=20)
    runs = pl.concat([guess(targets, skill, model) for model, skill in SKILLS.items()])
    return score(runs, targets, classes, ScoringConfig(resamples=1000))


@pytest.fixture
def page(scores: Scores) -> str:
    return report(scores, protocol(), COMPARISONS, records(), [dialogue()])


def records() -> list[dict[str, Any]]:
    epochs = [{"epoch": epoch, "loss": 1 / epoch, "dev_weighted_f1": 0.2 * epoch} for epoch in (1, 2, 3)]
    sizes = {"n_parameters": 1234, "best_epoch": 3, "fold": 0}
    return [
        {"model": model, "seed": seed, **sizes, "history": [] if model == "majority" else epochs}
        for model in SKILLS
        for seed in range(3)
    ]


def protocol(task: str = "meld-7") -> dict[str, Any]:
    made = {"id": "logmel", "revision": "1", "layer": [2, 4], "labels_seen": False}
    features = {"audio": made, "text": made | {"labels_seen": True}}
    return {
        "task": task,
        "corpus": "meld",
        "encoders": {"audio": "ears", "text": "<eyes>"},
        "classes": ["angry", "happy", "sad"],
        "labelled_utterances": [{"train": 1000, "dev": 10, "test": 120}],
        "unlike_a_full_corpus": ["test: 119 labelled utterances; a full corpus gives 120"],
        "splits": {"by": "session", "dev": "next", "test": "each"},
        "folds": 1,
        "seeds": 3,
        "context": "full",
        "unlabelled_turns": "keep",
        "speakers_across_splits": "shared",
        "transcript": "<subtitles>",
        "epoch_chosen_on": "dev weighted F1",
        "features": features,
        "models": model_sizes(records(), [], features),
    }


def dialogue() -> Dialogue:
    turns = {"utterance_id": ["a", "b"], "predicted": ["sad", None], "confidence": [0.75, None]}
    words = {"speaker": ["Ann", None], "text": ["<b>So</b> & so", None], "target": ["angry", None]}
    table = pl.DataFrame(turns | words, schema_overrides={"predicted": pl.String})
    return Dialogue("hcam", 0, table, {"text attends to audio": [[0.2, 0.8], [1.0, 0.0]]}, {"audio": [0.25, 1.0]})


def test_nothing_comes_from_elsewhere(page: str, tags_of: TagsOf) -> None:
    for tag, attributes in tags_of(page):
        assert tag not in {"link", "img", "iframe", "object"}
        assert not {"src", "href"} & set(attributes), tag
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp", page)


def test_the_same_results_give_the_same_page(scores: Scores, page: str) -> None:
    assert report(scores, protocol(), COMPARISONS, records(), [dialogue()]) == page


def test_the_first_lines_say_who_is_better_and_how_sure_that_is(page: str) -> None:
    assert re.search(r"hcam has the best weighted F1 of 3 models: \d\d\.\d % \[\d\d\.\d, \d\d\.\d\]\.", page)
    assert re.search(r"<li>It is ahead, in points: majority \+\d\d\.\d \[.*?\]; text-context \+", page)
    assert "hcam − text-context" in page
    assert page.count("the first is ahead; p = ") + page.count("the first is behind; p = ") == 3
    assert page.count("the first is behind; p = ") == 1


def test_what_the_corpus_says_is_text_and_never_markup(page: str) -> None:
    assert "&lt;b&gt;So&lt;/b&gt; &amp; so" in page
    assert "&lt;subtitles&gt;" in page
    assert "<eyes>" not in page


def test_a_page_without_words_says_where_they_are(scores: Scores) -> None:
    shown = dialogue()
    bare = replace(shown, turns=shown.turns.drop("speaker", "text", "target"))
    page = report(scores, protocol(), COMPARISONS, records(), [bare])
    assert "<code>data/scores/meld-7/ears+&lt;eyes&gt;/report.html</code>" in page


def test_every_part_is_there(page: str) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        *("Who is better, by how much, how sure", "Scores", "Intervals", "F1 of each class", "Confusion matrices"),
        *("Learning curves", "Calibration", "A dialogue of test", "What others published", "Protocol and provenance"),
    ]
    assert page.count("<polyline") == 3 * 2 * 3  # loss and dev score of three models that learn, three runs each
    assert page.count("<figcaption>hcam/no-contrastive") == 3
    assert page.count("<summary>Ablations</summary>") == 3
    assert "true: <strong>angry</strong>" in page
    assert 'class="heat self" style="--v:0.25"' in page
    assert "Dutta and Ganapathy 2023" in page
    assert "1,234" in page
    assert "session" in page


def test_learnt_weights_of_layers_are_a_bar_each_where_there_are_some(
    scores: Scores, page: str, tags_of: TagsOf
) -> None:
    assert "Weights of layers" not in page
    layers = [
        LayerShares("hcam", "audio", "ears", (0.2, 0.5, 0.3), 3),
        LayerShares("hcam/no-contrastive", "text", "<eyes>", (0.25,) * 4, 3),
    ]
    weighed = report(scores, protocol(), COMPARISONS, records(), [dialogue()], layers)
    assert [tag for tag, _ in tags_of(weighed)].count("rect") == 7
    section = weighed.partition("<h2>Weights of layers</h2>")[2].partition("</section>")[0]
    assert "<title>layer 1: 50.0 %</title>" in section
    assert "audio, ears, 3 runs" in section
    assert "text, &lt;eyes&gt;, 3 runs" in section
    assert section.count("<summary>Ablations</summary>") == 1


def test_a_single_model_without_anything_else(
    truth: Make, predict: Make, classes: tuple[str, ...], scores: Scores, tags_of: TagsOf
) -> None:
    targets = truth()
    alone = score(predict(targets, [0] * len(targets), "majority"), targets, classes, ScoringConfig(resamples=20))
    page = report(alone, protocol("tiny"), [], [each for each in records() if each["model"] == "majority"], [])
    tags_of(page)
    assert "No model of this task was trained in epochs." in page
    assert "A dialogue of test" not in page
    assert "What others published" not in page


# In a browser.


@pytest.fixture
def file(page: str, tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text(page)
    return tmp_path / "report.html"


def test_a_click_sorts_and_a_second_one_turns_the_order_round(browser: Browser, file: Path) -> None:
    browser.show(file, 1200)
    names = "[...document.querySelectorAll('table.sortable tbody th')].map(each => each.textContent)"
    head = "document.querySelectorAll('table.sortable th button')[{}]"
    falling, rising, by_name = (browser.run(f"{head.format(column)}.click(), {names}") for column in (3, 3, 0))
    assert falling[:2] == ["hcam", "text-context"]
    assert rising == falling[::-1]
    assert by_name == list(SKILLS)
    assert browser.run(f"{head.format(0)}.parentElement.ariaSort") == "ascending"


def test_training_times_are_a_column_where_they_are_known(browser: Browser, page: str, tmp_path: Path) -> None:
    (tmp_path / "timed.html").write_text(with_times(page, {"hcam": 12.34, "text-context": 5}))
    browser.show(tmp_path / "timed.html", 1200)
    column = "[...document.querySelectorAll('table.leaderboard tr')].map(row => row.lastElementChild.textContent)"
    assert browser.run(column) == ["Seconds to train", "", "5.0", "12.3", ""]
    browser.run("document.querySelector('table.leaderboard th:last-child button').click()")
    assert browser.run(column) == ["Seconds to train", "12.3", "5.0", "", ""]


@pytest.mark.parametrize(
    ("width", "phone", "dark"), [(360, True, False), (360, True, True), (1200, False, False), (1200, False, True)]
)
def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(
    browser: Browser, file: Path, width: int, phone: bool, dark: bool
) -> None:
    browser.show(file, width, phone=phone, dark=dark)
    too_wide, ground, letters = browser.look()
    assert too_wide <= 0
    assert (ground < 40, letters > 200) == (dark, dark)
    assert abs(ground - letters) > 180
    assert not browser.run("document.querySelector('details figure').checkVisibility()")


A4 = 718
"""Pixels between the margins of a page of A4, as wide as Chromium prints."""


def test_print_is_black_on_white_whole_and_no_wider_than_paper(browser: Browser, page: str, file: Path) -> None:
    """What a screen hides until it is asked for is on paper, such as the pictures of ablations."""
    file.write_text(with_times(page, dict.fromkeys(SKILLS, 1234.5)))
    browser.show(file, A4, dark=True, media="print")
    too_wide, ground, letters = browser.look()
    assert too_wide <= 0
    assert (ground, letters) == (255, 0)
    assert browser.run("[...document.querySelectorAll('figure')].every(each => each.checkVisibility())")
    assert browser.run("[...document.querySelectorAll('.wide')].every(each => each.scrollWidth <= innerWidth)")
    browser.show(file, 1200)
    assert base64.b64decode(browser.ask("Page.printToPDF")["data"]).startswith(b"%PDF")
