"""Trained models in use: their bundles, what they say of a conversation, and serving them."""
