"""A bad value is an error that names the file, the key, the value and what is allowed; the shipped file is whole."""

import re
import runpy
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, Params, ParamsError, validate

TEXT = """
models:
  small:
    rate: 0.001
    layers: [1, 2]
    mode: fast
    inner: {size: 3}
"""


@dataclass(frozen=True, config=STRICT)
class Inner:
    size: Annotated[int, Field(ge=1, le=10)]


@dataclass(frozen=True, config=STRICT)
class Small:
    rate: Annotated[float, Field(gt=0)]
    layers: tuple[int, ...]
    mode: Literal["fast", "slow"]
    inner: Inner


def load(folder: Path, text: str) -> Params:
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return Params.load(folder / "params.yaml")


def test_a_section_becomes_its_dataclass(tmp_path: Path) -> None:
    params = load(tmp_path, TEXT)
    assert params.get("models.small", Small) == Small(0.001, (1, 2), "fast", Inner(3))
    assert params.get("models.small.rate", float) == 0.001


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    rate: 0.001\n", "", "models.small.rate: missing: "),
        ("rate: 0.001", "rate: 1e-3", "models.small.rate: '1e-3': Input should be a valid number"),
        ("rate: 0.001", "rate: '0.001'", "models.small.rate: '0.001': Input should be a valid number"),
        ("rate: 0.001", "rate: true", "models.small.rate: True: Input should be a valid number"),
        ("rate: 0.001", "rate: -1", "models.small.rate: -1: Input should be greater than 0"),
        ("rate: 0.001", "rate: .inf", "models.small.rate: inf: expected a finite number, "),
        ("rate: 0.001", "rate: .nan", "models.small.rate: nan: expected a finite number, "),
        ("rate: 0.001", "rate: 2026-01-01", "models.small.rate: datetime.date(2026, 1, 1): expected a finite number"),
        ("rate: 0.001", "rate:", "models.small.rate: None: Input should be a valid number"),
        (
            "rate: 0.001",
            "rate: 0.001\n    rat: 1",
            "models.small.rat: 1: unknown key; allowed are ['inner', 'layers', ",
        ),
        ("{size: 3}", "{size: 3, width: 1}", "models.small.inner.width: 1: unknown key; allowed are ['size']"),
        ("{size: 3}", "{size: 11}", "models.small.inner.size: 11: Input should be less than or equal to 10"),
        ("{size: 3}", "{size: 3.5}", "models.small.inner.size: 3.5: Input should be a valid integer"),
        ("{size: 3}", "3", "models.small.inner: 3: Input should be an object"),
        ("[1, 2]", "[1, two]", "models.small.layers.1: 'two': Input should be a valid integer"),
        ("[1, 2]", "1", "models.small.layers: 1: Input should be a valid array"),
        ("mode: fast", "mode: faster", "models.small.mode: 'faster': Input should be 'fast' or 'slow'"),
        ("mode: fast", "mode: fast\n    no: 1", "models.small: False: a key must be text"),
        ("  small:", "  large:", "models.small: missing; models has ['large']"),
        ("models:", "model:", "models.small: missing; the top level has ['model']"),
    ],
)
def test_a_bad_value_is_named_with_its_file_and_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    params = load(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ParamsError) as error:
        params.get("models.small", Small)
    assert str(error.value).startswith(f"{tmp_path / 'params.yaml'}: {message}")


def test_every_fault_has_a_line() -> None:
    with pytest.raises(ParamsError) as error:
        validate({"rate": 0, "layers": [], "mode": "fast", "inner": {}}, Small, "here")
    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == ["here.rate", "here.inner.size"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a: [1", "not valid YAML"),
        (b"a: \xff\xfe", "not valid YAML"),
        (b"- a", "expected a mapping"),
        (b"", "mapping"),
    ],
)
def test_a_file_that_is_no_parameter_file(tmp_path: Path, data: bytes, fault: str) -> None:
    (tmp_path / "params.yaml").write_bytes(data)
    with pytest.raises(ParamsError, match=fault) as error:
        Params.load(tmp_path / "params.yaml")
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="not found; run this from the project's root folder"):
        Params.load(tmp_path / "params.yaml")


# The shipped file.

NAMED = ("corpora", "features", "degraded", "tasks", "pretrain", "fuse")
"""Sections whose keys are names of entries."""

JOBS = ("pretrain", "fuse")


@pytest.fixture(scope="module", params=["as it is shipped", "with everything switched on"])
def shipped(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's parameter file."""
    path = root / "params.yaml"
    if "switched" in request.param:
        text = re.sub(r"(?m)^(#[a-z]+ )+(?= )", "", path.read_text(encoding="utf-8"))
        path = tmp_path_factory.mktemp("switched") / "params.yaml"
        path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tree(shipped: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    return found


def uncommented(text: str) -> list[str]:
    """Keys without a comment where their name first appears; names of entries, classes and splits are no keys."""
    lines, seen, found = text.splitlines(), set(), []

    def visit(node: yaml.Node, path: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for name, value in node.value:
            here = (*path, name.value)
            is_name = path in [(section,) for section in NAMED] or path[:1] in [(job,) for job in JOBS]
            if not is_name and path[-1:] != ("classes",) and "counts" not in path and name.value not in seen:
                seen.add(name.value)
                same_line = value.end_mark.line == name.end_mark.line
                rest = lines[name.end_mark.line][(value if same_line else name).end_mark.column :]
                if not rest.partition(" # ")[2].strip():
                    found.append(".".join(here))
            visit(value, here)

    visit(yaml.compose(text), ())
    return found


def test_every_key_carries_a_comment(shipped: Path) -> None:
    assert uncommented(shipped.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("after", "new", "key"),
    [
        ("    shards: 4", "    fresh: 1", "corpora.demo.fresh"),
        ("    shards: 4", "    fresh: 'a # b'", "corpora.demo.fresh"),
        ("    shards: 4", "    fresh: [1]  #", "corpora.demo.fresh"),
        ("    shards: 4", "    fresh:\n      shards: 1  # known", "corpora.demo.fresh"),
        ("      n_mels: 40", "      fresh: {shards: 1}", "features.demo-audio.options.fresh"),
        ("      n_mels: 40", "      seed: {fresh: 1}", "features.demo-audio.options.seed.fresh"),
        ("scoring:", "  fresh: true", "scoring.fresh"),
        ("  seed: 0  # of all", "fresh: 1", "fresh"),
    ],
)
def test_a_new_key_without_a_comment_is_found(root: Path, after: str, new: str, key: str) -> None:
    lines = (root / "params.yaml").read_text(encoding="utf-8").splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith(after))
    assert uncommented("\n".join([*lines[: place + 1], new, *lines[place + 1 :]])) == [key]


def test_every_section_is_known_and_valid(shipped: Path, tree: dict[str, Any]) -> None:
    from emofuse.corpora.ingest import CorpusConfig
    from emofuse.features.extract import ExtractConfig, FeatureConfig
    from emofuse.robustness.conditions import DegradedConfig
    from emofuse.scoring.scores import ScoringConfig
    from emofuse.tasks import TaskConfig
    from emofuse.tracking import TrackingConfig
    from emofuse.training.fuse import MODELS
    from emofuse.training.pretrain import UnimodalConfig

    assert set(tree) == {*NAMED, "ablations", "extract", "models", "scoring", "tracking"}
    params = Params.load(shipped)
    for name in tree["corpora"]:
        corpus = params.get(f"corpora.{name}", CorpusConfig)
        validate(corpus.options, import_module(f"emofuse.corpora.{corpus.reader}").Config, f"corpora.{name}.options")
    for name in tree["features"]:
        features = params.get(f"features.{name}", FeatureConfig)
        family = import_module(f"emofuse.encoders.{features.family}")
        validate(features.options, family.Config, f"features.{name}.options")
    for name, entry in tree["degraded"].items():
        degraded = params.get(f"degraded.{name}", DegradedConfig)
        assert name == f"{entry['corpus']}-{degraded.condition}"
        assert tree["features"][degraded.features]["corpus"] == degraded.corpus
    for name in tree["tasks"]:
        params.get(f"tasks.{name}", TaskConfig)
    assert set(tree["models"]) == {"audio", "text", *MODELS}
    for name in ("audio", "text"):
        params.get(f"models.{name}", UnimodalConfig)
    for name, kind in MODELS.items():
        params.get(f"models.{name}", kind.config)
        for ablation, changes in tree["ablations"].get(name, {}).items():
            changed = params.changed(f"models.{name}", changes, f"ablations.{name}.{ablation}")
            assert changed.get(f"models.{name}", kind.config) != params.get(f"models.{name}", kind.config)
    params.get("extract", ExtractConfig)
    params.get("scoring", ScoringConfig)
    params.get("tracking", TrackingConfig)


def test_no_task_has_so_many_models_that_none_could_be_told_from_another(tree: dict[str, Any]) -> None:
    """No p is below 2 / (1 + resamples), and Holm's correction multiplies the smallest by the number of pairs."""
    scoring = tree["scoring"]
    for task in tree["tasks"]:
        jobs = [job for job in tree["fuse"].values() if job["task"] == task]
        ablations = [tree["ablations"].get(job["model"], {}) for job in jobs if job.get("ablations")]
        n_models = 4 + len(jobs) + sum(map(len, ablations))  # two networks of each modality
        assert n_models * (n_models - 1) / (1 + scoring["resamples"]) < 1 - scoring["confidence"], task


@pytest.mark.parametrize("section", JOBS)
def test_every_job_is_valid_and_of_its_task_s_corpus(
    root: Path, shipped: Path, tree: dict[str, Any], section: str
) -> None:
    from emofuse.training.fuse import MODELS

    job_class = runpy.run_path(str(root / "stages" / f"{section}.py"))["Job"]
    params = Params.load(shipped)
    jobs = {name: params.get(f"{section}.{name}", job_class) for name in tree[section]}
    for name, job in jobs.items():
        what = job.modality if section == "pretrain" else job.model
        assert job.corpus == tree["tasks"][job.task]["corpus"], name
        assert name == f"{job.task}-{what}"
        assert section == "pretrain" or what in MODELS


def test_every_entry_refers_to_what_is_there(tree: dict[str, Any]) -> None:
    places = [(each["corpus"], each["modality"]) for each in tree["features"].values()]
    assert len(set(places)) == len(places)
    for name, task in tree["tasks"].items():
        assert task["corpus"] in tree["corpora"], name
        for modality in ("audio", "text"):
            assert (task["corpus"], modality) in places, name
            assert f"{name}-{modality}" in tree["pretrain"], name
