"""The page: everything in it, nothing from elsewhere; and in a real browser it sorts, is asked, and fits."""

import base64
import posixpath
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from emofuse.models.registry import MODELS
from emofuse.reporting.dialogues import Dialogue
from emofuse.reporting.layers import LayerShares
from emofuse.reporting.printed import with_known
from emofuse.reporting.protocol import model_sizes
from emofuse.reporting.report import report
from emofuse.reporting.robustness import Conditions
from emofuse.reporting.turns import MOST, MOST_BYTES, Turns
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.scores import Scores, score

Make = Callable[..., pl.DataFrame]
TagsOf = Callable[[str], list[tuple[str, dict[str, str | None]]]]
Browser = Any
"""The class of the fixture, in ``conftest.py``."""

SKILLS = {"majority": 0.3, "text-context": 0.6, "hcam": 0.9, "hcam/no-contrastive": 0.5}
SPOKEN = ("Where were you?", "<b>Out</b> & about.", "I see.", None)
"""Words of the four turns that :func:`turns` shows."""


@pytest.fixture
def scores(truth: Make, guess: Make, classes: tuple[str, ...]) -> Scores:
    targets = truth(n_dialogues=20)
    runs = pl.concat([guess(targets, skill, model) for model, skill in SKILLS.items()])
    return score(runs, targets, classes, ScoringConfig(resamples=1000))


@pytest.fixture
def page(scores: Scores) -> str:
    return report(scores, protocol(), records(), [dialogue()])


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
        "unlike_a_full_corpus": ["test: 119 labelled utterances; the full corpus has 120"],
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
        "provenance": {"versions": {"python": "3.11"}, "sha256": {"predictions": "0123456789abcdef"}},
    }


def dialogue() -> Dialogue:
    turns = {"utterance_id": ["a", "b"], "predicted": ["sad", None], "confidence": [0.75, None]}
    words = {"speaker": ["Ann", None], "text": ["<b>So</b> & so", None], "target": ["angry", None]}
    table = pl.DataFrame(turns | words, schema_overrides={"predicted": pl.String})
    return Dialogue("hcam", 0, table, {"text asks audio": [[0.2, 0.8], [1.0, 0.0]]}, {"audio": [0.25, 1.0]})


def turns() -> Turns:
    """Two dialogues: hcam gets the first turn wrong in all three runs, and the second one in two of them."""
    table = pl.DataFrame(
        {
            "utterance_id": ["a0", "a1", "b0", "b1"],
            "dialogue_id": ["a", "a", "b", "b"],
            "speaker": ["Ann", "Bob", "Ann", None],
            "text": SPOKEN,
            "sound": ["0a.flac", None, None, None],
            "target": [0, 1, 2, None],
        }
    )
    wrong = {"hcam": [1, 2, 2, None], "text-context": [0, 2, 2, None], "majority": [0, 1, 0, None]}
    right = {"hcam": [0, 1, 3, None], "text-context": [3, 0, 3, None], "majority": [3, 3, 0, None]}
    return Turns(table, wrong, right, 3)


def test_nothing_comes_from_elsewhere(page: str, tags_of: TagsOf) -> None:
    for tag, attributes in tags_of(page):
        assert tag not in {"link", "img", "iframe", "object"}
        assert "src" not in attributes
        assert tag == "a" or "href" not in attributes
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp", page)


def test_links_lead_to_what_scoring_writes(scores: Scores, page: str, tags_of: TagsOf) -> None:
    """From the page in ``metrics/`` and from the one in ``data/scores/``."""
    private = report(scores, protocol(), records(), [], [], turns())
    for text, folder in ((page, "metrics"), (private, "data/scores")):
        links = [str(each["href"]) for tag, each in tags_of(text) if tag == "a"]
        ids = {each["id"] for _, each in tags_of(text) if "id" in each}
        assert {each[1:] for each in links if each.startswith("#")} <= ids
        there = {posixpath.normpath(f"{folder}/meld-7/ears+eyes/{each}") for each in links if each[0] == "."}
        assert {
            "metrics/leaderboard.html",
            "metrics/corpora/meld.html",
            "metrics/meld-7/ears+<eyes>/pairs.csv",
        } <= there


def test_the_same_results_give_the_same_page(scores: Scores, page: str) -> None:
    assert report(scores, protocol(), records(), [dialogue()]) == page


def test_the_first_lines_say_who_is_better_and_how_sure_that_is(page: str) -> None:
    assert re.search(r"hcam has the best weighted F1 of 3 models: \d\d\.\d % \[\d\d\.\d, \d\d\.\d\]\.", page)
    better = "<li>Significantly better, after Holm correction over 6 pairs: majority "
    assert re.search(re.escape(better) + r"\+\d\d\.\d \[.*?\]; text-context \+", page)


def test_the_bold_figure_is_never_an_ablation_s(
    truth: Make, guess: Make, classes: tuple[str, ...], tags_of: TagsOf
) -> None:
    targets = truth(n_dialogues=20)
    skills = {"text-context": 0.5, "hcam": 0.6, "hcam/no-contrastive": 0.95}
    runs = pl.concat([guess(targets, skill, model) for model, skill in skills.items()])
    page = report(score(runs, targets, classes, ScoringConfig(resamples=20)), protocol(), records(), [])
    board, _, rest = page.partition('<h2 id="differences">')
    assert "no-contrastive" not in board.partition("<h2")[2]
    assert board.count('class="best"') >= 4
    ablations = rest.partition('<h2 id="ablations">')[2].partition("</section>")[0]
    assert 'data-value="hcam/no-contrastive"' in ablations
    assert 'class="best"' not in ablations
    assert "hcam without a part, over hcam" in ablations


def test_every_pair_is_in_the_page_and_folded(page: str) -> None:
    folded = page.partition("<summary>All 6 pairs</summary>")[2].partition("</details>")[0]
    assert folded.count("<tr><td>") == 6
    assert "<td>hcam − text-context</td>" in folded
    assert len(re.findall("the first is (better|worse)|not significant|no significant", folded)) == 6


def test_what_the_corpus_says_is_text_and_never_markup(page: str) -> None:
    assert "&lt;b&gt;So&lt;/b&gt; &amp; so" in page
    assert "&lt;subtitles&gt;" in page
    assert "<eyes>" not in page


def test_a_page_without_words_says_where_they_are(scores: Scores) -> None:
    shown = dialogue()
    bare = replace(shown, turns=shown.turns.drop("speaker", "text", "target"))
    page = report(scores, protocol(), records(), [bare])
    assert "<code>data/scores/meld-7/ears+&lt;eyes&gt;/report.html</code>" in page


def test_the_largest_page_with_words_is_small(truth: Make, guess: Make) -> None:
    """As many turns and words as fit, seven classes, and every model with four runs and a dialogue."""
    emotions = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
    per_turn = MOST_BYTES // MOST - 2
    column = [None, *range(len(emotions))] * (MOST // 4)
    table = pl.DataFrame(
        {
            "utterance_id": [f"dialogue-{number}" for number in range(MOST)],
            "dialogue_id": [f"d{number // 10}" for number in range(MOST)],
            "speaker": [f"Speaker {number % 7}" for number in range(MOST)],
            "text": ["x" * per_turn] * MOST,
            "sound": [f"{number:016x}.flac" for number in range(MOST)],
            "target": column[:MOST],
        }
    )
    targets = truth(n_dialogues=20)
    names = [name for name, model in MODELS.items() if model.title]
    runs = pl.concat([guess(targets, 0.5, model, range(4)) for model in names])
    runs = runs.with_columns(probabilities=pl.col("probabilities").list.concat(pl.lit([0.0] * 4, pl.List(pl.Float32))))
    shown = [replace(dialogue(), model=name) for name in names]
    per_model = dict.fromkeys(names, column[:MOST])
    trained = [each | {"model": model} for model in names for each in records() if each["model"] == "hcam"]
    rules = protocol()
    page = report(
        score(runs, targets, emotions, ScoringConfig(resamples=20)),
        rules | {"models": model_sizes(trained, [], rules["features"])},
        trained,
        shown,
        [],
        Turns(table, per_model, per_model, MOST // 10),
    )
    assert page.count("flac") >= MOST
    assert 1_000_000 < len(page.encode()) < 1_500_000


def test_every_part_is_there(page: str) -> None:
    titles = re.findall(r"<h2 id=.*?>(.*?)</h2>", page)
    assert titles == [
        *("Leaderboard", "Differences", "Ablations", "F1 of each class", "Confusion matrices", "Errors"),
        *("Learning curves", "Calibration", "Worse conditions", "A test dialogue", "Published results"),
        "Protocol and provenance",
    ]
    assert re.findall(r'<li><a href="#.*?">(.*?)</a>', page) == titles
    assert page.count("<polyline") == 3 * 2 * 3  # loss and dev score of three models that learn, three runs each
    assert page.count("<figcaption>hcam/no-contrastive") == 3
    assert page.count("<summary>Ablations</summary>") == 3
    assert "true: <strong>angry</strong>" in page
    assert 'class="heat self" style="--v:0.25"' in page
    assert "Dutta and Ganapathy 2023" in page
    assert "1,234" in page
    assert "session" in page
    assert "0123456789abcdef" in page


def test_learnt_weights_of_layers_are_a_bar_each_where_there_are_some(
    scores: Scores, page: str, tags_of: TagsOf
) -> None:
    assert "Weights of layers" not in page
    layers = [
        LayerShares("hcam", "audio", "ears", (0.2, 0.5, 0.3), 3),
        LayerShares("hcam/no-contrastive", "text", "<eyes>", (0.25,) * 4, 3),
    ]
    weighed = report(scores, protocol(), records(), [dialogue()], layers)
    section = weighed.partition('<h2 id="layers">')[2].partition("</section>")[0]
    assert "<title>layer 1: 50.0 %</title>" in section
    assert "audio, ears, 3 runs" in section
    assert "text, &lt;eyes&gt;, 3 runs" in section
    assert section.count("<rect") == 7
    tags_of(weighed)


def test_a_single_model_without_anything_else(
    truth: Make, predict: Make, classes: tuple[str, ...], scores: Scores, tags_of: TagsOf
) -> None:
    targets = truth()
    alone = score(predict(targets, [0] * len(targets), "majority"), targets, classes, ScoringConfig(resamples=20))
    page = report(alone, protocol("tiny"), [each for each in records() if each["model"] == "majority"], [])
    tags_of(page)
    assert "No model of this task was trained in epochs." in page
    assert "A test dialogue" not in page
    assert "Published results" not in page


# In a browser.


@pytest.fixture
def file(page: str, tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text(page)
    return tmp_path / "report.html"


def test_a_click_sorts_and_a_second_one_turns_the_order_round(browser: Browser, file: Path) -> None:
    browser.show(file, 1200)
    names = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[0].textContent)"
    head = "document.querySelectorAll('table.sortable th button')[{}]"
    assert browser.run(names) == ["hcam", "text-context", "majority"]
    falling, rising, by_name = (browser.run(f"{head.format(column)}.click(), {names}") for column in (3, 3, 0))
    assert falling == ["hcam", "text-context", "majority"]
    assert rising == falling[::-1]
    assert by_name == ["hcam", "majority", "text-context"]
    assert browser.run(f"{head.format(0)}.parentElement.ariaSort") == "ascending"


def test_a_click_chooses_the_reference(browser: Browser, file: Path) -> None:
    browser.show(file, 1200)
    shown = "[...document.querySelectorAll('.forest')].filter(each => each.checkVisibility())"
    title = f"{shown}.map(each => each.querySelector('figcaption').textContent)"
    assert browser.run(title) == ["Over majority"]
    pick = f"{shown}[0].querySelector('[data-model=hcam]').dispatchEvent(new Event('click'))"
    assert browser.run(f"{pick}, {title}") == ["Over hcam"]
    assert browser.run("document.getElementById('reference').value") == "hcam"
    choose = "reference.value = 'text-context', reference.dispatchEvent(new Event('change'))"
    assert browser.run(f"{choose}, {title}") == ["Over text-context"]
    assert browser.run(f"{shown}[0].querySelectorAll('.whisker').length") == 1  # majority is beyond the axis


def test_errors_are_found_by_model_class_and_speaker(browser: Browser, scores: Scores, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report(scores, protocol(), records(), [], [], turns()))
    browser.show(tmp_path / "report.html", 1200)
    asked = "[...document.querySelectorAll('#errors-list .asked')].map(each => each.textContent)"
    choose = "(document.getElementById('errors-{}').value = '{}', field('{}').dispatchEvent(new Event('change')), {})"
    assert browser.run(asked) == ["▶ Ann: Where were you?", "Bob: <b>Out</b> & about."]
    context = browser.run("[...document.querySelectorAll('#errors-list .context')].map(each => each.textContent)")
    assert context == ["Bob: <b>Out</b> & about.", "▶ Ann: Where were you?"]  # of the other dialogue nothing
    assert browser.run(choose.format("true", "1", "true", asked)) == ["Bob: <b>Out</b> & about."]
    assert browser.run(choose.format("true", "", "true", asked))[0] == "▶ Ann: Where were you?"
    assert browser.run(choose.format("speaker", "0", "speaker", asked)) == ["▶ Ann: Where were you?"]
    assert "Ann (1 of 2 wrong)" in browser.run("document.getElementById('errors-speaker').textContent")
    browser.run(choose.format("speaker", "", "speaker", asked))
    assert browser.run(choose.format("model", "majority", "model", asked)) == ["Ann: I see."]
    assert "3 of 3 wrong; 1 of 3 models wrong" in browser.run("document.getElementById('errors-list').textContent")


def test_a_click_plays_a_turn_s_own_file(browser: Browser, scores: Scores, tmp_path: Path) -> None:
    place = tmp_path / "data/scores/meld-7/ears+eyes/report.html"
    sound = tmp_path / "data/sound/meld-7/0a.flac"
    for path in (place, sound):
        path.parent.mkdir(parents=True)
    place.write_text(report(scores, protocol(), records(), [], [], turns()))
    soundfile.write(sound, np.zeros(16_000), 16_000)
    browser.show(place, 1200)
    loaded = "new Promise(done => player.addEventListener('loadeddata', () => done([player.src, player.duration])))"
    source, seconds = browser.run(f"document.querySelector('.play').click(), {loaded}")
    assert (source, seconds) == (sound.as_uri(), 1.0)


def test_training_times_are_a_column_where_they_are_known(browser: Browser, page: str, tmp_path: Path) -> None:
    (tmp_path / "timed.html").write_text(with_known(page, {"hcam": 12.34, "text-context": 5}))
    browser.show(tmp_path / "timed.html", 1200)
    column = "[...document.querySelector('table.facts').rows].map(row => row.lastElementChild.textContent)"
    assert browser.run(column) == ["Seconds to train", "12.3", "5.0", ""]
    browser.run("document.querySelector('table.facts th:last-child button').click()")
    browser.run("document.querySelector('table.facts th:last-child button').click()")
    assert browser.run(column) == ["Seconds to train", "", "5.0", "12.3"]


def test_the_commit_is_named_where_it_is_known(browser: Browser, page: str, tmp_path: Path) -> None:
    (tmp_path / "timed.html").write_text(with_known(page, {}, "c0ffee"))
    browser.show(tmp_path / "timed.html", 1200)
    assert browser.run("document.getElementById('commit').textContent") == "c0ffee"
    assert browser.run("document.querySelector('#provenance a').getAttribute('href')").startswith("metrics/meld-7/")


def test_scores_under_worse_conditions_stand_in_the_page_that_is_printed(page: str) -> None:
    assert "prints this page with them" in page
    worse = Conditions("meld-7", "logmel", "minilm", ["found"], {"hcam": ["74.6 (84.8)"]}, ["found: 15 dialogues"])
    printed = with_known(page, {}, None, [worse])
    assert "prints this page with them" not in printed
    assert printed.index('id="worse"') < printed.index("<td>74.6 (84.8)</td>") < printed.index('id="dialogue"')
    assert "found: 15 dialogues." in printed


def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(browser: Browser, file: Path) -> None:
    browser.check_fits(file)
    assert not browser.run("document.querySelector('details figure').checkVisibility()")


def test_weighted_f1_is_on_a_phone_s_first_screen(browser: Browser, file: Path) -> None:
    browser.show(file, 400, phone=True)
    place = "document.querySelector('table.facts').rows[1].cells[1].getBoundingClientRect()"
    right, top = browser.run(f"[{place}.right, {place}.top]")
    assert right <= 400
    assert top < 800
    assert browser.run("document.querySelector('table.facts').rows[0].cells[1].textContent") == "Weighted F1"


A4 = 718
"""Pixels between the margins of a page of A4, as wide as Chromium prints."""


def test_print_is_black_on_white_whole_and_no_wider_than_paper(browser: Browser, page: str, file: Path) -> None:
    """What a screen hides until it is asked for is on paper, such as the pictures of ablations."""
    file.write_text(with_known(page, dict.fromkeys(SKILLS, 1234.5)))
    browser.show(file, A4, dark=True, media="print")
    too_wide, ground, letters = browser.look()
    assert too_wide <= 0
    assert (ground, letters) == (255, 0)
    assert browser.run("[...document.querySelectorAll('figure:not([hidden])')].every(each => each.checkVisibility())")
    assert browser.run("[...document.querySelectorAll('.wide')].every(each => each.scrollWidth <= innerWidth)")
    browser.show(file, 1200)
    assert base64.b64decode(browser.ask("Page.printToPDF")["data"]).startswith(b"%PDF")
