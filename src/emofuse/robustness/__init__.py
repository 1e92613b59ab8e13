"""Evaluation under worse conditions than in training."""
