"""Frozen features on disk: shards, extraction, reading."""
