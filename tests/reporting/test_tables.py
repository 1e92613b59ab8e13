"""What people read, byte by byte where it can be derived by hand."""

from collections.abc import Callable

import polars as pl
import pytest

from emofuse.reporting.tables import ABLATIONS, best_model, markdown_table
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.names import NOT_COVERED
from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.scores import Scores, score

Make = Callable[..., pl.DataFrame]

TABLE = f"""\
- hcam has the best weighted F1 of 2 models: 86.7 % [0.0, 100.0].
- No significant difference from: majority +53.3 [-100.0, +100.0].

| Model | Accuracy | Balanced accuracy | Weighted F1 | Macro F1 | Calibration error | Runs |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| majority | 50.0 [0.0, 100.0] | 50.0 [0.0, 100.0] | 33.3 [0.0, 100.0] | 33.3 [0.0, 100.0] | 30.0 [30.0, 30.0] | 1 |
| hcam | **87.5** ± 17.7 [0.0, 100.0] | **87.5** ± 17.7 [0.0, 100.0] | **86.7** ± 18.9 [0.0, 100.0] \
| **86.7** ± 18.9 [0.0, 100.0] | **12.5** ± 10.6 [5.0, 20.0] | 2 |

Percent on test: 4 utterances in 1 dialogues. Mean over runs ± standard deviation [95 % interval of the mean, \
over dialogues and runs]. {NOT_COVERED}

Paired comparisons (difference in points):

- hcam over majority: Weighted F1 +53.3 [-100.0, +100.0], p = 1, Holm-adjusted 1
- majority over hcam: Weighted F1 -53.3 [-100.0, +100.0], p = 1, Holm-adjusted 1
"""


def test_markdown(tiny: Scores) -> None:
    assert markdown_table(tiny, [("hcam", "majority"), ("majority", "hcam")]) == TABLE


def test_folds_get_a_table_of_their_own(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = pl.concat([truth(n_dialogues=3), truth(n_dialogues=3, fold=1, prefix="x")])
    table = markdown_table(score(guess(targets, 0.7, "hcam"), targets, classes, ScoringConfig(resamples=50)))
    assert table.count("| hcam |") == 2
    assert "pooled over the folds" in table
    assert table.rstrip().endswith("| 3 |")


def test_scores_without_zeros_get_a_table_of_their_own(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=4)
    sentiment = targets.with_columns(sentiment=pl.Series([0.0, 1.5] * (len(targets) // 2)))
    runs = guess(targets, 0.7, "hcam")
    table = markdown_table(score(runs, sentiment, classes, ScoringConfig(resamples=50), runs.with_columns(epoch=1)))
    assert table.count("| hcam |") == 4
    assert "\n\nWithout the utterances whose sentiment is zero:" in table
    assert "was chosen this way. Without the utterances whose sentiment is zero:" in table


def test_the_best_epoch_on_test_is_called_what_it_is(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=4)
    runs = pl.concat([guess(targets, 0.7, "hcam"), guess(targets, 0.7, "late")])
    epochs = guess(targets, 0.8, "hcam").with_columns(epoch=1)
    table = markdown_table(score(runs, targets, classes, ScoringConfig(resamples=50), epochs))
    assert (table.count("| hcam |"), table.count("| late |")) == (2, 1)
    assert "too high, because test chose the epoch" in table


def test_best_model(tiny: Scores) -> None:
    assert best_model(tiny, ["majority", "hcam"]) == "hcam"
    assert best_model(tiny, ["majority", "not scored"]) == "majority"
    with pytest.raises(ScoringError, match="not scored"):
        best_model(tiny, ["not scored"])


def test_a_comparison_with_a_model_that_was_not_scored(tiny: Scores) -> None:
    with pytest.raises(ScoringError, match=r"'late'.*compared: \['hcam', 'majority'\]"):
        markdown_table(tiny, [("hcam", "late")])


def test_ablations_stand_apart_and_are_never_bold(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=10)
    skills = {"hcam": 0.5, "hcam/no-context": 0.95, "late": 0.4}
    runs = pl.concat([guess(targets, skill, model) for model, skill in skills.items()])
    table = markdown_table(score(runs, targets, classes, ScoringConfig(resamples=20)))
    first, _, apart = table.partition(f"{ABLATIONS}:")
    assert "no-context" not in first
    assert "| hcam | **" in first
    assert "| hcam/no-context | " in apart
    assert "**" not in apart
