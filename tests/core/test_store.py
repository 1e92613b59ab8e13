"""Finished work is made once and taken only when whole, whatever is killed, damaged or deleted."""

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from emofuse.core.store import Entry, Store, StoreError, link

Start = Callable[..., subprocess.Popen[str]]

MAKE_SLOWLY = """
import sys, time
from pathlib import Path
from emofuse.core.store import Store
def make(folder):
    with open("made", "a") as counter:
        counter.write("once\\n")
    time.sleep(0.5)
    (folder / "part").write_text("whole")
entry = Store(Path("store")).ensure("runs", "abc", make)
print(entry.reused, (entry.path / "part").read_text())
"""

DIE_HALF_WAY = """
import os, signal
from pathlib import Path
from emofuse.core.store import Store
def make(folder):
    (folder / "part").write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
Store(Path("store")).ensure("runs", "abc", make)
"""


def fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "part").write_text("whole")
    (folder / "sub" / "manifest.json").write_text("its own")


def contents(folder: Path) -> dict[str, str]:
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return {str(each.relative_to(folder)): each.read_text() for each in files}


WHOLE = {"part": "whole", "sub/manifest.json": "its own"}


def never(folder: Path) -> None:
    raise AssertionError(f"{folder}: made again")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_made_once(store: Store, tmp_path: Path) -> None:
    first = store.ensure("runs", "abc", fill)
    second = store.ensure("runs", "abc", never)
    assert not first.reused
    assert second == Entry(first.path, reused=True, seconds=first.seconds)
    link(second, tmp_path / "out")
    assert contents(tmp_path / "out") == WHOLE


def test_kinds_and_keys_are_kept_apart(store: Store) -> None:
    assert store.find("runs", "abc") is None
    store.ensure("runs", "abc", fill)
    assert store.find("runs", "abc") is not None
    assert store.find("runs", "abd") is None
    assert store.find("features", "abc") is None


def test_of_processes_that_ask_at_once_one_makes_it(tmp_path: Path, start: Start) -> None:
    processes = [start(MAKE_SLOWLY, tmp_path) for _ in range(3)]
    output = sorted(process.communicate(timeout=60)[0] for process in processes)
    assert output == ["False whole\n", "True whole\n", "True whole\n"]
    assert (tmp_path / "made").read_text() == "once\n"


def test_a_maker_that_fails_leaves_nothing(store: Store) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure("runs", "abc", fail)
    assert store.find("runs", "abc") is None
    assert [each.name for each in (store.root / "runs").iterdir() if each.is_dir()] == []
    assert not store.ensure("runs", "abc", fill).reused


def test_a_killed_maker_leaves_nothing_that_is_taken_for_whole(store: Store, tmp_path: Path, start: Start) -> None:
    assert start(DIE_HALF_WAY, tmp_path).wait(timeout=60) == -signal.SIGKILL
    assert len([each for each in (store.root / "runs").iterdir() if each.is_dir()]) == 1
    assert store.find("runs", "abc") is None
    entry = store.ensure("runs", "abc", fill)
    assert not entry.reused
    assert [each.name for each in (store.root / "runs").iterdir() if each.is_dir()] == ["abc"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda entry: (entry / "part").write_text("who"),
        lambda entry: (entry / "part").write_text("Whole"),
        lambda entry: (entry / "part").unlink(),
        lambda entry: (entry / "part").rename(entry / "other"),
        lambda entry: (entry / "sub" / "more").write_text("a stranger"),
        lambda entry: shutil.rmtree(entry / "sub"),
        lambda entry: (entry / "manifest.json").unlink(),
        lambda entry: (entry / "manifest.json").write_text(""),
        lambda entry: (entry / "manifest.json").write_text("[]"),
        lambda entry: (entry / "manifest.json").write_text('{"files": {}, "seconds": 1.0}'),
        lambda entry: (entry / "manifest.json").write_bytes(b"\xff"),
    ],
)
def test_damage_is_noticed_and_mended(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    harm(store.ensure("runs", "abc", fill).path)
    assert store.find("runs", "abc") is None
    entry = store.ensure("runs", "abc", fill)
    assert not entry.reused
    link(entry, tmp_path / "out")
    assert contents(tmp_path / "out") == WHOLE
    assert store.ensure("runs", "abc", never).reused


def test_writing_into_a_linked_file_is_noticed(store: Store, tmp_path: Path) -> None:
    link(store.ensure("runs", "abc", fill), tmp_path / "out")
    (tmp_path / "out" / "part").write_text("changed by hand")
    entry = store.ensure("runs", "abc", fill)
    assert not entry.reused
    link(entry, tmp_path / "out")
    assert contents(tmp_path / "out") == WHOLE


def test_a_link_replaces_what_stands_there_and_nothing_else(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part").write_text("old")
    (out / "mine").write_text("mine")
    link(store.ensure("runs", "abc", fill), out)
    assert contents(out) == {"mine": "mine", **WHOLE}


def test_without_hard_links_files_are_copied(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    entry = store.ensure("runs", "abc", fill)
    link(entry, tmp_path / "out")
    assert contents(tmp_path / "out") == WHOLE
    assert (tmp_path / "out" / "part").stat().st_ino != (entry.path / "part").stat().st_ino


NAMES = st.text("abc", min_size=1, max_size=3)


@settings(max_examples=15)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.binary(max_size=20), min_size=1), min_size=1, max_size=3))
def test_any_files_come_back_as_they_were(files: dict[str, dict[str, bytes]]) -> None:
    def make(folder: Path) -> None:
        for name, inner in files.items():
            (folder / name).mkdir()
            for each, data in inner.items():
                (folder / name / each).write_bytes(data)

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        store.ensure("runs", "abc", make)
        link(store.ensure("runs", "abc", never), Path(folder) / "out")
        found = {
            name: {each.name: each.read_bytes() for each in (Path(folder) / "out" / name).iterdir()} for name in files
        }
        assert found == files


def by_python(path: Path) -> None:
    path.write_text("more than there is room for")


def by_arrow(path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), path)


def by_safetensors(path: Path) -> None:
    # It writes to a name of its own first: so its words for it, not its way there.
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("write", [by_python, by_arrow, by_safetensors])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(store: Store, write: Callable[[Path], None]) -> None:
    store.ensure("runs", "first", fill)

    def make(folder: Path) -> None:
        fill(folder)
        (folder / "big").symlink_to("/dev/full")
        write(folder / "big")

    with pytest.raises(OSError, match=r"No space left on device: .* free; finished work is kept: make room") as error:
        store.ensure("runs", "abc", make)
    assert error.value.errno == errno.ENOSPC
    assert str(store.root) in str(error.value)
    assert [each.name for each in (store.root / "runs").iterdir() if each.is_dir()] == ["first"]
    assert not store.ensure("runs", "abc", fill).reused


def test_another_error_stays_as_it_is(store: Store) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        store.ensure("runs", "abc", lambda folder: by_python(folder / "nowhere" / "part"))


def age(entry: Entry, days: float) -> None:
    then = time.time() - 86_400 * days
    os.utime(entry.path / "manifest.json", (then, then))


def test_prune_removes_what_was_not_used_for_long(store: Store, tmp_path: Path) -> None:
    old, used, young = (store.ensure("runs", key, fill) for key in ("old", "used", "young"))
    for entry in (old, used):
        age(entry, 10)
    link(store.ensure("runs", "used", never), tmp_path / "out")
    size = sum(path.stat().st_size for path in old.path.rglob("*") if path.is_file())
    before = store.sizes()["runs"]
    assert before[0] == 3
    assert store.prune(9) == (1, size)
    assert store.sizes() == {"runs": (2, before[1] - size)}
    assert not store.ensure("runs", "old", fill).reused
    assert store.ensure("runs", "young", never) == Entry(young.path, reused=True, seconds=young.seconds)
    assert contents(tmp_path / "out") == WHOLE


def test_prune_removes_what_killed_processes_left(store: Store, tmp_path: Path, start: Start) -> None:
    assert start(DIE_HALF_WAY, tmp_path).wait(timeout=60) == -signal.SIGKILL
    (store.ensure("features", "abc", fill).path / "manifest.json").unlink()
    assert store.prune(365) == (0, len("half of") + len("whole") + len("its own"))
    assert [each.name for each in store.root.glob("*/*") if each.is_dir()] == []


def test_prune_leaves_what_is_being_made(store: Store) -> None:
    def make(folder: Path) -> None:
        fill(folder)
        assert store.prune(0) == (0, 0)

    assert not store.ensure("runs", "abc", make).reused
    assert store.ensure("runs", "abc", never).reused


def test_prune_leaves_what_is_in_use(store: Store) -> None:
    entry = store.ensure("runs", "abc", fill)
    age(entry, 10)
    with FileLock(store.root / "runs" / "abc.lock"):
        assert store.prune(1) == (0, 0)
    assert store.prune(1)[0] == 1


REMOVE = [
    lambda store, entry: shutil.rmtree(entry.path),
    lambda store, entry: shutil.rmtree(store.root),
    lambda store, entry: (entry.path / "part").unlink(),
    lambda store, entry: (entry.path / "manifest.json").unlink(),
    lambda store, entry: store.prune(0),
]


@pytest.mark.parametrize("remove", REMOVE)
def test_what_vanished_before_it_was_linked_is_an_error(
    store: Store, tmp_path: Path, remove: Callable[[Store, Entry], object]
) -> None:
    entry = store.ensure("runs", "abc", fill)
    remove(store, entry)
    with pytest.raises(StoreError, match="was removed while a stage worked with it; run again"):
        link(entry, tmp_path / "out")


@pytest.mark.parametrize("at_last", [False, True])
def test_a_store_that_is_deleted_under_its_maker_keeps_nothing(store: Store, tmp_path: Path, at_last: bool) -> None:
    def make(folder: Path) -> None:
        fill(folder)
        shutil.rmtree(store.root)
        if not at_last:
            (folder / "more").write_text("whole")

    with pytest.raises(StoreError, match="was removed while a stage worked with it"):
        store.ensure("runs", "abc", make)
    assert store.find("runs", "abc") is None
    link(store.ensure("runs", "abc", fill), tmp_path / "out")
    assert contents(tmp_path / "out") == WHOLE


def test_what_a_deletion_left_of_an_entry_is_never_linked_as_nothing(store: Store, tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        fill(folder)
        for each in list(folder.iterdir()):
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    entry = store.ensure("runs", "abc", make)
    with pytest.raises(StoreError):
        link(entry, tmp_path / "out")
    assert not store.ensure("runs", "abc", fill).reused


def test_an_entry_that_is_being_linked_is_not_pruned(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = store.ensure("runs", "abc", fill)
    pruned, hard_link = [], os.link

    def prune_first(source: Path, place: Path) -> None:
        with ThreadPoolExecutor(1) as thread:  # A lock of this thread's own would let it in.
            pruned.append(thread.submit(store.prune, 0).result())
        hard_link(source, place)

    monkeypatch.setattr(os, "link", prune_first)
    link(entry, tmp_path / "out")
    assert pruned == [(0, 0), (0, 0)]
    assert contents(tmp_path / "out") == WHOLE


def test_the_store_may_be_deleted(store: Store, tmp_path: Path) -> None:
    assert store.sizes() == {}
    assert store.prune(0) == (0, 0)
    link(store.ensure("runs", "abc", fill), tmp_path / "out")
    shutil.rmtree(store.root)
    assert contents(tmp_path / "out") == WHOLE
    assert store.find("runs", "abc") is None
    assert not store.ensure("runs", "abc", fill).reused
