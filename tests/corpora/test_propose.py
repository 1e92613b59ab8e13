"""A first parameter file: what a folder tells of a corpus, as a person finds it and as its stages read it."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from emofuse.cli import main
from emofuse.core.params import Params, ParamsError
from emofuse.corpora import naming
from emofuse.corpora.base import CorpusError
from emofuse.corpora.ingest import CorpusConfig, read, utterance_table
from emofuse.corpora.own import Config as OwnConfig
from emofuse.corpora.own import read as read_own
from emofuse.corpora.own import sound_names
from emofuse.corpora.propose import propose
from emofuse.health.check import check_corpus
from emofuse.tasks import Task, TaskConfig, TaskError

EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root folder of a project, where `emofuse corpus new` is called."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        (project / name).write_bytes((root / name).read_bytes())
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def emodb(tmp_path: Path) -> Path:
    """EmoDB in small: two sentences in every emotion, but that the first speaker is never heard in disgust."""
    (tmp_path / "emodb/wav").mkdir(parents=True)
    for speaker, text, emotion in product(EMODB_SPEAKERS, ("a01", "b03"), "WLEAFTN"):
        if (speaker, emotion) != ("08", "E"):
            (tmp_path / f"emodb/wav/{speaker}{text}{emotion}a.wav").touch()
    return tmp_path / "emodb"


def write_table(folder: Path, speakers: int, **columns: Callable[[int, str], str]) -> Path:
    """Write a table of dialogues of one speaker each, ten turns in two emotions, and what else is asked for."""
    rows: list[dict[str, Any]] = []
    for speaker, turn in product(range(speakers), range(10)):
        row = {"utterance_id": f"{speaker}-{turn}", "dialogue_id": f"d{speaker}", "speaker": f"s{speaker}"}
        label = ("happy", "sad")[turn % 2]
        rows.append(row | {"label": label} | {name: each(turn, row["speaker"]) for name, each in columns.items()})
    folder.mkdir(exist_ok=True)
    pl.DataFrame(rows).write_csv(folder / "utterances.csv")
    return folder


def begin(name: str, folder: Path, *options: str) -> Task:
    """Begin with a corpus as a person does, and open its task."""
    assert main(["corpus", "new", name, str(folder), *options]) == 0
    params = Params.load(f"corpora/{name}/params.yaml")
    table = utterance_table(read(params.get("corpus", CorpusConfig)))
    return Task(name, params.get(f"tasks.{name}", TaskConfig), table, name)


def speakers(task: Task, fold: int) -> list[set[str]]:
    """The speakers of train, dev and test."""
    of, splits = task._table["speaker"].to_numpy(), task.fold(fold).splits
    return [set(of[splits == split]) for split in range(3)]


def test_few_speakers_are_test_once_each_in_five_folds(
    project: Path, emodb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = begin("emodb", emodb)
    found = capsys.readouterr().out
    assert "decided   each speaker is tested once, in 5 folds, and no speaker is in two splits\n" in found
    assert (task.folds, task.config.seeds) == (5, 3)
    heard = [speakers(task, fold) for fold in range(5)]
    assert Counter(each for _, _, test in heard for each in test) == dict.fromkeys(EMODB_SPEAKERS, 1)
    assert [dev for _, dev, _ in heard] == [test for *_, test in (*heard[1:], heard[0])]
    assert all(len(train) == 6 and not train & (dev | test) for train, dev, test in heard)
    # Every class is in every split, although the rarest one is not of every speaker.
    assert all(min(counts.values()) > 0 for fold in range(5) for counts in task.class_counts(fold).values())
    assert "5 folds; no speaker in two splits" in "\n".join(check_corpus("emodb"))
    file = project / "corpora/emodb/params.yaml"
    assert list(yaml.safe_load(file.read_text(encoding="utf-8"))["tasks"]["emodb"]["classes"]) == sorted(
        naming.SCHEMES[0].values["label"].values()  # type: ignore[type-var]
    )
    assert Params.load("corpora/emodb/params.yaml").get("corpus", CorpusConfig).language == "German"
    assert (file.with_name("dvc.yaml")).read_bytes() == (project / "dvc.yaml").read_bytes()
    assert (project / "data/raw/emodb").resolve() == emodb


def test_a_person_says_how_many_folds(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_table(tmp_path / "calls", 7)
    assert [begin(f"calls{folds}", folder, "--folds", str(folds)).folds for folds in (1, 3, 7, 9)] == [1, 3, 7, 7]
    with pytest.raises(SystemExit):
        main(["corpus", "new", "calls", str(folder), "--folds", "0"])
    assert "0: expected a number of folds, 1 or more" in capsys.readouterr().err


def test_of_many_speakers_some_are_test_once_and_for_all(project: Path, tmp_path: Path) -> None:
    task = begin("calls", write_table(tmp_path / "calls", 50))
    assert Params.load("corpora/calls/params.yaml").get("corpus", CorpusConfig).language is None
    assert task.folds == 1
    assert [len(each) for each in speakers(task, 0)] == [30, 10, 10]


def test_splits_of_the_corpus_are_kept(project: Path, tmp_path: Path) -> None:
    split = {"s0": "train", "s1": "dev", "s2": "test"}
    task = begin("calls", write_table(tmp_path / "calls", 3, split=lambda _, speaker: split[speaker]))
    assert [len(each) for each in speakers(task, 0)] == [1, 1, 1]
    assert task.config.splits == "official"


def test_other_words_for_splits_are_understood(project: Path, tmp_path: Path) -> None:
    split = {"s0": "Train", "s1": "validation", "s2": "test"}
    task = begin("calls", write_table(tmp_path / "calls", 3, split=lambda _, speaker: split[speaker]))
    assert speakers(task, 0) == [{"s0"}, {"s1"}, {"s2"}]
    with pytest.raises(CorpusError, match="split is 'half'; expected train, dev or test"):
        propose("mine", write_table(tmp_path / "mine", 3, split=lambda *_: "half"))


@pytest.mark.parametrize("sessions", [True, False])
def test_speakers_who_talk_with_each_other_are_not_torn_apart(project: Path, tmp_path: Path, sessions: bool) -> None:
    """Two in each dialogue, one of them in all: only sessions or dialogues can be split."""
    columns: dict[str, Callable[[int, str], str]] = {
        "speaker": lambda turn, speaker: "agent" if turn % 4 < 2 else speaker
    }
    if sessions:
        columns["session"] = lambda _, speaker: f"day{speaker}"
    folder = write_table(tmp_path / "calls", 10, **columns)
    task = begin("calls", folder)
    assert task.config.speakers == "shared"
    assert task.folds == (5 if sessions else 1)
    if not sessions:
        with pytest.raises(CorpusError, match="no folds can be made, since dialogues share speakers and sessions"):
            propose("calls", folder, folds=5)


def test_a_single_dialogue_for_test_is_told(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "calls", 8, speaker=lambda *_: "ann")
    remarks = propose("calls", folder).remarks
    assert "; with one test dialogue there are no intervals" in remarks[0]
    assert remarks[1] == "there is no sound yet, without which features cannot be extracted; it belongs in audio/"


def test_labels_that_are_rare_are_told_and_taken_by_no_class(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = {("s3", 4): "bored", ("s5", 1): "bored", ("s0", 0): "afraid"}
    folder = write_table(
        *(tmp_path / "calls", 6), label=lambda turn, who: rare.get((who, turn), ("happy", "sad")[turn % 2])
    )
    task = begin("calls", folder)
    assert "labels with fewer than 10 utterances are left out: afraid 1, bored 2" in capsys.readouterr().out
    assert (task.classes, task.untaken()) == (("happy", "sad"), {"afraid": 1, "bored": 2})


def test_columns_of_other_names_are_told_and_not_read(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns: dict[str, Callable[[int, str], str]] = {
        "age": lambda *_: "30",
        "über: #": lambda *_: "",
        "": lambda *_: "0",
    }
    begin("calls", write_table(tmp_path / "calls", 6, **columns))
    assert "decided   columns of other names are not read: age, über: #, (no name)\n" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/utterances.csv").write_text("utterance_id,Label\na,x\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"unknown columns \['Label'\]"):
        propose("mine", tmp_path / "mine")


def test_dialogues_are_drawn_until_every_class_is_in_every_split(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, number in product(("joy", "rage", "grief"), range(10)):
        (tmp_path / "mine" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / label / f"{number}.wav").touch()
    task = begin("mine", tmp_path / "mine", "--names", "(?P<label>.*)/.*")
    assert all(min(counts.values()) > 0 for counts in task.class_counts(0).values())
    found = capsys.readouterr().out
    assert "no three speakers or sessions are known, so whole dialogues are drawn" in found
    assert "some class is missing" not in found


def test_sound_that_is_missing_is_told_before_a_task_fails(project: Path, tmp_path: Path) -> None:
    folder = write_table(tmp_path / "calls", 6, audio=lambda turn, who: f"{who}/{turn}.wav")
    (folder / "s0").mkdir()
    (folder / "s0/0.wav").touch()
    begin("calls", folder)
    assert next(check_corpus("calls")).endswith(" 0 with text, 1 with sound")
    told = list(check_corpus("calls"))
    assert told[1] == "  sound files that are missing: 59, such as data/raw/calls/s0/1.wav"
    (folder / "utterances.csv").write_text("utterance_id,label,speaker\na,happy,s\n", encoding="utf-8")
    told = []
    with pytest.raises(TaskError):
        told.extend(check_corpus("calls"))
    assert told


SOUNDS = {
    "RAVDESS": {"Actor_01/03-01-05-01-02-01-01": ("01", "angry"), "Actor_02/03-01-04-01-01-01-02": ("02", "sad")},
    "CREMA-D": {"1001_DFA_ANG_XX": ("1001", "anger"), "1002_IEO_SAD_HI": ("1002", "sadness")},
    "a guess": {
        f"{who}/take-{who}-{take}_{label}": (who, label)
        for who, take, label in product(("ann", "bob"), range(9), ("happy", "sad"))
    },
    "a guess: Anger/A0 is read as label Anger": {
        f"{label}/{label[0]}{take}{'_b' * (take % 2)}": (None, label)
        for take, label in product(range(9), ("Anger", "Joy"))
    },
    "a guess: angry/angry_00 is read as label angry": {
        f"{label}/{label}_{take:02d}": (None, label) for take, label in product(range(9), ("angry", "sad"))
    },
}


def test_a_folder_per_split_is_no_speaker_and_neither_is_a_count(tmp_path: Path) -> None:
    for split, label, take in product(("train", "val", "test"), ("angry", "sad"), range(9)):
        path = tmp_path / split / label / f"{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    proposal = propose("mine", tmp_path)
    assert proposal.splits == "official"
    assert {(each.speaker, each.split) for each in proposal.corpus.utterances} == {
        (None, split) for split in ("train", "dev", "test")
    }
    assert proposal.scheme is not None
    assert proposal.scheme.title == "a guess: test/angry/0 is read as split test, label angry"


def test_splits_that_lack_one_are_told_before_the_corpus_is_written(tmp_path: Path) -> None:
    for split, label, take in product(("train", "test"), ("angry", "sad"), range(9)):
        path = tmp_path / split / label / f"{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(CorpusError, match="no utterance's split is dev; move some there"):
        propose("mine", tmp_path)
    assert propose("mine", tmp_path, names="[^/]+/(?P<label>[^/]+)/.*").splits != "official"


@pytest.mark.parametrize("scheme", SOUNDS)
def test_names_of_files_tell_speaker_and_label(tmp_path: Path, scheme: str) -> None:
    for name in SOUNDS[scheme]:
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = naming.guess(sound_names(tmp_path))
    assert found is not None
    assert found.title.startswith(scheme)
    values = {name: dict(each) for name, each in found.values.items()}
    rows = read_own(tmp_path, OwnConfig(names=found.pattern, values=values))
    result = {each.utterance_id: (each.speaker, each.label) for each in rows.utterances}
    assert result == {name.rpartition("/")[2]: meant for name, meant in SOUNDS[scheme].items()}


def test_what_tells_nothing_is_refused(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recording.wav").touch()
    with pytest.raises(CorpusError, match="no known pattern fits the file names; give one with --names"):
        propose("mine", tmp_path / "mine")
    for place, fault in (
        ("mine/recording.wav", "no such folder"),
        ("none", "no such folder"),
        ("empty", "no utterances.csv, utt"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(CorpusError, match=f"{place}: {fault}"):
            propose("mine", tmp_path / place)
    table = write_table(tmp_path / "few", 1, label=lambda turn, _: ("joy", "rage", "fear")[turn % 3])
    with pytest.raises(CorpusError, match="10 utterances of two labels at least; found fear 3, joy 4, rage 3"):
        propose("few", table)
    with pytest.raises(CorpusError, match="0 labels; expected at least two, in a column or group `label`"):
        propose("mine", tmp_path / "mine", names=r"(?P<speaker>\w+)")
    with pytest.raises(ParamsError, match=r"--names: .*names is not a regular expression: missing"):
        propose("mine", tmp_path / "mine", names="(?P<label")
    assert main(["corpus", "new", "demo", str(tmp_path / "mine")]) != 0
    assert main(["corpus", "new", "a/b", str(tmp_path / "mine")]) != 0
    assert not (project / "corpora").exists()
    found = capsys.readouterr().err
    assert "'demo': there is already a corpus with this name" in found
    assert "'a/b': expected only letters, digits, hyphens and underscores" in found
