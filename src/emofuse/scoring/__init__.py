"""Scores of a task's models on test: metrics, intervals, paired tests, tables and plots."""

from emofuse.scoring.joining import ScoringError
from emofuse.scoring.plots import plot_confusion, plot_learning, plot_scores, write_plot
from emofuse.scoring.scores import MODELS, Scores, ScoringConfig, in_order, score
from emofuse.scoring.tables import best_model, learning_curves, markdown_table, write_csv, write_runs, write_scores

__all__ = [
    "MODELS",
    "Scores",
    "ScoringConfig",
    "ScoringError",
    "best_model",
    "in_order",
    "learning_curves",
    "markdown_table",
    "plot_confusion",
    "plot_learning",
    "plot_scores",
    "score",
    "write_csv",
    "write_plot",
    "write_runs",
    "write_scores",
]
