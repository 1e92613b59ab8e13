"""The README's results: those of all tasks and pairs of encoders, and nothing else of the README."""

import json
from pathlib import Path

import pytest

from emofuse.reporting.readme import BEGIN, END, with_results, write_results
from emofuse.scoring.predictions import ScoringError


def write_scores(metrics: Path, place: str, value: float) -> None:
    """The results of two models, an ablation, and what dev says of one."""
    folder = metrics / place
    folder.mkdir(parents=True)
    names = ("accuracy", "balanced_accuracy", "weighted_f1")
    rows = [f"late,{name},0.25,,0.1,0.9,3" for name in names]
    rows += [f"{model},{name},{value},,0.1,0.9,3" for model in ("hcam", "hcam/no-part") for name in names]
    rows += ["hcam,dev/weighted_f1,0.99,,,,3"]
    (folder / "scores.csv").write_text("\n".join(["model,metric,mean,sd,low,high,n_runs", *rows, ""]))
    columns = "model_a,model_b,metric,difference,low,high,p,p_adjusted"
    (folder / "pairs.csv").write_text(f"{columns}\nhcam,late,weighted_f1,{value - 0.25},0.1,0.4,0.001,0.001\n")
    (folder / "scores.json").write_text(json.dumps({"intervals": {"confidence": 0.95}}))


def test_every_task_and_pair_is_told_between_the_marks(tmp_path: Path) -> None:
    metrics, readme = tmp_path / "metrics", tmp_path / "README.md"
    write_scores(metrics, "demo/logmel+minilm", 0.5)
    write_scores(metrics, "meld-7/prosody+bert-base", 0.625)
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    for _ in range(2):  # the second time over the first one's
        write_results(readme, metrics)
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n\n**demo, logmel + minilm**\n\n")
    assert text.endswith(f" | 3 |\n\n{END}\n\nThe end.\n")
    first, second = text.split("**meld-7, prosody + bert-base**")
    for part, value in ((first, 50.0), (second, 62.5)):
        row = f"| hcam | {value} [10.0, 90.0] | {value} [10.0, 90.0] | {value} [10.0, 90.0] | 3 |"
        assert part.count(row) == 1
        assert f"- hcam has the best weighted F1 of 2 models: {value} % [10.0, 90.0]." in part
        assert f"- It is ahead, in points: late {value - 25:+.1f} [+10.0, +40.0]." in part
    assert not [word for word in ("no-part", "old\n", "99") if word in text]


@pytest.mark.parametrize("text", ["# Title\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n"])
def test_a_readme_without_the_marks_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScoringError, match=r"README\.md: expected one line"):
        with_results(text, tmp_path)
