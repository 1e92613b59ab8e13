"""Shards in shared storage are taken when whole, whatever fsspec reaches: folders, memory, S3."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from emofuse.features.storage import Storage

DATA = pa.py_buffer(b"the bytes of a shard" * 1000)


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_server"))
        fsspec.filesystem("s3").makedirs("bucket", exist_ok=True)
        return f"s3://bucket/{tmp_path.name}"
    return str(tmp_path / "shared") if request.param == "folder" else f"memory://{tmp_path.name}"


def test_what_was_put_comes_back_and_nothing_else(url: str) -> None:
    storage = Storage(url)
    assert storage.get("abc") is None
    storage.put("abc", DATA)
    storage.put("abc", DATA)
    assert storage.get("abc") == Storage(url).get("abc") == DATA.to_pybytes()
    assert storage.get("ab") is None


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: b"T" + data[1:], lambda data: b""])
def test_half_and_altered_shards_are_not_taken_and_may_be_put_again(url: str, harm: Callable[[bytes], bytes]) -> None:
    storage = Storage(url)
    storage.put("abc", DATA)
    files, root = fsspec.url_to_fs(storage.url)
    (name,) = files.find(root)
    files.pipe_file(name, harm(DATA.to_pybytes()))
    assert storage.get("abc") is None
    storage.put("abc", DATA)
    assert storage.get("abc") == DATA.to_pybytes()


def test_a_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage("shared").url == str(tmp_path / "shared")
