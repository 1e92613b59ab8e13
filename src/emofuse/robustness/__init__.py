"""Worse conditions than those of training: their features, the predictions under them, and the scores of these."""
