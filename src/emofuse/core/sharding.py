"""How a corpus is spread over files: by a hash of the dialogue, so that a changed dialogue changes one file."""

import hashlib

__all__ = ["shard_name", "shard_of"]


def shard_of(dialogue_id: str, shards: int) -> int:
    """Return the shard of a dialogue; a new dialogue moves no other."""
    return int.from_bytes(hashlib.sha256(dialogue_id.encode()).digest()[:8], "big") % shards


def shard_name(index: int, shards: int) -> str:
    """Return the fixed file name of a shard."""
    return f"shard-{index:05d}-of-{shards:05d}.parquet"
