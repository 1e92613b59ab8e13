"""Weights as hubs and folders hold them: found, checked, and loaded exactly as transformers loads them."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from emofuse.encoders import EncoderError, load
from emofuse.encoders.weights import Source, load_network, locate

COMMIT = "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"
CLIP = (0.1 * np.random.default_rng(0).standard_normal(9_000)).astype(np.float32)
CONTENT = {"speech": CLIP, "text": "a e i o u"}
OLD_NAMES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "LayerNorm.weight": "LayerNorm.gamma",
    "LayerNorm.bias": "LayerNorm.beta",
}
"""Names in current checkpoints, and in those of older days that the hub still serves."""

Weights = dict[str, torch.Tensor]


def pretrained(kind: str, heads: str, folder: Path) -> Weights:
    """Give the weights of a kind's folder as its publisher has them: beside those of heads for pretraining."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.from_pretrained(folder)
    network = getattr(transformers, heads)(config)
    prefix = network.base_model_prefix
    others = ((name, each) for name, each in network.state_dict().items() if not name.startswith(f"{prefix}."))
    weights = {name: each.clone() for name, each in others}
    return weights | {f"{prefix}.{name}": each for name, each in load_file(folder / "model.safetensors").items()}


def old(weights: Weights) -> Weights:
    for new, name in OLD_NAMES.items():
        weights = {key.replace(new, name): each for key, each in weights.items()}
    return weights


def half(weights: Weights) -> Weights:
    return {name: each.half() if each.is_floating_point() else each for name, each in weights.items()}


def write_bin(weights: Weights, folder: Path, legacy: bool = False) -> None:
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)


def write_sharded(weights: Weights, folder: Path, stem: str = "pytorch_model", ending: str = "bin") -> None:
    files = [f"{stem}-0000{each}-of-00002.{ending}" for each in (1, 2)]
    parts: list[Weights] = [{}, {}]
    for number, (name, each) in enumerate(weights.items()):
        parts[number % 2][name] = each.contiguous()
    for file, part in zip(files, parts, strict=True):
        if ending == "bin":
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, {"format": "pt"})
    placed = {name: files[number % 2] for number, name in enumerate(weights)}
    index = {"metadata": {}, "weight_map": placed}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))


WRITERS: dict[str, Callable[[Weights, Path], None]] = {
    "bin": write_bin,
    "bin of half precision": lambda weights, folder: write_bin(half(weights), folder),
    "bin of old names": lambda weights, folder: write_bin(old(weights), folder),
    "bin of torch before 1.6": lambda weights, folder: write_bin(old(half(weights)), folder, legacy=True),
    "bins": write_sharded,
    "safetensors": lambda weights, folder: save_file(half(weights), folder / "model.safetensors", {"format": "pt"}),
    "several safetensors": lambda weights, folder: write_sharded(weights, folder, "model", "safetensors"),
}
KINDS = {"group": ("speech", "Wav2Vec2ForPreTraining"), "bert": ("text", "BertForPreTraining")}


@pytest.fixture
def published(folders: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Make a folder as a publisher has it: ``published("bert", "bin")``."""

    def make(kind: str, form: str = "bin") -> Path:
        folder = tmp_path / "published"
        shutil.copytree(folders(kind), folder, ignore=shutil.ignore_patterns("*.safetensors"))
        WRITERS[form](pretrained(kind, KINDS[kind][1], folders(kind)), folder)
        return folder

    return make


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, of a machine without a network."""
    place = tmp_path / "cache"
    place.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return place


def lay_out(folder: Path, cache: Path, commit: str = COMMIT) -> Path:
    """Lay a folder's files out as the hub's client does; return the commit's folder."""
    root = cache / "models--facebook--wav2vec2-base"
    snapshot = root / "snapshots" / commit
    for each in (snapshot, root / "blobs", root / "refs"):
        each.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def options(model: object, **others: Any) -> dict[str, Any]:
    return {"model": str(model), "labels_seen": False} | others


def fails(source: Callable[[], object], fault: str) -> None:
    """Hold a failure to one clear line."""
    with pytest.raises(EncoderError, match=fault) as caught:
        source()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_loaded_as_transformers_loads_them(kind: str, form: str, published: Callable[..., Path]) -> None:
    """Beside heads that nobody needs here; equal to the last bit, and equal to what was written."""
    folder = published(kind, form)
    network = load_network(locate(str(folder)))
    found, theirs = network.state_dict(), AutoModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert found.keys() == theirs.keys()
    used = {name: each for name, each in found.items() if "pooler" not in name and "masked_spec" not in name}
    assert all(torch.equal(each, theirs[name]) for name, each in used.items())
    assert all(each.dtype != torch.float16 for each in found.values())
    assert not network.training


@pytest.mark.parametrize("form", ["bin", "bins", "safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pinned_commit_of_the_cache_gives_the_features_of_its_folder(
    kind: str, form: str, published: Callable[..., Path], cache: Path
) -> None:
    family, folder = KINDS[kind][0], published(kind, form)
    small = {"max_tokens": 24} if family == "text" else {}
    lay_out(folder, cache)
    hub = load(family, options("facebook/wav2vec2-base", revision=COMMIT, **small), "here")
    own = load(family, options(folder, **small), "here")
    np.testing.assert_array_equal(*(next(each.encode([CONTENT[family]])) for each in (hub, own)))
    assert (hub.identity["id"], hub.identity["revision"]) == ("facebook/wav2vec2-base", COMMIT)
    assert hub.identity["weights"] == own.identity["weights"]


def test_the_digest_of_the_file_that_is_read_is_part_of_the_identity(published: Callable[..., Path]) -> None:
    folder = published("bert", "bin")
    written = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    assert locate(str(folder), sha256=written).identity["weights"] == written
    fails(lambda: locate(str(folder), sha256="0" * 64), rf"sha256 of pytorch_model.bin is {written}; expected 0{{64}}$")
    WRITERS["safetensors"](load_file_of(folder), folder)
    safe = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert locate(str(folder), sha256=safe).weights == "model.safetensors"


def load_file_of(folder: Path) -> Weights:
    weights: Weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return weights


def test_the_digest_of_several_files_is_that_of_their_sums(published: Callable[..., Path]) -> None:
    folder = published("bert", "bins")
    lines = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in sorted(folder.glob("*.bin"))]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert locate(str(folder), sha256=expected).identity["weights"] == expected
    fails(lambda: locate(str(folder), sha256="0" * 64), "sha256 of the list of 2 files of weights is")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("keep", [0, 1, 30, 0.5, -1])
def test_a_file_that_is_cut_short_is_one_clear_line(keep: float, legacy: bool, published: Callable[..., Path]) -> None:
    path = published("group") / "pytorch_model.bin"
    write_bin(load_file_of(path.parent), path.parent, legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    fails(
        lambda: load_network(locate(str(path.parent))),
        "^folder:published cannot be loaded: pytorch_model.bin is damaged or cut short$",
    )


class Stranger:
    """Runs code wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("form", ["bin", "bins"])
def test_a_pickle_that_asks_for_more_than_tensors_is_not_run(
    form: str, legacy: bool, published: Callable[..., Path], tmp_path: Path
) -> None:
    folder = published("group", form)
    name = "pytorch_model.bin" if form == "bin" else "pytorch_model-00002-of-00002.bin"
    torch.save({"x": Stranger(tmp_path / "ran")}, folder / name, _use_new_zipfile_serialization=not legacy)
    fails(lambda: load_network(locate(str(folder))), rf"{name} holds more than weights \(posix.mkdir\), which is not")
    assert not (tmp_path / "ran").exists()


def test_weights_beside_which_an_adapter_lies_are_refused(published: Callable[..., Path]) -> None:
    folder = published("bert")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    fails(lambda: locate(str(folder)), "folder:published cannot be loaded: adapter_config.json: an adapter lies beside")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"add_adapter": True}, "add_adapter: true in config.json: layers behind the transformer are not applied"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights in config.json"),
    ],
)
def test_a_configuration_that_asks_for_more_is_refused(
    change: dict[str, Any], fault: str, published: Callable[..., Path]
) -> None:
    path = published("group") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    fails(lambda: locate(str(path.parent)), fault)


def test_weights_of_layers_behind_the_transformer_are_refused(published: Callable[..., Path]) -> None:
    folder = published("group")
    write_bin(load_file_of(folder) | {"wav2vec2.adapter.layers.0.conv.bias": torch.zeros(4)}, folder)
    fails(lambda: load_network(locate(str(folder))), r"1 of its weights are not used, such as .*adapter.layers.0")


def test_what_the_cache_lacks_is_named(published: Callable[..., Path], cache: Path) -> None:
    def find(**others: Any) -> Source:
        return locate("facebook/wav2vec2-base", COMMIT, needs=("preprocessor_config.json",), **others)

    absent = f"^facebook/wav2vec2-base cannot be loaded: commit {COMMIT} is not in the local cache, and the hub is not"
    asked = "asked, since HF_HUB_OFFLINE is set$"
    fails(find, f"{absent} {asked}")
    fails(lambda: find(ask_hub=True), f"{absent} {asked}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        fails(find, f"{absent} asked$")
    snapshot = lay_out(published("group", "bins"), cache, "1" * 40)
    fails(find, f"commit {COMMIT} is not in the local cache")
    snapshot.rename(snapshot.parent / COMMIT)
    assert find().weights == "pytorch_model.bin.index.json"
    removed = {
        "pytorch_model-00001-of-00002.bin": "1 of its 2 files of weights are missing, such as pytorch_model-00001",
        "pytorch_model.bin.index.json": "it has no weights; expected model.safetensors or pytorch_model.bin",
        "preprocessor_config.json": "preprocessor_config.json is not among its files in the local cache",
        "config.json": "config.json is not among its files in the local cache",
    }
    for name, fault in removed.items():
        (snapshot.parent / COMMIT / name).unlink()
        fails(find, f"{fault}.*, and the hub is not {asked}")


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(cache: Path) -> None:
    fault = r"^\./models/nowhere cannot be loaded: there is no such folder, and it is not a hub id: "
    fails(lambda: locate("./models/nowhere", COMMIT), fault)


def test_a_copy_of_the_cache_is_recognised(published: Callable[..., Path], cache: Path) -> None:
    repository = lay_out(published("group"), cache).parents[1]
    fails(lambda: locate(str(repository)), "it has no weights; .* whose folders are those in snapshots/$")


def test_an_index_cannot_name_a_file_elsewhere(published: Callable[..., Path]) -> None:
    folder = published("bert", "bins")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"x": "../other/pytorch_model.bin"}}')
    fails(
        lambda: locate(str(folder)),
        "index.json names the file '../other/pytorch_model.bin', which is outside the folder",
    )


@pytest.fixture
def hub(
    published: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, list[str]]]:
    """A hub on this machine with one repository: the folder that it serves, and names of the files it was asked for."""
    folder, asked = published("group"), []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, whole: bool) -> None:
            kind, _, name = self.path.partition(f"/{COMMIT}")
            data, known = b"", kind.endswith("/resolve") and (folder / name[1:]).is_file()
            if known:
                data = (folder / name[1:]).read_bytes()
                asked.extend([name[1:]] * whole)
            elif "/api/models/" in kind and COMMIT in self.path:
                files = [{"rfilename": each.name, "path": each.name} for each in folder.iterdir()]
                tree = [{"type": "file", "size": 1, "oid": "0", **each} for each in files]
                siblings = {"id": "facebook/wav2vec2-base", "sha": COMMIT, "siblings": files}
                data, known = json.dumps(tree if "/tree" in kind else siblings).encode(), True
            self.send_response(200 if known else 404)
            self.send_header("ETag", hashlib.sha256(data).hexdigest())
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Error-Code", "" if known else "RevisionNotFound")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if whole else b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield folder, asked
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_once_and_for_what_is_read_alone(hub: tuple[Path, list[str]]) -> None:
    folder, asked = hub
    for name in ("flax_model.msgpack", "tf_model.h5", "README.md", "training_args.bin"):
        (folder / name).write_bytes(b"nobody needs this")
    config = options("facebook/wav2vec2-base", revision=COMMIT)
    (found,) = load("speech", config, "here").encode([CLIP])
    assert sorted(asked) == ["config.json", "preprocessor_config.json", "pytorch_model.bin"]
    (again,) = load("speech", config, "here").encode([CLIP])
    assert len(asked) == 3
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("form", ["safetensors", "several safetensors"])
def test_the_hub_is_not_asked_for_pickles_beside_safetensors(form: str, hub: tuple[Path, list[str]]) -> None:
    folder, asked = hub
    WRITERS[form](load_file_of(folder), folder)
    source = locate("facebook/wav2vec2-base", COMMIT, ask_hub=True)
    assert sorted(asked) == sorted(each.name for each in folder.iterdir() if each.name != "pytorch_model.bin")
    assert source.weights in asked


def test_a_commit_that_the_hub_does_not_have_is_one_clear_line(hub: tuple[Path, list[str]]) -> None:
    fails(
        lambda: locate("facebook/wav2vec2-base", "1" * 40, ask_hub=True),
        "commit 1{40} is not in the local cache, and could not be downloaded: RevisionNotFoundError: ",
    )


def test_the_vocabulary_of_deberta_v3_is_a_sentencepiece_model(tmp_path: Path) -> None:
    """As its repository has it: pickled weights, spm.model, and a tokenizer_config.json that names no class."""
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = ["the cat sat on the mat, was it happy?", "no: a sad dog saw the cat and ran away"] * 4
    pieces = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    with (tmp_path / "spm.model").open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=stream, vocab_size=40, hard_vocab_limit=False, minloglevel=2,
            pad_id=0, bos_id=1, eos_id=2, unk_id=3, **pieces,
        )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    kind = {"relative_attention": True, "position_biased_input": False, "type_vocab_size": 0, "position_buckets": 8}
    config = transformers.DebertaV2Config(vocab_size=60, pos_att_type=["c2p", "p2c"], **sizes, **kind)
    config.save_pretrained(tmp_path)
    write_bin(half(transformers.DebertaV2ForMaskedLM(config).state_dict()), tmp_path)
    encoder = load("text", options(tmp_path, max_tokens=40), "here")
    pieces_of = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    text = "the happy cat ran away"
    (found,) = encoder.encode([text])
    assert found.shape == (len(pieces_of.encode(text)), 32)
    tokens = AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    assert tokens == [1, *pieces_of.encode(text), 2]
