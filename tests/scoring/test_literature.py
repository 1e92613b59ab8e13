"""The literature's numbers: every entry says where it is from, of a task that there is."""

from pathlib import Path

import pytest

from emofuse.scoring import literature
from emofuse.scoring.literature import published

TASKS = ("iemocap-4", "iemocap-4-loso", "iemocap-6", "meld-7", "meld-3", "mosi-2")


def test_a_task_has_its_own_figures() -> None:
    figures = {entry.model: entry.published["meld-7"] for entry in published("meld-7")}
    assert figures["HCAM"] == 65.8
    assert "DialogueGCN" not in figures
    assert published("demo") == []


def test_the_three_systems_are_there_and_what_was_not_seen_is_no_figure() -> None:
    entries = {entry.model: entry for task in TASKS for entry in published(task)}
    assert {"HCAM", "CMA", "HBAF"} <= set(entries)
    assert set(entries["HBAF"].published.values()) == {"not seen"}


def test_every_entry_is_of_a_task_and_says_its_source() -> None:
    entries = {entry.model: entry for task in TASKS for entry in published(task)}
    for entry in entries.values():
        assert set(entry.published) <= set(TASKS)
        assert "arXiv" in entry.source
        assert entry.encoders in {"tuned", "frozen", "unknown"}


def test_an_entry_without_a_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "literature.yaml").write_text("- {model: A, published: {meld-7: 1.0}}")
    monkeypatch.setattr(literature, "_FILE", tmp_path / "literature.yaml")
    with pytest.raises(ValueError, match=r"literature.yaml.0.source: missing"):
        published("meld-7")
