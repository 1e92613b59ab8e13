"""The page: everything in it, nothing from elsewhere; and in a real browser it sorts and fits."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.scoring.dialogues import Dialogue
from emofuse.scoring.facts import model_facts
from emofuse.scoring.report import report
from emofuse.scoring.scores import Scores, ScoringConfig, score

Make = Callable[..., pl.DataFrame]
SKILLS = {"majority": 0.3, "text-context": 0.6, "hcam": 0.9, "hcam/no-contrastive": 0.5}
COMPARISONS = [("hcam", "text-context"), ("text-context", "hcam"), ("hcam", "hcam/no-contrastive")]
EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps their names and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


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
        "classes": ["angry", "happy", "sad"],
        "labelled_utterances": [{"train": 1000, "dev": 10, "test": 120}],
        "unlike_a_full_corpus": ["test: 119 labelled utterances; a full corpus gives 120"],
        "splits": {"by": "session", "dev": "next", "test": "each"},
        "folds": 1,
        "seeds": 3,
        "context": "both",
        "unlabelled_turns": "keep",
        "speakers_across_splits": "shared",
        "transcript": "<subtitles>",
        "epoch_chosen_on": "dev weighted F1",
        "features": features,
        "models": model_facts(records(), [], features),
    }


def dialogue() -> Dialogue:
    turns = {"utterance_id": ["a", "b"], "said": ["sad", None], "confidence": [0.75, None]}
    words = {"speaker": ["Ann", None], "text": ["<b>So</b> & so", None], "target": ["angry", None]}
    table = pl.DataFrame(turns | words, schema_overrides={"said": pl.String})
    return Dialogue("hcam", 0, table, {"text asks audio": [[0.2, 0.8], [1.0, 0.0]]}, {"audio": [0.25, 1.0]})


def test_nothing_comes_from_elsewhere(page: str) -> None:
    for tag, attributes in Page(page).tags:
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


def test_conditions_have_a_table_and_are_told(truth: Make, guess: Make, classes: tuple[str, ...], page: str) -> None:
    targets = truth(n_dialogues=20)
    runs = pl.concat([guess(targets, skill, model) for model, skill in SKILLS.items()])
    degraded = runs.with_columns(condition=pl.lit("noise-20"))
    scores = score(runs, targets, classes, ScoringConfig(resamples=200), degraded=degraded)
    rules = protocol() | {"conditions": {"noise-20": "noise, 20 dB"}}
    more = report(scores, rules, COMPARISONS, records(), [dialogue()])
    Page(more)
    for told in ("<button>noise-20</button>", "Condition noise-20", "noise, 20 dB", "under worse conditions"):
        assert told in more
        assert told not in page


def test_a_single_model_without_anything_else(
    truth: Make, answer: Make, classes: tuple[str, ...], scores: Scores
) -> None:
    targets = truth()
    alone = score(answer(targets, [0] * len(targets), "majority"), targets, classes, ScoringConfig(resamples=20))
    page = report(alone, protocol("tiny"), [], [each for each in records() if each["model"] == "majority"], [])
    Page(page)
    assert "No model of this task was trained in epochs." in page
    assert "A dialogue of test" not in page
    assert "What others published" not in page


# In a browser.

needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium on the path")

SORT = """<script>
const heads = [...document.querySelectorAll("table.sortable th button")], order = [];
const names = () => [...document.querySelectorAll("table.sortable tbody th")].map(each => each.textContent).join(" ");
for (const column of [3, 3, 0]) { heads[column].click(); order.push(names()); }
document.body.textContent = order.join("|") + "|" + heads[0].parentElement.ariaSort;
</script>"""

FRAME = """<body><iframe src="report.html" width="{width}" height="900"></iframe>
<script>addEventListener("message", said => {{ document.body.textContent = JSON.stringify(said.data); }});</script>"""

MEASURE = """<script>addEventListener("load", () => {
  const colour = getComputedStyle(document.body).backgroundColor;
  parent.postMessage([document.documentElement.scrollWidth, innerWidth, colour], "*");
});</script>"""


def browse(page: Path, profile: Path, *options: str) -> str:
    """The text that a page's script leaves in its body."""
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    address = f"file://{page}"
    done = subprocess.run(
        [*command, *options, "--virtual-time-budget=2000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"<body>(.*?)</body>", done.stdout, re.DOTALL)
    assert found, done.stderr
    return found[1].strip()


@needs_chromium
def test_a_click_sorts_and_a_second_one_turns_the_order_round(page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page.replace("</body>", SORT + "</body>"))
    falling, rising, by_name, state = browse(tmp_path / "report.html", tmp_path / "profile").split("|")
    assert falling.split()[:2] == ["hcam", "text-context"]
    assert rising.split() == falling.split()[::-1]
    assert by_name.split() == list(SKILLS)
    assert state == "ascending"


@needs_chromium
@pytest.mark.parametrize(
    ("width", "dark", "background"), [(360, False, "rgb(255, 255, 255)"), (1200, True, "rgb(18, 24, 31)")]
)
def test_the_page_fits_a_phone_and_a_desk_and_knows_the_dark(
    page: str, tmp_path: Path, width: int, dark: bool, background: str
) -> None:
    (tmp_path / "report.html").write_text(page.replace("</body>", MEASURE + "</body>"))
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    options = ["--blink-settings=preferredColorScheme=0"] if dark else []
    said = browse(tmp_path / "frame.html", tmp_path / "profile", *options)
    wide, inner, colour = re.match(r'\[(\d+),(\d+),"(.*?)"\]', said).groups()  # type: ignore[union-attr]
    assert int(wide) <= int(inner) <= width
    assert colour == background
