"""Worse conditions than those of training: their features, and the predictions under them."""
