"""Finished shards where all machines of a cluster reach them: a shared folder, or any URL that fsspec opens."""

import hashlib
from pathlib import Path

import fsspec
import pyarrow as pa

__all__ = ["Storage"]


class Storage:
    """Shards by key. An object's name carries its content's digest, so half or altered objects are never taken.

    Args:
        url: a folder, or a URL such as ``s3://bucket/prefix``
    """

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else str(Path(url).absolute())
        self._files, self._root = fsspec.url_to_fs(self.url)

    def put(self, key: str, data: pa.Buffer | bytes) -> None:
        """Keep the bytes of a shard; two writers of one key write the same object."""
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(f"{self._root}/{key}.{hashlib.sha256(data).hexdigest()}.parquet", bytes(data))

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a shard, or None if it is not there as a whole."""
        self._files.invalidate_cache()  # Others write here.
        for name in self._files.glob(f"{self._root}/{key}.*.parquet"):
            data: bytes = self._files.cat_file(name)
            if f".{hashlib.sha256(data).hexdigest()}." in name:
                return data
        return None
