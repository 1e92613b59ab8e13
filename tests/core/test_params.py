"""A bad value is an error that names the file, the key, the value and what is allowed; the shipped file is whole."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import CORPUS_SECTIONS, ROOT_FILE, STRICT, Name, Params, ParamsError, corpus_files, validate
from emofuse.models.registry import FUSION, UNIMODAL
from emofuse.plan import plans

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
    return Params.load(root=folder)


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


FAN = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40))
"""Each line stands for twice what the one before does."""

MERGES = b"a0: &a0 {x: 1}\n" + b"".join(b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (n, n, n - 1, n - 1) for n in range(1, 40))
"""The same of merges, whose keys the reader counts before it drops the doubled ones."""

MANY_MERGES = b"a: &a {x: 1}\nb: {<<: [" + b", ".join(1_001 * [b"*a"]) + b"]}\n"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a: [1", "not valid YAML"),
        (b"a: \xff\xfe", "not valid YAML"),
        (b"- a", "expected a mapping"),
        (b"", "mapping"),
        (b"a: 1\na: 2\n", "'a' appears twice"),
        (b"a: {b: 1, c: 2, b: 3}", "'b' appears twice"),
        (b"corpus: {name: a}\nrun: {}\ncorpus: {name: b}\n", "'corpus' appears twice"),
        (b"a: &a [*a]", "more than 100,000 values"),
        (b"a: &a {b: *a}", "more than 100,000 values"),
        (FAN, "more than 100,000 values; aliases count"),
        (MERGES, "merges .* of more than 1,000 keys"),
        (MANY_MERGES, "merges .* of more than 1,000 keys"),
        (b"a: " + 20_000 * b"[", "nested more than Python can follow"),
        (b"a: " + 20_000 * b"[" + 20_000 * b"]", "nested more than Python can follow"),
        (20_000 * b"? ", "nested more than Python can follow"),
        (b"a: '" + 1_000_000 * b"x" + b"'", "1,000,005 bytes; a parameter file may have 1,000,000"),
        (b"[1]: 2", "a list or a mapping cannot be a key"),
        (b"a: 2026-02-30", "'2026-02-30' is not a valid timestamp; put it in quotes"),
        (b"a: " + 5_000 * b"9", "is not a valid int; "),
        (b"a: !!bool x", "'x' is not a valid bool"),
        (b"a: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_parameter_file(tmp_path: Path, data: bytes, fault: str) -> None:
    (tmp_path / "params.yaml").write_bytes(data)
    with pytest.raises(ParamsError, match=fault) as error:
        Params.load(root=tmp_path)
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))


@pytest.mark.parametrize(
    ("text", "value", "fault"),
    [
        ("{1: 2, a: 3}", "a.b", "a.b: missing; a has ['1', 'a']"),
        ("0x1" + 5_000 * "f", "a", "a: a number of 20001 bits; expected one of less than 64"),
        ("{b: [-" + 30 * "9" + "]}", "a", "a.b.0: a number of 100 bits; expected one of less than 64"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_odd_keys_and_numbers_are_told(tmp_path: Path, text: str, value: str, fault: str) -> None:
    with pytest.raises(ParamsError) as error:
        load(tmp_path, f"a: {text}\n").get(value, dict[str, list[int]])
    assert str(error.value) == f"{tmp_path / 'params.yaml'}: {fault}"


def test_sections_of_a_corpus_s_file_whose_names_are_no_text_are_told(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"unknown sections \['3', 'a'\]"):
        load_own(tmp_path, f"{OWN}3: 4\na: 5\n")


@pytest.mark.parametrize(
    ("old", "new", "place", "given"),
    [
        ("dev: ['19']", "dev: [19, 20]", "splits.dev", "[19, 20]"),
        ("dev: ['19']", "dev: ['19', 20]", "splits.dev", "['19', 20]"),
        ("test: ['21']", "test: [21]", "splits.test", "[21]"),
        ("joy: [happy]", "joy: [1]", "classes.joy", "[1]"),
        ("sad: ['no']", "sad: [no]", "classes.sad", "[False]"),
        ("transcript: asr", "transcript: 7", "transcript", "7"),
    ],
)
def test_names_that_look_like_numbers_are_asked_for_in_quotes_in_one_line(
    old: str, new: str, place: str, given: str
) -> None:
    from emofuse.tasks import TaskConfig

    text = (
        "classes: {joy: [happy], sad: ['no']}\nseeds: 1\ncontext: full\nunlabelled: keep\nspeakers: disjoint\n"
        "transcript: asr\nsplits: {by: session, dev: ['19'], test: ['21']}\n"
    )
    assert validate(yaml.safe_load(text), TaskConfig, "tasks.a").classes["sad"] == ("no",)
    with pytest.raises(ParamsError) as error:
        validate(yaml.safe_load(text.replace(old, new)), TaskConfig, "tasks.a")
    rule = "names are text: put numbers, true, false, yes, no among them in quotes"
    assert str(error.value) == f"tasks.a.{place}: {given}: {rule}"
    with pytest.raises(ParamsError) as error:
        validate(yaml.safe_load(text.replace(old, new).replace("seeds: 1\n", "")), TaskConfig, "tasks.a")
    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == [f"tasks.a.{place}", "tasks.a.seeds"]


def test_what_is_merged_is_what_a_mapping_does_not_say_itself(tmp_path: Path) -> None:
    params = load(tmp_path, "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert params.get("b", dict[str, int]) == {"x": 3, "y": 2}


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="not found; run this from the project's root folder"):
        Params.load(root=tmp_path)


OWN = """
root: ../..
file: corpora/toy/params.yaml
corpus: {name: toy}
tasks: {toy: {}}
"""


def load_own(folder: Path, text: str) -> Params:
    """A corpus's own file beside a project's, which has a corpus of its own."""
    (folder / "params.yaml").write_text(f"{TEXT}corpus: {{name: demo}}\nrun: {{tasks: [demo]}}\n", encoding="utf-8")
    (folder / "corpora/toy").mkdir(parents=True)
    (folder / "corpora/toy/params.yaml").write_text(text, encoding="utf-8")
    return Params.load("corpora/toy/params.yaml", folder)


def test_a_corpus_s_file_is_read_with_what_all_share_and_with_nothing_of_another_corpus(tmp_path: Path) -> None:
    params = load_own(tmp_path, OWN)
    assert params.get("corpus.name", str) == "toy"
    assert params.get("models.small", Small) == Small(0.001, (1, 2), "fast", Inner(3))
    with pytest.raises(ParamsError) as error:
        params.get("run.tasks", list[str])
    assert str(error.value).startswith(f"{tmp_path / 'corpora/toy/params.yaml'}: run.tasks: missing; ")
    with pytest.raises(ParamsError) as error:
        params.get("models.large", Small)
    assert str(error.value) == f"{tmp_path / 'params.yaml'}: models.large: missing; models has ['small']"
    assert corpus_files(tmp_path) == [ROOT_FILE, Path("corpora/toy/params.yaml")]
    assert Params.load(root=tmp_path).get("corpus.name", str) == "demo"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tasks:", "models: {small: {rate: 1.0}}\ntasks:", "unknown sections ['models']; a corpus's file has root, "),
        ("corpora/toy", "corpora/other", "file: 'corpora/other/params.yaml'; expected 'corpora/toy/params.yaml'"),
        ("file: corpora/toy/params.yaml\n", "", "file: None; expected 'corpora/toy/params.yaml', its own place"),
    ],
)
def test_a_corpus_s_file_that_does_not_fit_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ParamsError) as error:
        load_own(tmp_path, OWN.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path / 'corpora/toy/params.yaml'}: {message}")


def test_the_file_of_a_corpus_that_is_not_there(tmp_path: Path) -> None:
    load(tmp_path, TEXT)
    with pytest.raises(ParamsError, match=r"corpora/toy/params\.yaml: not found; it is a corpus's own file"):
        Params.load("corpora/toy/params.yaml", tmp_path)


@pytest.mark.parametrize("name", ["bert-base", "meld_7", "4", "X"])
def test_a_name_that_can_be_part_of_a_path(name: str) -> None:
    assert validate(name, Name, "here") == name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a/b", "../a", "-a", "_a", "a+b", "a@b", "ä", "a\n", "${a}"])
def test_a_name_that_cannot_is_told_what_names_are_made_of(name: str) -> None:
    with pytest.raises(ParamsError) as error:
        validate(name, Name, "here")  # type: ignore[arg-type]
    assert str(error.value).startswith(f"here: {name!r}: Value error, a name consists of letters, digits, - and _, ")


# The shipped files.

NAMED = ("encoders", "conditions", "tasks")
"""Sections whose keys are names of entries."""


@pytest.fixture(scope="module")
def shared(root: Path) -> str:
    """The project's file of what all corpora share."""
    return (root / ROOT_FILE).read_text(encoding="utf-8")


def keys(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], yaml.Node, yaml.Node]]:
    """Every key with its place and value; names of entries, classes and splits are none, nor are ablations' changes."""
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        here = (*path, name.value)
        is_name = path[:1] in [(section,) for section in NAMED] and len(path) == 1
        if not is_name and path[-1:] != ("classes",) and "counts" not in path and path[-2:-1] != ("ablations",):
            yield here, name, value
        yield from keys(value, here)


def uncommented(text: str, known: str = "{}") -> list[str]:
    """Keys without a comment where their name first appears in a file, of those that the file ``known`` has not."""
    lines, found = text.splitlines(), []
    seen = {place[-1] for place, _, _ in keys(yaml.compose(known))}
    for place, name, value in keys(yaml.compose(text)):
        if place[-1] not in seen:
            seen.add(place[-1])
            same_line = value.end_mark.line == name.end_mark.line
            rest = lines[name.end_mark.line][(value if same_line else name).end_mark.column :]
            if not rest.partition(" # ")[2].strip():
                found.append(".".join(place))
    return found


def test_every_key_carries_a_comment(root: Path, shared: str) -> None:
    assert uncommented(shared) == []
    for file in corpus_files(root)[1:]:
        assert uncommented((root / file).read_text(encoding="utf-8"), shared) == [], file


@pytest.mark.parametrize(
    ("after", "new", "key"),
    [
        ("  shards: 4", "  fresh: 1", "corpus.fresh"),
        ("  shards: 4", "  fresh: 'a # b'", "corpus.fresh"),
        ("  shards: 4", "  fresh: [1]  #", "corpus.fresh"),
        ("  shards: 4", "  fresh:\n    shards: 1  # known", "corpus.fresh"),
        ("  shards: 4", "  fresh:\n  - 1", "corpus.fresh"),
        ("      n_mels: 40", "      fresh: {shards: 1}", "encoders.logmel.options.fresh"),
        ("      n_mels: 40", "      seed: {fresh: 1}", "encoders.logmel.options.seed.fresh"),
        ("    ablations:  # the model", "      fresh:\n        reads: utterance", "models.hcam.ablations.fresh"),
        ("scoring:", "  fresh: true", "scoring.fresh"),
        ("  seed: 0  # seed of the resampling", "fresh: 1", "fresh"),
    ],
)
def test_a_new_key_without_a_comment_is_found(shared: str, after: str, new: str, key: str) -> None:
    lines = shared.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith(after))
    assert uncommented("\n".join([*lines[: place + 1], new, *lines[place + 1 :]])) == [key]


def test_every_section_that_is_shared_is_known_and_valid(root: Path, shared: str) -> None:
    from emofuse.features.extract import EncoderConfig, ExtractConfig
    from emofuse.robustness.conditions import Change
    from emofuse.scoring.estimates import ScoringConfig
    from emofuse.tracking.address import TrackingConfig
    from emofuse.training.settings import settings

    tree = yaml.safe_load(shared)
    assert set(tree) == {*CORPUS_SECTIONS, "conditions", "encoders", "extract", "models", "scoring", "tracking"}
    params = Params.load(root=root)
    for name in tree["encoders"]:
        encoder = params.get(f"encoders.{name}", EncoderConfig)
        family = import_module(f"emofuse.encoders.{encoder.family}")
        validate(encoder.options, family.Config, f"encoders.{name}.options")
    for name in tree["conditions"]:
        params.get(f"conditions.{name}", Change)  # type: ignore[arg-type]
    assert set(tree["models"]) == {"audio", "text", *(model.name for model in FUSION)}
    for each in UNIMODAL:
        settings(params, each.name)
    for model in FUSION:
        plain = settings(params, model.name)
        for ablation in plain.ablations:
            assert settings(params, f"{model.name}/{ablation}") != plain
    params.get("extract", ExtractConfig)
    params.get("scoring", ScoringConfig)
    params.get("tracking", TrackingConfig)


def test_every_corpus_is_known_and_valid_and_shares_no_name(root: Path) -> None:
    from emofuse.corpora.ingest import CorpusConfig
    from emofuse.tasks import TaskConfig

    assert {plan.corpus for plan in plans(root)} >= {"demo", "iemocap", "meld", "mosi"}
    tasks: list[str] = []
    for file in corpus_files(root):
        params = Params.load(file, root)
        corpus = params.get("corpus", CorpusConfig)
        validate(corpus.options, import_module(f"emofuse.corpora.{corpus.reader}").Config, f"{file}: corpus.options")
        own = params.names("tasks")
        for name in own:
            params.get(f"tasks.{name}", TaskConfig)
        tasks += own
    assert len(set(tasks)) == len(tasks)


def test_no_table_has_so_many_models_that_none_could_be_told_from_another(root: Path) -> None:
    """No p is below 2 / (1 + resamples), and Holm's correction multiplies the smallest by the number of pairs."""
    tree = yaml.safe_load((root / ROOT_FILE).read_text(encoding="utf-8"))
    n_ablations = sum(len(section.get("ablations", {})) for section in tree["models"].values())
    n_models = 4 + len(FUSION) + n_ablations  # two networks of each modality
    scoring = tree["scoring"]
    assert n_models * (n_models - 1) / (1 + scoring["resamples"]) < 1 - scoring["confidence_level"]
