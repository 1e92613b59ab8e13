"""What metrics, and the utterances that they count, are called in all tables and files."""

__all__ = ["ALL", "BEST_ON_TEST", "DECIMALS", "DEV", "ECE", "FOLD_MEAN", "METRIC", "NONZERO", "NOT_COVERED", "SUFFIXES"]

METRIC = "weighted_f1"
"""The metric that models are compared by."""

DEV = "dev/"
"""Prefix of the metrics on dev, by which models, settings and experiments are chosen."""

FOLD_MEAN = "fold_mean/"
"""Prefix of the metrics that are means over folds, printed beside those of pooled folds."""

BEST_ON_TEST = "best_on_test_epoch/"
"""Prefix of the metrics at each run's epoch with the best weighted F1 on test: what a choice on test would give."""

ALL, NONZERO = "all", "nonzero"
"""Which utterances are counted: all; where the classes come from sentiment, also those whose sentiment is not zero."""

SUFFIXES = {ALL: "", NONZERO: "/nonzero"}
"""What the names of metrics end in, by which utterances are counted."""

NOT_COVERED = (
    "Intervals and p-values cover the choice of dialogues in the test set (or speakers, where the protocol names them) "
    "and of training runs. They do not cover other training data, another split, speakers or recordings outside the "
    "corpus, or choices made after looking at this test set."
)
"""What a reader has to know beside every interval, for the foot of a table."""

ECE = "ece"
"""Name of the expected calibration error, beside those of :func:`~emofuse.scoring.metrics.metric_names`."""

DECIMALS = 6
"""Every float that scoring hands on is rounded to this many decimals, so that what is written is stable."""
