"""A small project, made once by the real stages from the embedded corpus: twelve dialogues, every model, two seeds."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from emofuse.audio import parallel as decoding_module
from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.features.extract import ExtractConfig, FeatureConfig, extract
from emofuse.inference import Bundle, find
from emofuse.reporting.benchmark import protocol, run_folders
from emofuse.reporting.tables import write_scores
from emofuse.scoring.scores import ScoringConfig, score
from emofuse.tasks import Task, TaskConfig
from emofuse.training import fuse as fuse_module
from emofuse.training import pretrain as pretrain_module

FUSED = ("majority", "late", "concat", "hcam", "cma", "hbaf")


@dataclass(frozen=True)
class Project:
    """What the stages left.

    Attributes:
        root: the project's folder
        conversations: for each dialogue of dev and test a folder with its sound and ``turns.json``
    """

    root: Path
    conversations: dict[str, Path]

    def model(self, name: str) -> Path:
        """A model's folder, such as ``hcam`` or ``audio/context``."""
        return self.root / "data/models/demo" / name

    def predicted(self, run: Path) -> dict[str, list[float]]:
        """What a run's predictions say, by utterance."""
        table = pl.read_parquet(run / "predictions.parquet")
        return dict(zip(table["utterance_id"], table["probabilities"], strict=True))

    def ids(self, dialogue: str) -> list[str]:
        """The utterances of a dialogue, turn by turn."""
        table = pl.read_parquet(self.root / "data/corpora/demo/utterances.parquet")
        return table.filter(pl.col("dialogue_id") == dialogue)["utterance_id"].to_list()


class _Here(Executor):
    """A pool that does its work in this process, since starting others takes longer than the work."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def submit(self, function: Callable[..., Any], /, *values: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*values, **options))
        return done


def _run_here(_: str, function: Callable[[Any], bool], jobs: Sequence[Any]) -> int:
    return sum(function(job) for job in jobs)


@pytest.fixture(scope="session")
def here() -> type[Executor]:
    """What stands in for a pool where starting one takes longer than its work."""
    return _Here


@pytest.fixture(scope="session")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project; do not write into it."""
    folder = tmp_path_factory.mktemp("project")
    tree = yaml.safe_load((root / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(_small(tree), sort_keys=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # where the corpus's source is
        patch.setattr(decoding_module, "ProcessPoolExecutor", _Here)
        patch.setattr(pretrain_module, "run_all", _run_here)
        patch.setattr(fuse_module, "run_all", _run_here)
        _run_stages(folder, Params.load(folder / "params.yaml"))
    yield Project(folder, dict(_conversations(folder)))
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bundle(project: Project) -> Bundle:
    """HCAM's."""
    return find(project.model("hcam"))


def _small(tree: dict[str, Any]) -> dict[str, Any]:
    tree["corpora"]["demo"]["options"]["dialogues"] = 12
    tree["tasks"]["demo"]["seeds"] = 2
    tree["scoring"]["resamples"] = 100
    tree["ablations"] = {"hcam": {"no-context": {"context": False}}}
    models = tree["models"]
    levels = [models[name][level] for name in ("audio", "text") for level in ("utterance", "context")]
    for each in [*levels, *(models[name] for name in FUSED if models[name])]:
        each["fit"] = each["fit"] | {"epochs": 2}
    for each, speaker in ((models["concat"], "role"), (models["text"]["context"], "same")):
        each["network"] = each["network"] | {"speaker": speaker}
    return tree


def _run_stages(folder: Path, params: Params) -> None:
    data, store = folder / "data", Store(folder / ".emofuse")
    ingest(
        "demo", params.get("corpora.demo", CorpusConfig), data / "corpora/demo", folder / "metrics/corpora/demo.json"
    )
    for modality in ("audio", "text"):
        config = params.get(f"features.demo-{modality}", FeatureConfig)
        here = ExtractConfig(workers=1)
        extract(f"demo-{modality}", config, here, 4, data / "corpora/demo", data / "features/demo" / modality, store)
        pretrain_module.pretrain(f"demo-{modality}", "demo", modality, params, data, store)  # type: ignore[arg-type]
    for model in FUSED:
        fuse_module.fuse(f"demo-{model}", "demo", model, params, data, store, ablations=model == "hcam")
    task = Task.load("demo", params.get("tasks.demo", TaskConfig), data)
    folders = run_folders(data / "models/demo", FUSED)
    records = [json.loads((each / "record.json").read_text()) for each in folders]
    runs = pl.concat([pl.read_parquet(each / "predictions.parquet") for each in folders])
    scores = score(runs, task.truth(), task.classes, params.get("scoring", ScoringConfig))
    write_scores(folder / "metrics/demo", scores, protocol(task, data, records, []), "the table")


def _conversations(folder: Path) -> Iterator[tuple[str, Path]]:
    """Lay the dialogues of dev and test out as a person would have them; the sound is what the corpus has."""
    utterances = pl.read_parquet(folder / "data/corpora/demo/utterances.parquet").filter(pl.col("split") != "train")
    tables = [pq.read_table(path) for path in (folder / "data/corpora/demo/audio").glob("*.parquet")]
    sound = {
        name: each["bytes"]
        for table in tables
        for name, each in zip(table["utterance_id"].to_pylist(), table["audio"].to_pylist(), strict=True)
    }
    for (dialogue,), rows in utterances.group_by("dialogue_id", maintain_order=True):
        out = folder / "conversations" / str(dialogue)
        out.mkdir(parents=True)
        turns = []
        for row in rows.to_dicts():
            (out / f"{row['turn']}.flac").write_bytes(sound[row["utterance_id"]])
            turns.append({"speaker": row["speaker"], "text": row["text"], "audio": f"{row['turn']}.flac"})
        (out / "turns.json").write_text(json.dumps(turns))
        yield str(dialogue), out


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """Real recordings and a real recogniser beside the repository."""
    folder = root.parent / "shared" / "data"
    if not folder.exists():
        pytest.skip(f"needs real recordings in {folder}")
    return folder


@pytest.fixture
def write_turns(tmp_path: Path) -> Callable[..., Path]:
    """Write a table of turns: ``write_turns("turns.csv", [{"text": "Hello."}])``."""

    def write(name: str, turns: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as stream:
            if name.endswith(".json"):
                json.dump(turns, stream)
            else:
                writer = csv.DictWriter(stream, sorted({key for turn in turns for key in turn}))
                writer.writeheader()
                writer.writerows(turns)
        return path

    return write


@pytest.fixture(scope="session")
def tone() -> np.ndarray:
    """A second of a tone, int16 at 16 kHz."""
    return (8000 * np.sin(np.arange(16_000) / 10)).astype(np.int16)


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small speech recogniser, ``wav2vec2`` or ``whisper``, with seeded random weights.

    What it hears is noise, but always the same.
    """
    root = tmp_path_factory.mktemp("recognisers")

    def folder(kind: str) -> Path:
        place = root / kind
        if not place.exists():
            place.mkdir()
            torch.manual_seed(0)
            {"wav2vec2": _save_wav2vec2, "whisper": _save_whisper}[kind](place)
        return place

    return folder


def _save_wav2vec2(folder: Path) -> None:
    signs = ["<pad>", "<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz'|"]
    (folder / "vocab.json").write_text(json.dumps({sign: index for index, sign in enumerate(signs)}))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = Wav2Vec2Config(vocab_size=len(signs), **sizes, **convolutions, **positions)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|").save_pretrained(folder)  # noqa: S106


def _save_whisper(folder: Path) -> None:
    """With the signs that steer Whisper's generation, and all its times."""
    tokenizer = WhisperTokenizer(vocab={chr(33 + index): index for index in range(94)}, merges=[])
    steering = ["startoftranscript", "en", "translate", "transcribe", "startofprev", "nospeech", "notimestamps"]
    tokenizer.add_tokens(["<|endoftext|>", *(f"<|{name}|>" for name in steering)], special_tokens=True)
    tokenizer.add_tokens([f"<|{index / 50:.2f}|>" for index in range(1501)])
    of = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ["endoftext", *steering]}
    end = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), of["endoftext"])
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    sizes = {f"{side}_{what}": 16 for side in ("encoder", "decoder") for what in ("layers", "ffn_dim")}
    sizes |= {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "max_target_positions": 64}
    start = {"decoder_start_token_id": of["startoftranscript"]}
    config = WhisperConfig(vocab_size=len(tokenizer), init_std=1.0, **sizes, **heads, **end, **start)
    network = WhisperForConditionalGeneration(config)
    network.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": of["en"]},
        task_to_id={name: of[name] for name in ("transcribe", "translate")},
        no_timestamps_token_id=of["notimestamps"],
        prev_sot_token_id=of["startofprev"],
        begin_suppress_tokens=[of["endoftext"]],
        max_initial_timestamp_index=50,
        max_length=24,
        **end,
        **start,
    )
    network.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], str]:
    """Put a model's folder into a local cache of the hub: ``hub("org/name", folder)``; the revision comes back."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name: str, folder: Path) -> str:
        revision = "1" * 40
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, place / "snapshots" / revision)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(revision)
        return revision

    return put
