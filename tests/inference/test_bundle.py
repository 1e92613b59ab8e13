"""A bundle carries all that is needed, and what is wrong with one is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emofuse.inference import Bundle, BundleError, find, load, write_bundle
from emofuse.inference.bundle import read_bundle
from emofuse.inference.card import model_card

Project = Any


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """HCAM's bundle, on disk."""
    write_bundle(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_it_holds_the_networks_and_nothing_else(bundle: Bundle, folder: Path) -> None:
    networks = {path.relative_to(folder / "networks").parent.as_posix() for path in folder.rglob("config.json")}
    assert networks == {
        "hcam",
        *(f"{name}-{level}" for name in ("audio", "text") for level in ("utterance", "context")),
    }
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        *("bundle.json", "README.md", "config.json", "model.safetensors")
    }
    assert read_bundle(folder).manifest == bundle.manifest


def test_equal_models_give_equal_bundles(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    write_bundle(find(folder), tmp_path / "again")
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_it_says_protocol_scores_labels_and_encoders(bundle: Bundle, folder: Path) -> None:
    said = json.loads((folder / "bundle.json").read_text())
    assert said["classes"] == ["neutral", "happy", "sad", "angry"]
    assert said["protocol"]["epoch_chosen_on"] == "dev weighted F1"
    assert said["scores"]["weighted_f1"]["n_runs"] == 2
    assert said["features"]["text"]["options"]["layers"] == [2, 4, 6]
    assert said["features"]["text"]["identity"]["revision"]
    card = (folder / "README.md").read_text()
    mean = 100 * said["scores"]["weighted_f1"]["mean"]
    for each in (
        "# demo/hcam",
        "neutral, happy, sad, angry",
        f"| weighted F1 | {mean:.1f} |",
        "| transcript | script |",
    ):
        assert each in card
    assert said["features"]["text"]["identity"]["id"] in card


def test_a_model_that_was_not_scored_has_a_card_that_says_so(bundle: Bundle) -> None:
    card = model_card(replace(bundle.manifest, protocol=None, scores=None))
    assert card.count("not scored when this bundle was written") == 2


@pytest.mark.parametrize(
    ("name", "published", "says"),
    [
        ("hcam", (), "Where no turn has a transcript, the audio network answers alone"),
        ("hcam", ("audio",), "So the text network answers alone, and says so; without transcripts none can."),
        ("hcam", ("audio", "text"), "So it cannot answer for new recordings."),
        ("audio-context", (), "The model reads sound alone, and cannot answer without."),
        ("text-utterance", (), "The model reads transcripts alone, and cannot answer without."),
    ],
)
def test_the_card_says_what_answers_where_something_is_missing(
    project: Project, name: str, published: tuple[str, ...], says: str
) -> None:
    manifest = find(project.model(name)).manifest
    features = {
        each: replace(features, family="published") if each in published else features
        for each, features in manifest.features.items()
    }
    card = model_card(replace(manifest, features=features))
    assert says in card
    for each in published:
        assert f"Its {each} features are values that others published" in card


def test_the_card_names_the_terms_of_the_corpus(bundle: Bundle) -> None:
    assert "so its terms apply to them: this project's own, MIT." in model_card(bundle.manifest)
    features = bundle.manifest.features["text"]
    owned = replace(features, identity=features.identity | {"terms": "the owner's"})
    card = model_card(replace(bundle.manifest, features={"audio": owned, "text": owned}))
    assert "so its terms apply to them: the owner's." in card


def test_a_bundle_is_replaced_and_other_things_are_not(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    write_bundle(bundle, folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="there is something else already"):
        write_bundle(bundle, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_damage_is_named(folder: Path) -> None:
    weights = folder / "networks/text-context/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"text-context/model.safetensors: damaged"):
        load(folder)
    shutil.copyfile(folder / "networks/audio-context/model.safetensors", weights)
    with pytest.raises(BundleError, match=r"text-context/model.safetensors: damaged, or not of its config.json"):
        load(folder)
    weights.unlink()
    with pytest.raises(BundleError, match=r"text-context/model.safetensors: not found"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("format", 2, "bundle.json.format: 2"),
        ("networks", ["../../elsewhere"], "bundle.json.networks.0"),
        ("classes", None, "bundle.json.classes"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder: Path, key: str, value: Any, fault: str) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(BundleError, match=fault):
        find(folder)


def test_a_network_of_another_version_is_refused(folder: Path) -> None:
    path = folder / "networks/hcam/config.json"
    config = json.loads(path.read_text())
    config["config"]["network"]["quantum"] = True
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"hcam/config.json.quantum: .*another version"):
        load(folder)


def test_what_is_no_model_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="neither a bundle nor a model's folder"):
        find(tmp_path)
    with pytest.raises(BundleError, match="no trained runs in it"):
        find(project.root / "data/models/demo")
