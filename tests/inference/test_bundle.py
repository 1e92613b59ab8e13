"""A bundle carries all that is needed, and what is wrong with one is reported."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from emofuse import load
from emofuse.core.files import digest, file_digest, write_digests
from emofuse.inference.bundle import Bundle, BundleError, read_bundle, write_bundle
from emofuse.inference.card import model_card
from emofuse.inference.models_on_disk import find
from emofuse.inference.provenance import trained_on

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
    content = json.loads((folder / "bundle.json").read_text())
    assert content["classes"] == ["neutral", "happy", "sad", "angry"]
    assert content["protocol"]["epoch_chosen_on"] == "dev weighted F1"
    assert content["scores"]["weighted_f1"]["n_runs"] == 2
    assert content["features"]["text"]["options"]["layers"] == [2, 4, 6]
    assert content["features"]["text"]["identity"]["revision"]
    card = (folder / "README.md").read_text()
    mean = 100 * content["scores"]["weighted_f1"]["mean"]
    for each in (
        "# demo/hcam",
        "neutral, happy, sad, angry",
        f"| weighted F1 | {mean:.1f} |",
        "| transcript | script |",
    ):
        assert each in card
    assert content["features"]["text"]["identity"]["id"] in card
    assert "trained on demo (English, synthetic speech, not real people), weighted F1" in card


def test_a_model_that_was_not_scored_has_a_card_that_says_so(bundle: Bundle) -> None:
    card = model_card(replace(bundle.manifest, protocol=None, scores=None))
    assert card.count("not been scored when this bundle was written") == 3


@pytest.mark.parametrize("labelled", [3, [], [3], {"train": 3}, None])
def test_a_protocol_that_counts_nothing_has_a_card(bundle: Bundle, labelled: Any) -> None:
    """A bundle comes from anywhere."""
    protocol = {**(bundle.manifest.protocol or {}), "labelled_utterances": labelled}
    assert "Labelled utterances: not known." in model_card(replace(bundle.manifest, protocol=protocol))


def test_the_front_matter_is_what_the_hub_reads(bundle: Bundle, folder: Path) -> None:
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.license, data.language) == ("emofuse", "mit", "en")
    assert data.datasets == ["demo"]
    assert data.pipeline_tag == "audio-classification"
    assert {"emotion-recognition-in-conversation", "audio", "text", "hcam"} <= set(data.tags)
    assert data.base_model is None  # its encoders are no models of the hub
    assert data.model_name == "demo/hcam"
    assert bundle.manifest.scores is not None
    found = {each.metric_name: each for each in data.eval_results}
    first = found["Weighted F1, mean of 2 runs"]
    assert (first.metric_type, first.metric_args) == ("f1", {"average": "weighted"})
    assert first.metric_value == bundle.manifest.scores["weighted_f1"]["mean"]
    assert {each.dataset_split for each in data.eval_results} == {"test"}
    assert len(found) == 4


def test_the_front_matter_of_a_corpus_of_one_s_own(bundle: Bundle) -> None:
    """Terms unknown to the hub, an unknown language, and an encoder from the hub."""
    features = bundle.manifest.features["text"]
    theirs = replace(features, identity=features.identity | {"id": "google-bert/bert-base-uncased"})
    protocol = {**(bundle.manifest.protocol or {}), "corpus": 'my: "corpus"\n- #1'}
    features = bundle.manifest.features | {"text": theirs}
    own = replace(bundle.manifest, protocol=protocol, features=features, language=None)
    data = ModelCard(model_card(own)).data
    assert (data.license, data.to_dict()["license_name"], data.language) == ("other", "terms-of-the-corpus", None)
    assert ModelCard(model_card(replace(own, language="German"))).data.language == "de"
    assert data.datasets == ['my: "corpus"\n- #1']
    assert data.base_model == ["google-bert/bert-base-uncased"]
    unscored = ModelCard(model_card(replace(bundle.manifest, protocol=None, scores=None))).data
    assert (unscored.eval_results, unscored.datasets) == (None, None)


def test_the_card_has_the_sections_of_a_model_card(bundle: Bundle) -> None:
    card = model_card(bundle.manifest)
    titles = re.findall("^## (.*)$", card, re.MULTILINE)
    assert titles == [
        *("How to use", "Training data", "Training", "Evaluation", "Intended use", "Limits", "Terms", "Citation"),
    ]
    assert "Labelled utterances: train " in card
    assert "Article 5(1)(f)" in card
    assert "not legal advice" in card
    assert "https://arxiv.org/abs/2304.06910" in card


@pytest.mark.parametrize(
    ("name", "published", "says"),
    [
        ("hcam", (), "Where no turn has a transcript, the audio network answers alone"),
        ("hcam", ("audio",), "So the text network answers alone, and says so; without transcripts none can."),
        ("hcam", ("audio", "text"), "So it cannot answer for new recordings."),
        ("audio-context", (), "The model only reads sound and cannot predict without."),
        ("text-utterance", (), "The model only reads transcripts and cannot predict without."),
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


def test_words_of_a_corpus_are_text_in_the_card(bundle: Bundle) -> None:
    features = bundle.manifest.features["text"]
    owned = replace(features, identity=features.identity | {"terms": "<script>alert(1)</script>\n# Free"})
    labels = ("<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "R&B", "b|c")
    protocol = {"classes": list(labels)}
    changed = replace(bundle.manifest, classes=labels, protocol=protocol, features={"audio": owned, "text": owned})
    card = model_card(changed)
    assert "<" not in card
    assert "](javascript" not in card
    assert card.count("\n# ") == 1  # its title
    for shown in ("&lt;img src=x onerror=alert(1)&gt;", "R&amp;B", "| classes | &lt;img", "b\\|c |"):
        assert shown in card


def test_a_bundle_is_replaced_and_other_things_are_not(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    write_bundle(bundle, folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="already exists and is something else"):
        write_bundle(bundle, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file of a bundle, and its digests with it, as somebody who knows them would."""
    path, manifest = folder / name, folder / "bundle.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    content = json.loads(manifest.read_text())
    digests = content.pop("sha256")
    if name != "bundle.json":
        digests[name] = file_digest(path)
    manifest.write_text(json.dumps({**content, "sha256": {**digests, "bundle.json": digest(content)}}))


def reseal(folder: Path) -> None:
    """Bring the digests of all files up to date."""
    files = [each for each in (folder / "networks").rglob("*") if each.is_file()]
    digests = {each.relative_to(folder).as_posix(): file_digest(each) for each in files}
    rewrite(folder, "bundle.json", lambda content: content["sha256"].update(digests))


WEIGHTS = "networks/text-context/model.safetensors"


def test_damage_is_named(folder: Path) -> None:
    weights = folder / WEIGHTS
    whole = weights.read_bytes()
    for harmed in (whole[: len(whole) // 2], whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]):
        weights.write_bytes(harmed)
        with pytest.raises(BundleError, match=r"text-context/model.safetensors: damaged, or exchanged: its digest"):
            load(folder)
    weights.unlink()
    with pytest.raises(BundleError, match=r"text-context/model.safetensors: not found"):
        load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_damage_of_a_trained_model_is_named(file: str, project: Project, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project.root, copy, ignore=shutil.ignore_patterns("audio", ".emofuse"))
    for path in (copy / "data/models/demo/minilm/context").glob(f"*/{file}"):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"0", b"1", 1) if file == "config.json" else whole[:-4] + b"\1" + whole[-3:])
    with pytest.raises(BundleError, match=rf"minilm/context/seed-\d-fold-0/{file}: damaged since it was written"):
        find(copy / project.model("hcam").relative_to(project.root))


def test_weights_that_are_not_of_the_network_are_named(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    reseal(folder)
    with pytest.raises(BundleError, match=r"text-context/model.safetensors: damaged"):
        load(folder)
    shutil.copyfile(folder / "networks/audio-context/model.safetensors", folder / WEIGHTS)
    reseal(folder)
    with pytest.raises(BundleError, match=r"text-context/model.safetensors: damaged, or not of its config.json"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float) -> None:
    weights = load_file(folder / WEIGHTS)
    name, tensor = max(weights.items(), key=lambda item: item[1].numel())
    tensor.view(-1)[7] = value
    save_file(weights, folder / WEIGHTS)
    reseal(folder)
    with pytest.raises(BundleError, match=rf"text-context/model.safetensors: damaged: {re.escape(name)} has values"):
        load(folder)


def test_a_project_s_weights_that_are_no_numbers_are_refused(project: Project, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(project.root, tmp_path / "project", ignore=shutil.ignore_patterns("conversations")))
    for path in copy.glob("data/models/demo/logmel+minilm/concat/*/model.safetensors"):
        weights = {
            name: each * float("nan") if each.is_floating_point() else each for name, each in load_file(path).items()
        }
        path.unlink()
        save_file(weights, path)
        write_digests(path.parent)
    with pytest.raises(BundleError, match="values that are no finite numbers"):
        load(copy / "data/models/demo/logmel+minilm/concat")


def test_a_manifest_that_was_changed_by_hand_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(manifest | {"max_seconds": 41.0}))
    with pytest.raises(BundleError, match=r"bundle.json: damaged, or changed by hand"):
        find(folder)


def test_classes_in_another_order_are_refused(folder: Path) -> None:
    rewrite(folder, "bundle.json", lambda content: content["classes"].reverse())
    with pytest.raises(BundleError, match=r"config.json: classes are \['neutral', .*; in bundle.json \['angry'"):
        find(folder)


@pytest.mark.parametrize("model", ["package:antigravity/model", "package:this", "package:"])
def test_a_bundle_names_only_packages_of_the_list(folder: Path, model: str) -> None:
    rewrite(folder, "bundle.json", lambda content: content["features"]["text"]["options"].update(model=model))
    with pytest.raises(BundleError, match=r"text.options.model: .*; of packages a bundle may name \['gt_all"):
        find(folder)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content.update(format=1), "bundle.json.format: 1"),
        (lambda content: content.update(networks=["../../elsewhere"]), "bundle.json.networks.0"),
        (
            lambda content: content.update(networks=["hcam"]),
            "reads from audio-context, which is not among the networks",
        ),
        (lambda content: content["networks"].remove("hcam"), "the model's own, 'hcam', is not among them"),
        (lambda content: content["networks"].append("hcam"), "one stands twice"),
        (lambda content: content["networks"].append("cma"), "cma/config.json: No such file"),
        (lambda content: content.update(classes=None), "bundle.json.classes"),
        (lambda content: content.update(classes=["neutral"]), "bundle.json.classes"),
        (lambda content: content.update(classes=["sad", "sad"]), "one stands twice"),
        (lambda content: content.update(max_seconds=-5), "bundle.json.max_seconds: -5"),
        (lambda content: content.update(max_seconds=0), "bundle.json.max_seconds: 0"),
        (lambda content: content.update(max_seconds=1e300), "bundle.json.max_seconds: 1e.300"),
        (lambda content: content.update(seed=-1), "bundle.json.seed: -1"),
        (lambda content: content.update(runs=0), "bundle.json.runs: 0"),
        (lambda content: content.update(dev={}), "dev: weighted_f1 is missing"),
        (lambda content: content.update(dev={"weighted_f1": None}), "bundle.json.dev.weighted_f1"),
        (lambda content: content["features"].pop("audio"), r"the model reads \['audio'\]"),
        (lambda content: content["features"]["audio"].pop("family"), "features.audio.family: missing"),
        # A family is a module that is imported.
        (lambda content: content["features"]["audio"].update(family="base"), "features.audio.family: 'base'"),
        (lambda content: content["features"]["text"].update(family="..cli"), "features.text.family: '..cli'"),
        (
            lambda content: content.update(scores={"weighted_f1": {"mean": 0.5}}),
            "scores.weighted_f1: expected mean, sd",
        ),
        (lambda content: content.pop("protocol"), "bundle.json.protocol: missing"),
    ],
)
def test_a_malformed_manifest_is_refused(folder: Path, change: Callable[[Any], Any], fault: str) -> None:
    rewrite(folder, "bundle.json", change)
    with pytest.raises(BundleError, match=fault):
        find(folder)


@pytest.mark.parametrize("name", ["hcam", "audio-utterance", "text-context"])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content.pop("model"), "config.json.model: missing"),
        (lambda content: content.update(model="cma"), "model is 'cma'; expected|dims is missing"),
        (lambda content: content.update(model=5), "config.json.model: 5"),
        (lambda content: content.pop("reads"), "config.json.reads: missing"),
        (lambda content: content.update(reads="lips"), "config.json.reads: 'lips'"),
        (lambda content: content.pop("classes"), "config.json.classes: missing"),
        (lambda content: content.update(classes="neutral"), "config.json.classes: 'neutral'"),
        (lambda content: content.pop("config"), "config is missing"),
        (lambda content: content.update(config=[]), r"config.json.config: \[\]"),
        (lambda content: content["config"].pop("network"), "config.network: expected a mapping"),
        (lambda content: content["config"].update(network=3), "config.network: expected a mapping"),
        (lambda content: content.pop("dims" if "dims" in content else "dim"), "dims? is missing"),
        (lambda content: content.update(dim="wide", dims="wide"), "config.json.dim"),
        (lambda content: content.update(dim=10**12, dims={"audio": 10**12, "text": 1}), "config.json.dim"),
        (lambda content: content.update(weights={"lips": 1.0}), "config.json.weights"),
        (lambda content: content.update(weights=7), "config.json.weights: 7"),
    ],
)
def test_a_malformed_network_is_refused(folder: Path, name: str, change: Callable[[Any], Any], fault: str) -> None:
    rewrite(folder, f"networks/{name}/config.json", change)
    with pytest.raises(BundleError, match=fault):
        find(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"a": NaN}', "\ud800"])
@pytest.mark.parametrize("name", ["bundle.json", "networks/hcam/config.json"])
def test_what_is_no_json_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, errors="surrogatepass")
    if name != "bundle.json":
        reseal(folder)
    with pytest.raises(BundleError):
        find(folder)


@pytest.mark.parametrize("name", ["bundle.json", "networks/hcam/config.json", "networks/hcam/model.safetensors"])
def test_a_named_pipe_in_a_bundle_is_refused_and_waited_for_by_nobody(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match=f"{name}: no(t found,| file)"):
        find(folder)


def test_a_file_that_is_far_too_large_is_not_read(folder: Path) -> None:
    with (folder / "bundle.json").open("r+b") as stream:
        stream.truncate(2**36)
    with pytest.raises(BundleError, match=r"bundle.json: no file of a bundle; expected one of 16,777,216 bytes"):
        find(folder)


ODD = (None, 0, -1, True, "", "x", [], {}, [None], {"": {}}, 1e308, "../..", "\0", 2**70, 300 * "a", "<b>")


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in a tree of JSON."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*place, key)
        yield from places(value, (*place, key))


@pytest.mark.parametrize("name", ["bundle.json", "networks/hcam/config.json"])
def test_whatever_a_bundle_says_is_refused_or_can_be_told(folder: Path, name: str) -> None:
    """One value at a time is exchanged or missing, and the digests are right; nothing but a clear refusal is raised."""
    whole, choose = (folder / name).read_text(), random.Random(0)
    told: list[str] = []
    manifest = (folder / "bundle.json").read_text()
    for _ in range(150):

        def change(content: Any) -> None:
            *before, last = choose.choice([each for each in places(content) if each[0] != "sha256"])
            for key in before:
                content = content[key]
            if choose.random() < 0.3:
                del content[last]
            else:
                content[last] = choose.choice(ODD)

        rewrite(folder, name, change)
        try:
            found = find(folder).manifest
            assert model_card(found)
            assert trained_on(found)
        except BundleError as error:
            told.append(str(error))
        (folder / "bundle.json").write_text(manifest)
        (folder / name).write_text(whole)
    assert 10 < len(told) < 140
    assert [each for each in told if str(folder) not in each or len(each) > 2_000] == []


def test_a_bundle_without_digests_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["sha256"]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"bundle.json: damaged, or changed by hand"):
        find(folder)


def test_a_network_of_another_version_is_refused(folder: Path) -> None:
    rewrite(folder, "networks/hcam/config.json", lambda content: content["config"]["network"].update(quantum=True))
    with pytest.raises(BundleError, match=r"hcam/config.json.quantum: .*another version"):
        load(folder)


def test_what_is_no_model_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="neither a bundle nor a model's folder"):
        find(tmp_path)
    with pytest.raises(BundleError, match="no trained runs in it"):
        find(project.root / "data/models/demo")
