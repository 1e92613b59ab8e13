"""Trained models in use: bundles, predictions, and serving."""
