"""Decoding and storing sound, many clips at once."""
