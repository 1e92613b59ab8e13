"""All results side by side: the right numbers, names that are text, and in a real browser they sort."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emofuse.reporting.leaderboard import leaderboard, markdown, write_leaderboard
from emofuse.reporting.robustness import WORSE
from emofuse.scoring.predictions import ScoringError

TagsOf = Callable[[str], list[tuple[str, dict[str, str | None]]]]
Browser = Any
"""The class of the fixture, in ``conftest.py``."""

EVIL = "<img src=x onerror=alert(1)>"


def scored(mean: float, *, interval: bool = True) -> dict[str, Any]:
    ends = {"low": mean - 0.05, "high": mean + 0.05} if interval else {"low": None, "high": None}
    return {"mean": mean, "sd": 0.01, "n_runs": 4} | ends


def write_scores(metrics: Path, task: str, audio: str, text: str, means: dict[str, float]) -> Path:
    """The scores of a pair; accuracy is a tenth over weighted F1, dev a tenth under it."""
    scores = {
        model: {
            "weighted_f1": scored(mean),
            "accuracy": scored(mean + 0.1),
            "balanced_accuracy": scored(mean),
            "dev/weighted_f1": scored(mean - 0.1, interval=False),
        }
        for model, mean in means.items()
    }
    scores["hcam/ensemble"] = {"weighted_f1": scored(0.9)}  # of all seeds together, which no score on dev is of
    path = metrics / task / f"{audio}+{text}" / "scores.json"
    path.parent.mkdir(parents=True)
    protocol = {"task": task, "encoders": {"audio": audio, "text": text}}
    path.write_text(json.dumps({"protocol": protocol, "intervals": {"confidence_level": 0.9}, "scores": scores}))
    return path


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """Two pairs of encoders of one task, one pair of another; the models in no order, and with ablations."""
    folder = tmp_path / "metrics"
    write_scores(folder, "meld-7", "wavlm", "bert", {"hcam": 0.65, "hcam/no-gate": 0.9, "majority": 0.3, "late": 0.62})
    write_scores(folder, "meld-7", "hubert", "bert", {"late": 0.58, "hcam": 0.5})
    write_scores(folder, "demo", "logmel", "minilm", {"hcam": 0.8})
    (folder / "corpora").mkdir()
    (folder / "corpora" / "meld.json").write_text("{}")
    return folder


def test_rows_are_by_task_pair_and_model_without_ablations_and_ensembles(metrics: Path) -> None:
    assert [(row.task, row.audio, row.text, row.model) for row in leaderboard(metrics)] == [
        ("demo", "logmel", "minilm", "hcam"),
        ("meld-7", "hubert", "bert", "late"),
        ("meld-7", "hubert", "bert", "hcam"),
        ("meld-7", "wavlm", "bert", "majority"),
        ("meld-7", "wavlm", "bert", "late"),
        ("meld-7", "wavlm", "bert", "hcam"),
    ]


def test_the_best_of_each_column_is_bold_over_all_pairs_of_a_task(metrics: Path) -> None:
    text = markdown(leaderboard(metrics))
    lines = text.split("## meld-7")[1].strip().splitlines()
    assert lines[:2] == [
        "| Audio | Text | Model | Weighted F1 | Accuracy | Balanced accuracy | Dev weighted F1 | Runs |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[2] == (
        "| hubert | bert | late | 58.0 [53.0, 63.0] | 68.0 [63.0, 73.0] | 58.0 [53.0, 63.0] | 48.0 | 4 |"
    )
    assert lines[6] == (
        "| wavlm | bert | hcam | **65.0** [60.0, 70.0] | **75.0** [70.0, 80.0] | **65.0** [60.0, 70.0] | **55.0** | 4 |"
    )
    assert sum("**" in line for line in lines) == 1


def test_what_others_published_stands_under_its_task_alone(metrics: Path) -> None:
    demo, meld = markdown(leaderboard(metrics)).split("## meld-7")
    assert "| HCAM | 65.8 | " in meld
    assert "Published" not in demo


def test_both_files_are_written_the_same_twice(metrics: Path, tags_of: TagsOf) -> None:
    text = write_leaderboard(metrics)
    assert (metrics / "leaderboard.md").read_text() == text
    page = (metrics / "leaderboard.html").read_text()
    assert write_leaderboard(metrics) == text
    assert (metrics / "leaderboard.html").read_text() == page
    tags = tags_of(page)
    assert not [tag for tag, _ in tags if tag in {"link", "img", "iframe", "object"}]
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert links[0] == "demo/logmel+minilm/report.html"
    assert len(links) == 6
    assert "HCAM" in page
    assert "with the 90 % interval of the mean" in page


def test_a_page_leads_to_the_pages_that_scoring_writes(metrics: Path, tags_of: TagsOf) -> None:
    write_leaderboard(metrics)
    for tag, attributes in tags_of((metrics / "leaderboard.html").read_text()):
        if tag == "a":
            assert (metrics / str(attributes["href"])).with_name("scores.json").exists()


def test_names_are_text_and_never_markup(tmp_path: Path, tags_of: TagsOf) -> None:
    """What is in a file of metrics may be anybody's; folders say where it lies, not what it says."""
    path = write_scores(tmp_path, "t", "a", "b", {f"{EVIL[:-1]} model>".replace("/", ""): 0.5})
    told = json.loads(path.read_text())
    told["protocol"] = {"task": f"{EVIL}task", "encoders": {"audio": f'"{EVIL}', "text": "javascript:alert(1)"}}
    path.write_text(json.dumps(told))
    write_leaderboard(tmp_path)
    page = (tmp_path / "leaderboard.html").read_text()
    tags = tags_of(page)
    assert "img" not in {tag for tag, _ in tags}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "&lt;img src=x onerror=alert(1)&gt;task" in page
    assert not [each for tag, each in tags if tag == "a" and str(each["href"]).startswith(("javascript:", "//"))]


def test_no_results_are_an_error_and_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="no results yet; run `dvc repro`"):
        write_leaderboard(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["{", "[]", '{"scores": {}}', '{"protocol": {"task": "t"}, "scores": {}}'])
def test_a_damaged_file_is_named(metrics: Path, damage: str) -> None:
    path = metrics / "demo" / "logmel+minilm" / "scores.json"
    path.write_text(damage)
    with pytest.raises(ScoringError, match=r"demo/logmel\+minilm/scores\.json: not the scores of a task: "):
        write_leaderboard(metrics)
    assert not (metrics / "leaderboard.md").exists()


def test_a_model_that_lacks_a_score_is_a_damaged_file(metrics: Path) -> None:
    """Such as results of before dev stood among the scores."""
    path = metrics / "demo" / "logmel+minilm" / "scores.json"
    told = json.loads(path.read_text())
    del told["scores"]["hcam"]["dev/weighted_f1"]
    path.write_text(json.dumps(told))
    with pytest.raises(ScoringError, match=r"demo/logmel\+minilm/scores\.json: not the scores of a task: "):
        write_leaderboard(metrics)


# In a browser.


@pytest.fixture
def file(metrics: Path) -> Path:
    write_leaderboard(metrics)
    return metrics / "leaderboard.html"


TABLE = "[...document.querySelectorAll('table.sortable')].at(-1)"
"""The table of ``meld-7``."""


def test_a_click_sorts_its_own_table_by_value(browser: Browser, file: Path) -> None:
    browser.show(file, 1200)
    column = f"[...{TABLE}.tBodies[0].rows].map(row => row.cells[{{0}}].firstChild.textContent)"
    click = f"{TABLE}.tHead.rows[0].cells[{{0}}].firstElementChild.click(), {column}"
    assert browser.run(column.format(1)) == ["65.0", "62.0", "58.0", "50.0", "30.0"]
    assert browser.run(click.format(1)) == ["65.0", "62.0", "58.0", "50.0", "30.0"]
    assert browser.run(click.format(1)) == ["30.0", "50.0", "58.0", "62.0", "65.0"]
    assert browser.run(click.format(0)) == ["hcam", "hcam", "late", "late", "majority"]
    assert browser.run(column.format(6)) == ["hubert", "wavlm", "hubert", "wavlm", "wavlm"]
    assert browser.run(click.format(6)) == [*["hubert"] * 2, *["wavlm"] * 3]
    sorts = browser.run("[...document.querySelectorAll('th[aria-sort]')].map(each => each.ariaSort)")
    assert [each for each in sorts if each != "none"] == ["ascending"]


def test_the_best_are_marked(browser: Browser, file: Path) -> None:
    browser.show(file, 1200)
    rows = browser.run(f"[...{TABLE}.querySelectorAll('.best')].map(each => each.parentElement.innerText)")
    assert len(rows) == 4
    assert all(row.startswith("hcam") and "wavlm" in row for row in rows)


def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(browser: Browser, file: Path) -> None:
    browser.check_fits(file)


def test_weighted_f1_is_in_sight_on_a_phone(browser: Browser, file: Path) -> None:
    browser.show(file, 400, phone=True)
    right = browser.run(f"{TABLE}.tBodies[0].rows[0].cells[1].getBoundingClientRect().right")
    assert right <= 400


def test_worse_conditions_stand_below_their_task(metrics: Path) -> None:
    folder = metrics / "demo/logmel+minilm/robustness"
    folder.mkdir()
    scores = {"accuracy": {"mean": 0.8, "as_recorded": 0.9}, "weighted_f1": {"mean": 0.746, "as_recorded": 0.848}}
    found = {"condition": "found", "dialogues": 15, "word_error_rate": 0.417, "scores": {"concat": scores}}
    (folder / "found.json").write_text(json.dumps(found))
    text = write_leaderboard(metrics)
    below = text[text.index(WORSE) :]
    assert "found: 15 dialogues, word error rate 41.7 %." in below
    assert "| concat | 74.6 (84.8) |" in below
    assert text.count(WORSE) == 1
    assert "<td>74.6 (84.8)</td>" in (metrics / "leaderboard.html").read_text()
    (folder / "found.json").write_text("{}")
    with pytest.raises(ScoringError, match=r"found\.json: not the scores of a condition"):
        write_leaderboard(metrics)
