"""The README's results: those of all tasks and pairs of encoders, and nothing else of the README."""

import json
from pathlib import Path

import pytest

from emofuse.reporting.readme import BEGIN, END, with_results, write_results
from emofuse.scoring.predictions import ScoringError


def write_scores(metrics: Path, task: str, pair: str, value: float) -> None:
    """The results of two models, an ablation, an ensemble, and what dev says."""
    folder = metrics / task / pair
    folder.mkdir(parents=True)
    audio, text = pair.split("+")
    values = {"late": 0.25, "hcam": value, "hcam/no-part": 0.99, "hcam/ensemble": 0.98}
    names = ("accuracy", "balanced_accuracy", "weighted_f1", "dev/weighted_f1")
    scores = {
        model: {name: {"mean": mean, "sd": None, "low": 0.1, "high": 0.9, "n_runs": 3} for name in names}
        for model, mean in values.items()
    }
    protocol = {"task": task, "encoders": {"audio": audio, "text": text}}
    (folder / "scores.json").write_text(
        json.dumps({"protocol": protocol, "intervals": {"confidence_level": 0.95}, "scores": scores})
    )


def test_every_task_and_pair_is_a_column_between_the_marks(tmp_path: Path) -> None:
    metrics, readme = tmp_path / "metrics", tmp_path / "README.md"
    write_scores(metrics, "demo", "logmel+minilm", 0.5)
    write_scores(metrics, "meld-7", "meld-prosody+bert-base", 0.2)
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    for _ in range(2):  # the second time over the first one's
        write_results(readme, metrics)
    assert readme.read_text() == (
        f"# Title\n\n{BEGIN}\n\n"
        "| Model | demo<br>logmel + minilm | meld-7<br>meld-prosody + bert-base |\n"
        "| --- | ---: | ---: |\n"
        "| late | 25.0 [10.0, 90.0] | **25.0** [10.0, 90.0] |\n"
        "| hcam | **50.0** [10.0, 90.0] | 20.0 [10.0, 90.0] |\n"
        f"\n{END}\n\nThe end.\n"
    )


@pytest.mark.parametrize("text", ["# Title\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n"])
def test_a_readme_without_the_marks_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScoringError, match=r"README\.md: expected one line"):
        with_results(text, tmp_path)
