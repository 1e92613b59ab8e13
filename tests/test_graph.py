"""One graph for every corpus: what each command runs, what each edit reruns, and that a stage names its code.

The corpora are stand-ins: the embedded one, made small, and one of recordings of a table.
"""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from dvc.repo import Repo

from emofuse.core.imports import PLUMBING, imported, source_of
from emofuse.core.params import Params, ParamsError
from emofuse.features.shards import metadata
from emofuse.models.registry import FUSION
from emofuse.plan import Plan, plans

Dvc = Callable[..., subprocess.CompletedProcess[str]]

FILE = "corpora/toy/params.yaml"
GRAPH = "corpora/toy/dvc.yaml"

OWN = """# A corpus of one's own.

root: ../..
file: corpora/toy/params.yaml

corpus:
  name: toy
  reader: own
  source: data/raw/toy  # a table and its sound
  shards: 1
  max_seconds: 20.0
  max_defective: 0.01

tasks:
  toy-2:
    classes:
      calm:
      - calm
      loud:
      - loud
    seeds: 1
    context: full
    unlabelled: keep
    speakers: disjoint
    transcript: script
    splits: official

run:
  tasks:
  - toy-2
  audio:  # encoders of the sound
  - logmel
  text:
  - minilm
  models:
    features:
    - majority
    networks:
    - hcam
    ablations: []
  conditions:
    audio: []
    text: []
    both: []
  external: []
"""


def write_toy(project: Path) -> None:
    """Add a corpus of calm and loud tones to a project: 12 dialogues of two turns, official splits."""
    source, folder = project / "data/raw/toy", project / "corpora/toy"
    (source / "audio").mkdir(parents=True)
    rows = []
    for dialogue in range(12):
        split = ("train", "train", "dev", "test")[dialogue % 4]
        for turn in range(2):
            name, label = f"d{dialogue}_{turn}", ("calm", "loud")[(dialogue // 4 + turn) % 2]
            row = {"utterance_id": name, "dialogue_id": f"d{dialogue}", "speaker": f"{split}{turn}"}
            rows.append(row | {"text": f"I am {label} today.", "label": label, "split": split})
            tone = (0.1 if label == "calm" else 0.5) * np.sin(np.arange(8_000) * 0.05 * (turn + 1))
            soundfile.write(source / "audio" / f"{name}.wav", tone, 16_000)
    with (source / "utterances.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    folder.mkdir(parents=True)
    shutil.copy(project / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(OWN, encoding="utf-8")


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that a command ran."""
    return re.findall("Running stage '(.*)'", done.stdout)


def git(project: Path, *arguments: str) -> str:
    own = ("-c", "user.name=emofuse", "-c", "user.email=emofuse@localhost")
    command = ["git", *own, *arguments]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True, timeout=60).stdout


TOY = {
    "ingest",
    "weights-audio@logmel",
    "weights-text@minilm",
    "extract-audio@logmel",
    "extract-text@minilm",
    "pretrain-audio@toy-2-logmel",
    "pretrain-text@toy-2-minilm",
    "fuse-features@toy-2-logmel-minilm-majority",
    "fuse-networks@toy-2-logmel-minilm-hcam",
    "score@toy-2-logmel-minilm",
    "listen@toy-2",
}
"""All stages of the corpus, as they are named in its folder."""

OF_TOY = {f"{GRAPH}:{name}" for name in TOY}

DEMO = {
    "ingest",
    "weights-audio@logmel",
    "weights-text@minilm",
    "extract-audio@logmel",
    "extract-text@minilm",
    "pretrain-audio@demo-logmel",
    "pretrain-text@demo-minilm",
    *(f"fuse-features@demo-logmel-minilm-{model}" for model in ("majority", "linear", "cma")),
    *(f"fuse-networks@demo-logmel-minilm-{model}" for model in ("concat", "late", "hcam", "hbaf")),
    "score@demo-logmel-minilm",
    "listen@demo",
}


@pytest.fixture(scope="module")
def both(finished: Path, dvc: Dvc, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished project with a second corpus, committed, and the stages that ran when that was added."""
    project = tmp_path_factory.mktemp("both") / "project"
    shutil.copytree(finished, project, symlinks=True)
    shutil.rmtree(project / "corpora")
    write_toy(project)
    stages = ran(dvc(project, "repro", GRAPH))
    git(project, "add", "-A")
    git(project, "commit", "-qm", "Results")
    return project, stages


@pytest.fixture
def project(both: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of that project."""
    return Path(shutil.copytree(both[0], tmp_path / "project", symlinks=True))


def test_repro_makes_the_demo_and_asks_for_no_other_corpus(finished: Path) -> None:
    assert set(yaml.safe_load((finished / "dvc.lock").read_text())["stages"]) == DEMO
    assert {path.name for path in (finished / "corpora").iterdir()} >= {"iemocap", "meld", "mosi"}
    assert {path.name for path in (finished / "data/corpora").iterdir()} == {"demo"}


def test_a_corpus_has_a_lock_of_its_own_and_leaves_the_demo_as_it_is(
    finished: Path, both: tuple[Path, list[str]], dvc: Dvc
) -> None:
    project, stages = both
    assert set(stages) == OF_TOY
    assert (project / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()
    assert set(yaml.safe_load((project / "corpora/toy/dvc.lock").read_text())["stages"]) == TOY
    assert (project / "metrics/toy-2/logmel+minilm/table.md").is_file()
    assert ran(dvc(project, "repro", folder="corpora/toy")) == []
    done = dvc(project, "repro", "-P")
    assert ran(done) == []
    assert "empty" not in done.stdout + done.stderr, "DVC warns of a folder without files"


def test_an_experiment_tries_another_encoder_and_changes_that_value_alone(project: Path, dvc: Dvc) -> None:
    lock = (project / "dvc.lock").read_bytes()
    done = dvc(project, "exp", "run", GRAPH, "-S", f"{FILE}:run.audio=[prosody]")
    assert set(ran(done)) == {each.replace("logmel", "prosody") for each in OF_TOY if "logmel" in each}
    assert (project / "metrics/toy-2/prosody+minilm/table.md").is_file()
    assert (project / "dvc.lock").read_bytes() == lock
    assert changed_lines(project) == {"-  - logmel", "+  - prosody"}
    assert ran(dvc(project, "repro", "-P")) == []


def test_a_sweep_in_the_queue_has_a_score_on_dev_for_each_value_and_leaves_the_files_alone(
    project: Path, dvc: Dvc
) -> None:
    # The queue works in copies of what git has, which is no raw corpus; nothing that the sweep concerns reads it.
    queue = ("--queue", "--allow-missing", GRAPH)
    done = dvc(project, "exp", "run", *queue, "-S", "models.hcam.network.dropout=0.2,0.4")
    names = set(re.findall("Queued experiment '(.*?)'", done.stdout))
    dvc(project, "queue", "start")
    try:
        wait_for(project, names)
    finally:
        dvc(project, "queue", "stop")
    assert changed_lines(project) == set()
    (baseline,) = json.loads(dvc(project, "exp", "show", "--hide-workspace", "--json").stdout)
    found = {state["name"]: state["data"] for each in baseline["experiments"] for state in each["revs"]}
    values = {data["params"]["params.yaml"]["data"]["models"]["hcam"]["network"]["dropout"] for data in found.values()}
    assert (set(found), values) == (names, {0.2, 0.4})
    for data in found.values():
        (shown,) = (scores for file, scores in data["metrics"].items() if "toy-2" in file)
        assert {"hcam", "audio-context"} <= set(shown["data"])


def wait_for(project: Path, names: set[str]) -> None:
    """Wait until the queue's worker has brought experiments to their end."""
    deadline = time.monotonic() + 600
    done: set[str] = set()
    while not names <= done:
        assert time.monotonic() < deadline, f"of {names} only {done} were run"
        time.sleep(0.5)
        done = set(git(project, "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps").split())


def changed_lines(project: Path) -> set[str]:
    """The lines of parameter files that differ from what is committed."""
    lines = git(project, "diff", "--unified=0", "--", "params.yaml", "corpora/*/params.yaml").splitlines()
    return {line for line in lines if re.match(r"[+-](?!\+\+|--)", line)}


def test_what_dvc_writes_into_the_shipped_files_is_the_value_alone(root: Path, tmp_path: Path) -> None:
    """`-S` puts a whole file through a writer; a file keeps its comments and its form where it has that writer's."""
    from dvc.utils.serialize import modify_yaml

    for file in ("params.yaml", *(path.relative_to(root) for path in root.glob("corpora/*/params.yaml"))):
        before = (root / file).read_text(encoding="utf-8").splitlines()
        path = Path(shutil.copy(root / file, tmp_path))
        with modify_yaml(path) as tree:
            tree["run"]["audio"] = ["another"]
        after = path.read_text(encoding="utf-8").splitlines()
        lost = [line for line in before if line not in after]
        assert len(lost) <= 1, lost
        assert set(after) - set(before) == {"  - another"}


# Which edit reruns what.

SEEDS = {name for name in OF_TOY if re.search("pretrain|fuse|score|listen", name)}

WEIGHTS = {f"{graph}{name}" for graph in ("", f"{GRAPH}:") for name in ("weights-audio@logmel", "weights-text@minilm")}
"""The stages that digest local folders; where the digest stays, nothing behind them runs."""

HCAM = {"fuse-networks@demo-logmel-minilm-hcam", f"{GRAPH}:fuse-networks@toy-2-logmel-minilm-hcam"}

TASK = "  toy-3:\n" + OWN.partition("  toy-2:\n")[2].partition("\nrun:")[0]

EDITS: dict[str, tuple[str, str, str, set[str]]] = {
    "the number of seeds": (FILE, "seeds: 1", "seeds: 2", SEEDS),
    "a key of one model, of every corpus": ("params.yaml", "blocks: 1", "blocks: 2", HCAM),
    "an ablation, which is of its model": ("params.yaml", "        reads: utterance", "        reads: context", HCAM),
    "an option of an encoder, of every corpus": (
        *("params.yaml", "n_mels: 40", "n_mels: 20"),
        {f"{graph}{name}@logmel" for graph in ("", f"{GRAPH}:") for name in ("weights-audio", "extract-audio")},
    ),
    "an option of an encoder that nobody names": (
        "params.yaml",
        "      model: facebook/hubert-base",
        "      model: x",
        set(),
    ),
    "weights in the folder for them": ("data/weights/README.md", "# Weights", "# Networks", WEIGHTS),
    "one more encoder": (
        *(FILE, "  - logmel\n", "  - logmel\n  - prosody\n"),
        {name.replace("logmel", "prosody") for name in OF_TOY if "logmel" in name},
    ),
    "one more task": (
        *(FILE, "run:\n  tasks:\n", f"{TASK}run:\n  tasks:\n  - toy-3\n"),
        {name.replace("toy-2", "toy-3") for name in OF_TOY if "toy-2" in name},
    ),
    "one more model": (
        *(FILE, "    - majority\n", "    - majority\n    - concat\n"),
        {f"{GRAPH}:fuse-features@toy-2-logmel-minilm-concat", f"{GRAPH}:score@toy-2-logmel-minilm"},
    ),
    "the ablations of a model": (
        *(FILE, "ablations: []", "ablations:\n    - hcam"),
        {f"{GRAPH}:ablate@toy-2-logmel-minilm-hcam", f"{GRAPH}:score@toy-2-logmel-minilm"},
    ),
    "a worse condition": (
        *(FILE, "    text: []", "    text:\n    - no-text"),
        {f"{GRAPH}:corrupt-text@no-text-minilm", f"{GRAPH}:robustness-text@no-text-toy-2-logmel-minilm"},
    ),
    "a condition that nobody names": ("params.yaml", "noise_db: 20.0", "noise_db: 30.0", set()),
    "scoring": (
        *("params.yaml", "resamples: 200", "resamples: 100"),
        {"score@demo-logmel-minilm", f"{GRAPH}:score@toy-2-logmel-minilm"},
    ),
    "tracking": ("params.yaml", "experiment: emofuse", "experiment: mine", set()),
    "how extraction is spread": ("params.yaml", "  threads: 2", "  threads: 1", set()),
    "a comment": (FILE, "# encoders of the sound", "# of the sound", set()),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_reruns_what_it_concerns_and_nothing_more(both: tuple[Path, list[str]], edit: str) -> None:
    project, _ = both
    file, old, new, expected = EDITS[edit]
    path = project / file
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new, 1), encoding="utf-8")
    try:
        assert changed_stages(project) == expected
    finally:
        path.write_text(before, encoding="utf-8")


def test_one_more_corpus_changes_no_other(both: tuple[Path, list[str]]) -> None:
    project, _ = both
    other = project / "corpora/other"
    other.mkdir()
    try:
        (other / "params.yaml").write_text(OWN.replace("toy", "other"), encoding="utf-8")
        shutil.copy(project / "dvc.yaml", other)
        assert changed_stages(project) == set()
        new = changed_stages(project, "corpora/other/dvc.yaml")
        assert new == {name.replace("toy", "other") for name in OF_TOY}
    finally:
        shutil.rmtree(other)


def changed_stages(project: Path, *graphs: str) -> set[str]:
    """The stages that are not up to date in their own inputs; what they hand on is seen once they have run."""
    with chdir(project), Repo() as repo:  # in this process, since the program takes a second to start
        return set(repo.status(targets=list(graphs or ("dvc.yaml", GRAPH))))


# Encoders of a local folder.


def test_files_of_a_local_encoder_that_change_are_encoded_again(
    project: Path, dvc: Dvc, save_wav2vec2: Callable[..., None]
) -> None:
    folder, shared, own = project / "data/weights/tiny", project / "params.yaml", project / FILE
    entry = "encoders:\n  tiny: {family: speech, options: {model: data/weights/tiny, labels_seen: false}}\n"
    shared.write_text(re.sub("^encoders:.*\n", lambda _: entry, shared.read_text(), count=1, flags=re.MULTILINE))
    own.write_text(own.read_text().replace("  - logmel\n", "  - tiny\n"))
    digested, encoded = stages = [f"{GRAPH}:weights-audio@tiny", f"{GRAPH}:extract-audio@tiny"]
    done = dvc(project, "repro", encoded, fails=True)
    assert "data/weights/tiny: not found; copy the folder there" in done.stdout + done.stderr
    weights = []
    for seed in range(2):
        save_wav2vec2(folder, seed)
        assert ran(dvc(project, "repro", encoded)) == stages
        assert ran(dvc(project, "repro", encoded)) == []
        weights.append(metadata(project / "data/features/toy/tiny")["weights"])
    assert weights[0] != weights[1]
    (folder / "README.md").write_text("The second.")
    assert ran(dvc(project, "repro", encoded)) == [digested]
    folder.rename(project / "data/raw/tiny")
    assert ran(dvc(project, "repro", encoded)) == [digested], "as on a machine that only pulled the features"


# Predictions that others made.


def test_predictions_of_others_are_a_row_of_the_same_table(project: Path, dvc: Dvc) -> None:
    """Taken in by a stage that depends on the file, and scored with the rest; refused where an utterance is missing."""
    file, out = project / "data/raw/asked.csv", project / "metrics/toy-2/logmel+minilm"
    with (project / "data/raw/toy/utterances.csv").open(encoding="utf-8", newline="") as stream:
        labels = {row["utterance_id"]: row["label"] for row in csv.DictReader(stream) if row["split"] == "test"}
    entry = "{name: asked, task: toy-2, file: data/raw/asked.csv, source: 'a model, asked', labels_seen: unknown}"
    params = project / FILE
    params.write_text(params.read_text().replace("  external: []", f"  external:\n  - {entry}"))
    stages = {f"{GRAPH}:external@logmel-minilm-external0", f"{GRAPH}:score@toy-2-logmel-minilm"}

    def answer(found: dict[str, str], **how: bool) -> subprocess.CompletedProcess[str]:
        file.write_text("\n".join(["utterance_id,label", *map(",".join, found.items())]) + "\n")
        return dvc(project, "repro", GRAPH, **how)

    def scored() -> dict[str, str]:
        with (out / "scores.csv").open(encoding="utf-8", newline="") as stream:
            (row,) = (row for row in csv.DictReader(stream) if (row["model"], row["metric"]) == ("asked", "accuracy"))
        return row

    assert set(ran(answer(labels))) == stages
    assert (scored()["mean"], scored()["n_runs"]) == ("1.0", "1")
    table = (out / "table.md").read_text()
    line = "- Made elsewhere, asked: a model, asked; gives labels; labels of test possibly seen, so it is not ranked"
    assert line in table
    assert re.search(r"^- asked over \S+: Weighted F1 ", table, re.MULTILINE)
    assert "- Splits: read from the column `split` of the corpus's table; their origin is unknown" in table

    first, *others = labels
    wrong = labels | {first: "loud" if labels[first] == "calm" else "calm"}
    assert set(ran(answer(wrong))) == stages
    assert float(scored()["mean"]) == pytest.approx(1 - 1 / len(labels), abs=1e-6)
    found = answer({name: labels[name] for name in others}, fails=True)
    assert f"asked.csv: utterances missing: '{first}'" in found.stdout + found.stderr
    params.write_text(params.read_text().replace(f"  external:\n  - {entry}", "  external: []"))
    assert ran(dvc(project, "repro", GRAPH)) == [f"{GRAPH}:score@toy-2-logmel-minilm"]
    assert "asked" not in (out / "table.md").read_text()


# The code that a stage names.

_ROBUSTNESS = {
    "encoders.base": "nothing is encoded",
    "encoders.catalogue": "nothing is encoded; of it comes the class of an entry of params.yaml",
    "inference.card": "no card is written",
    "inference.manifest": "no bundle is read or written",
}

_TRACKER = "it writes to the tracker, not into an out"

_SHOWN = ("pretrain-audio", "pretrain-text", "fuse-features", "fuse-networks", "ablate")

_WEIGHTS = {
    "encoders.base": "the class of an error",
    "encoders.catalogue": "of it comes the class of an entry of params.yaml",
}

NOT_FOLLOWED = {
    "weights-audio": _WEIGHTS,
    "weights-text": _WEIGHTS,
    "ingest": {"health.check": "it refuses or prints; nothing of it is written"},
    "extract-audio": {"corpora": "the class of an error"},
    "extract-text": {"corpora": "the class of an error"},
    "corrupt-audio": {"corpora.base": "the class of an error"},
    "corrupt-text": {"corpora.base": "the class of an error"},
    "corrupt-both-audio": {"corpora.base": "the class of an error"},
    "corrupt-both-text": {"corpora.base": "the class of an error"},
    "score": {"tracking.address": _TRACKER, "tracking.process": _TRACKER},
    **{stage: {"tracking.process": _TRACKER} for stage in _SHOWN},
    "robustness-audio": _ROBUSTNESS,
    "robustness-text": _ROBUSTNESS,
    "robustness-both": _ROBUSTNESS,
}
"""By stage: modules that its script can import and whose change changes no out, with the reason."""


def read_graph(root: Path) -> dict[str, dict[str, Any]]:
    stages: dict[str, dict[str, Any]] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return stages


def imports_of(script: Path) -> Iterator[str]:
    """Modules of the package that a stage's script imports."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("emofuse"):
            package = node.module.split(".")[1:]
            for alias in node.names:
                whole = ".".join([*package, alias.name])
                yield whole if source_of(whole).exists() else ".".join(package)


def run_by(modules: Sequence[str], left_out: Sequence[str]) -> set[str]:
    """Modules with all that they import, but for those that are left out and what only these import."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in PLUMBING and name not in left_out:
            found.add(name)
            waiting += imported(name)
    return found


@pytest.mark.parametrize("stage", list(read_graph(Path(__file__).parents[1])))
def test_a_stage_depends_on_all_code_that_it_runs(root: Path, stage: str) -> None:
    entry = read_graph(root)[stage]
    script = entry["cmd"].split()[1]
    left_out = NOT_FOLLOWED.get(stage, {})
    reached = run_by(list(imports_of(root / script)), [])
    assert set(left_out) <= reached, "what is left out is not imported any more"
    missing = []
    for module in run_by(list(imports_of(root / script)), list(left_out)):
        path = source_of(module).relative_to(root / "src" / "emofuse")
        named = {Path("src/emofuse") / path, *(Path("src/emofuse") / path).parents}
        if not named & {Path(each) for each in entry["deps"]}:
            missing.append(module)
    assert missing == []
    assert script in entry["deps"]


def test_no_score_depends_on_code_of_robustness(root: Path) -> None:
    """A task without conditions runs none of it, and an edit of it makes no score stale."""
    reached = run_by(list(imports_of(root / "stages/score.py")), [])
    assert "reporting.report" in reached
    assert [each for each in reached if "robustness" in each] == []


def test_what_a_stage_names_of_the_code_is_there(root: Path) -> None:
    for stage, entry in read_graph(root).items():
        for each in entry["deps"]:
            if each.startswith(("src/", "stages/")):
                names = [model.module for model in FUSION] if "${item.model}" in each else [""]
                for name in names:
                    assert (root / each.replace("${item.model}", name)).exists(), f"{stage}: {each}"
    assert {model.module for model in FUSION} == {model.name for model in FUSION}, "dvc.yaml takes one for the other"


# Layouts that would mix up corpora.


def write_project(root: Path, **corpora: str) -> Path:
    """A project with corpora in these folders, their files given, and the graph copied beside each."""
    (root / "dvc.yaml").write_text("stages: {}\n")
    shared = "file: params.yaml\ncorpus: {name: demo}\ntasks: {demo: {}}\nencoders: {logmel: {}, minilm: {}}\n"
    run = "run: {tasks: [demo], audio: [], text: [], models: {features: [], networks: []}}\n"
    (root / "params.yaml").write_text(f"{shared}{run}conditions: {{}}\n")
    for folder, text in corpora.items():
        (root / "corpora" / folder).mkdir(parents=True)
        (root / "corpora" / folder / "params.yaml").write_text(text.replace("corpora/toy", f"corpora/{folder}"))
        shutil.copy(root / "dvc.yaml", root / "corpora" / folder)
    return root


def refused(root: Path) -> str:
    """The message about a project."""
    with pytest.raises(ParamsError) as error:
        plans(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_graph_beside_a_corpus_is_refused(tmp_path: Path) -> None:
    root = write_project(tmp_path, toy=OWN)
    assert [plan.corpus for plan in plans(root)] == ["demo", "toy"]
    graph, shared = root / "corpora/toy/dvc.yaml", root / "dvc.yaml"
    shared.write_text("stages: {new: {cmd: ls}}\n")  # and the copy stays as it was
    message = f"{graph}: differs from {shared}; expected a copy: `cp {shared} {graph}`"
    assert refused(root) == message
    with pytest.raises(ParamsError, match="expected a copy"):
        Plan.load(Params.load("corpora/toy/params.yaml", root))
    graph.unlink()
    assert [plan.corpus for plan in plans(root)] == ["demo", "toy"]


def test_each_shipped_corpus_has_a_copy_of_the_graph_and_no_link(root: Path) -> None:
    """DVC reads revisions without following links: one link, and `dvc exp show` and `dvc metrics diff` show nothing."""
    for folder in (path.parent for path in root.glob("corpora/*/params.yaml")):
        assert not (folder / "dvc.yaml").is_symlink()
        assert (folder / "dvc.yaml").read_bytes() == (root / "dvc.yaml").read_bytes()


@pytest.mark.parametrize("name", ["my.corpus", "my corpus", "my/corpus", "../corpus"])
@pytest.mark.parametrize(
    ("old", "key"), [("name: toy", "corpus.name"), ("  - toy-2\n", "run.tasks.0"), ("  - logmel", "run.audio.0")]
)
def test_a_name_that_could_be_no_folder(tmp_path: Path, name: str, old: str, key: str) -> None:
    value = old.replace(re.split("[ \n]+", old.strip())[-1], name)
    message = refused(write_project(tmp_path, toy=OWN.replace(old, value)))
    file = tmp_path / "corpora/toy/params.yaml"
    assert message.startswith(
        f"{file}: {key}: {name!r}: Value error, a name consists of letters, digits, - and _, and "
    )


def test_two_corpora_or_tasks_of_one_name_would_share_their_folders(tmp_path: Path) -> None:
    root = write_project(tmp_path, first=OWN, toy=OWN)
    assert refused(root) == (
        "corpora/toy/params.yaml: corpus.name: 'toy' is also the name in corpora/first/params.yaml; choose another"
    )
    path = root / "corpora/toy/params.yaml"
    path.write_text(path.read_text().replace("name: toy", "name: second"))
    assert refused(root) == (
        "corpora/toy/params.yaml: tasks: ['toy-2'] are tasks of corpora/first/params.yaml too; choose other names"
    )


# An installation of its own.


def test_a_stage_refuses_code_that_differs_from_the_project_s(both: tuple[Path, list[str]], tmp_path: Path) -> None:
    """A checkout that was copied runs the original's code; DVC would note the digest of the copy's."""
    project, _ = both
    shutil.copytree(project / "src", tmp_path / "src")
    shutil.copy(project / "params.yaml", tmp_path)
    script = [sys.executable, str(project / "stages/ingest.py"), "nothing.yaml"]
    own = {"PYTHONPATH": str(project / "src"), "PATH": os.environ["PATH"]}
    done = subprocess.run(script, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120)
    assert "nothing.yaml: not found" in done.stderr, "the same code, as in DVC's copies for experiments, may run"
    with (tmp_path / "src/emofuse/tasks.py").open("a") as stream:
        stream.write("# edited\n")
    done = subprocess.run(script, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120)
    (message,) = done.stderr.splitlines()
    assert done.returncode == 1
    runs = project / "src/emofuse"
    assert message.startswith(
        f"ingest nothing.yaml: emofuse is imported from {runs}, whose code is not that of this project; "
    )
    assert "run `make setup` here" in message


@pytest.mark.parametrize(("written", "rebuilds"), [("its own folder", False), ("another folder", True), (None, True)])
def test_make_setup_rebuilds_an_environment_that_came_from_elsewhere(
    root: Path, tmp_path: Path, written: str | None, rebuilds: bool
) -> None:
    for name in ("requirements.lock", "pyproject.toml", "Makefile"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    if written is not None:
        place = tmp_path.resolve() if written == "its own folder" else "/somewhere/else"
        (tmp_path / ".venv/.ready").write_text(f"{place}\n")
    found = subprocess.run(
        ["make", "-n", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert ("-m venv --clear .venv" in found.stdout) == rebuilds
