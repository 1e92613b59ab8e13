"""A task's splits do not leak, and what training is shown never holds a label of the test split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.core.params import ParamsError, validate
from emofuse.core.schema import IGNORE, SPLITS
from emofuse.tasks import Task, TaskConfig, TaskError

CLASSES = {"good": ("joy", "love"), "bad": ("fear",)}
CONFIG = {
    **{"classes": CLASSES, "seeds": 1, "context": "full"},
    **{"unlabelled": "keep", "speakers": "disjoint", "transcript": "made up"},
}

Line = tuple[str, str | None, str | None, str | None]
"""dialogue, speaker, label, split"""

LINES: list[Line] = [
    ("a", "Ann", "joy", "train"),
    ("a", "Bob", None, "train"),
    ("a", "Ann", "fear", "train"),
    ("a", None, "love", "train"),
    ("b", "Cyd", "love", "dev"),
    ("b", "Cyd", "fear", "dev"),
    ("c", "Dan", "awe", "test"),
    ("c", "Eve", "fear", "test"),
    ("c", "Dan", "joy", "test"),
    ("d", "Dan", None, "test"),
]


def table(lines: Sequence[Line]) -> pl.DataFrame:
    columns = dict.fromkeys(("dialogue_id", "speaker", "label", "split"), pl.String)
    rows = pl.DataFrame(lines, schema=columns, orient="row")
    rows = rows.with_columns(session=pl.lit(None, pl.String), sentiment=pl.lit(None, pl.Float64))
    return rows.with_row_index().with_columns(utterance_id=pl.format("u{}", "index"))


def task(lines: Sequence[Line] = LINES, **config: Any) -> Task:
    return Task("small", TaskConfig(**CONFIG | config), table(lines))


def changed(row: int, **values: str | None) -> list[Line]:
    lines = [dict(zip(("dialogue", "speaker", "label", "split"), line, strict=True)) for line in LINES]
    lines[row] |= values
    return [tuple(line.values()) for line in lines]


def test_a_fold_in_full() -> None:
    fold = task().fold(0)
    assert fold.utterance_ids == tuple(f"u{number}" for number in range(10))
    assert fold.dialogues.tolist() == [0, 4, 6, 9, 10]
    assert fold.speakers.tolist() == [0, 1, 0, -1, 2, 2, 3, 4, 3, 3]
    assert [SPLITS[each] for each in fold.splits] == [*["train"] * 4, *["dev"] * 2, *["test"] * 4]
    assert fold.targets.tolist() == [0, IGNORE, 1, 0, 0, 1, *[IGNORE] * 4]
    assert fold.scored.tolist() == [True, False, True, True, True, True, False, True, True, False]
    assert (fold.classes, fold.context) == (("good", "bad"), "full")


def test_unlabelled_turns_can_be_dropped() -> None:
    fold = task(unlabelled="drop").fold(0)
    assert fold.utterance_ids == ("u0", "u2", "u3", "u4", "u5", "u7", "u8")
    assert fold.dialogues.tolist() == [0, 3, 5, 7]
    assert fold.scored.all()
    assert fold.targets.tolist() == [0, 1, 0, 0, 1, IGNORE, IGNORE]


@pytest.mark.parametrize("unlabelled", ["keep", "drop"])
def test_the_truth_has_dev_and_test(unlabelled: str) -> None:
    small = task(unlabelled=unlabelled)
    assert small.truth().drop("speaker").rows() == [
        (0, "dev", "u4", "b", 0, None),
        (0, "dev", "u5", "b", 1, None),
        (0, "test", "u7", "c", 1, None),
        (0, "test", "u8", "c", 0, None),
    ]
    assert small.truth().columns == [
        *("fold", "split", "utterance_id", "dialogue_id", "speaker", "target", "sentiment")
    ]
    assert small.truth()["speaker"].to_list() == ["Cyd", "Cyd", "Eve", "Dan"]
    assert small.counts(0) == {"train": 3, "dev": 2, "test": 2}


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (changed(3, split="dev"), "dialogue_id 'a' is in dev and train; 1 in total"),
        (changed(0, split="test"), "dialogue_id 'a' is in test and train; 1 in total"),
        (changed(1, split="test"), "dialogue_id 'a' is in test and train; 1 in total"),
        (changed(4, speaker="Ann"), "speaker 'Ann' is in dev and train; 1 in total"),
        (changed(9, speaker="Bob"), "speaker 'Bob' is in test and train; 1 in total"),
        (changed(5, label="joy"), "class 'bad' has no utterance in dev"),
        (changed(8, label="awe"), "class 'good' has no utterance in test"),
        (changed(0, split=None), r"splits are \['None', 'dev', 'test', 'train'\]; expected"),
        (changed(0, split="valid"), r"splits are \['dev', 'test', 'train', 'valid'\]; expected"),
        (LINES[:6], r"splits are \['dev', 'train'\]; expected \['train', 'dev', 'test'\]"),
        ([*LINES, ("a", "Ann", "joy", "test")], "dialogue_id 'a' is in test and train"),
    ],
)
def test_a_corpus_that_does_not_serve_is_refused(lines: Sequence[Line], fault: str) -> None:
    with pytest.raises(TaskError, match=f"^task small: .*{fault}"):
        task(lines)


def test_a_leaking_speaker_is_allowed_where_the_protocol_says_so() -> None:
    lines = changed(4, speaker="Ann")
    assert task(lines, speakers="shared").fold(0).speakers[4] == 0


def test_unknown_speakers_are_no_leak() -> None:
    assert task(changed(4, speaker=None)).fold(0).speakers[3:5].tolist() == [-1, -1]


def test_a_label_that_the_corpus_does_not_have_is_named() -> None:
    with pytest.raises(TaskError, match=r"take the labels \['lvoe'\]; the corpus's labels are \['awe', 'fear', 'joy'"):
        task(classes={"good": ("joy", "lvoe"), "bad": ("fear",)})


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"classes": {"good": ["joy"], "bad": ["joy"]}}, r"\['joy'\] are in several classes"),
        ({"classes": {"good": ["joy", "joy"], "bad": ["fear"]}}, r"\['joy'\] are in several classes"),
        ({"classes": {"good": ["joy"]}}, "tasks.small.classes: "),
        ({"seeds": 0}, "tasks.small.seeds: 0: .*greater than or equal to 1"),
        ({"context": "future"}, "tasks.small.context: 'future': .*'full' or 'causal'"),
        ({"unlabelled": "guess"}, "'keep' or 'drop'"),
        ({"speakers": True}, "'disjoint' or 'shared'"),
        ({"classes": {"good": ["joy"], "bad": {"below": 0}}}, "classes take labels or sentiments"),
        ({"classes": {"good": {"at_least": 0}, "bad": {"below": 0.1}}}, "a sentiment falls into two classes"),
        ({"classes": {"good": {}, "bad": {"below": 0}}}, "a sentiment falls into two classes"),
        ({"classes": {"good": {"at_least": 1, "below": 1}, "bad": {"below": 0}}}, "at least 1.0 and below 1.0"),
        ({"classes": {"good": {"above": 1}, "bad": {"below": 0}}}, r"small\.classes\.good\..*above: 1: "),
        ({"splits": "random"}, "tasks.small.splits.*: 'random': .*'official'"),
        ({"splits": {"by": "dialogue", "dev": ["a"], "test": ["b"]}}, "'dialogue': .*'session' or 'speaker'"),
        ({"splits": {"by": "session", "dev": ["a"], "test": "each"}}, "`each` only goes with `next`"),
        ({"splits": {"by": "session", "dev": "next", "test": ["a"]}}, "`each` only goes with `next`"),
        ({"splits": {"by": "session", "dev": ["b", "a"], "test": ["a"]}}, r"sessions \['a'\] are in dev and test"),
        (
            {"splits": {"by": "session", "dev": "next", "test": "each", "together": [["a"], ["b", "a"]]}},
            r"sessions \['a'\] are in `together` more than once",
        ),
        (
            {"splits": {"by": "session", "dev": ["a"], "test": ["b"], "together": [["a"]]}},
            "`together` only goes with `test: each`",
        ),
        ({"counts": {"valid": 1}}, "'valid'.*'all', 'train', 'dev' or 'test'"),
        ({"counts": {"dev": {"god": 1}}}, r"counts name \['god'\]; the classes are \['good', 'bad'\]"),
    ],
)
def test_a_bad_task_is_refused(config: dict[str, Any], fault: str) -> None:
    with pytest.raises(ParamsError, match=fault):
        validate(CONFIG | config, TaskConfig, "tasks.small")


LABELS = st.sampled_from(["joy", "love", "fear", "awe", None])


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """Any corpus that serves the task: whole dialogues in one split, all classes in every split."""
    lines: list[Line] = []
    for split in SPLITS:
        for dialogue in range(draw(st.integers(1, 3))):
            labels = draw(st.lists(LABELS, min_size=1, max_size=5))
            if dialogue == 0:
                labels += ["joy", "love", "fear"]
            speakers = st.sampled_from([f"{split}-0", f"{split}-1", None])
            lines += [(f"{split}-{dialogue}", draw(speakers), label, split) for label in labels]
    return table(lines)


@settings(max_examples=50)
@given(tables(), st.sampled_from(["keep", "drop"]), st.randoms(use_true_random=False))
def test_no_fold_depends_on_a_label_of_the_test_split(utterances: pl.DataFrame, unlabelled: str, order: Any) -> None:
    config = TaskConfig(**CONFIG | {"unlabelled": unlabelled, "classes": CLASSES | {"odd": ("awe",)}})
    utterances = pl.concat([utterances, table([(f"{split}-9", None, "awe", split) for split in SPLITS])])
    utterances = utterances.with_columns(utterance_id=pl.format("u{}", pl.int_range(pl.len())))
    hidden = (pl.col("split") == "test") & pl.col("label").is_not_null()
    labels = utterances.filter(hidden)["label"].to_list()
    order.shuffle(labels)
    rest = iter(labels)
    in_test = utterances.select(hidden).to_series().to_list()
    others = [next(rest) if test else label for test, label in zip(in_test, utterances["label"].to_list(), strict=True)]
    first = Task("small", config, utterances)
    second = Task("small", config, utterances.with_columns(label=pl.Series(others, dtype=pl.String)))
    for fold in range(first.folds):
        shown, shown_again = first.fold(fold), second.fold(fold)
        assert (shown.targets[shown.splits == SPLITS.index("test")] == IGNORE).all()
        for name in ("dialogues", "speakers", "splits", "targets", "scored"):
            np.testing.assert_array_equal(getattr(shown, name), getattr(shown_again, name))
        assert shown.utterance_ids == shown_again.utterance_ids


@settings(max_examples=50)
@given(tables(), st.sampled_from(["keep", "drop"]))
def test_fold_and_truth_agree(utterances: pl.DataFrame, unlabelled: str) -> None:
    small = Task("small", TaskConfig(**CONFIG | {"unlabelled": unlabelled}), utterances)
    fold, truth = small.fold(0), small.truth()
    labels = dict(utterances.select("utterance_id", "label").rows())
    for row in truth.to_dicts():
        assert labels[row["utterance_id"]] in CLASSES[small.classes[row["target"]]]
    scored = {
        each: SPLITS[split]
        for each, split, counts in zip(fold.utterance_ids, fold.splits, fold.scored, strict=True)
        if counts and SPLITS[split] != "train"
    }
    assert scored == dict(truth.select("utterance_id", "split").rows())
    dev = {row["utterance_id"]: row["target"] for row in truth.to_dicts() if row["split"] == "dev"}
    shown = dict(zip(fold.utterance_ids, fold.targets.tolist(), strict=True))
    assert {each: shown[each] for each in dev} == dev
    for first, last in zip(fold.dialogues[:-1], fold.dialogues[1:], strict=True):
        members = utterances.filter(pl.col("utterance_id").is_in(fold.utterance_ids[first:last]))
        assert members["dialogue_id"].n_unique() == 1
    assert fold.dialogues[-1] == len(fold.utterance_ids)
    if unlabelled == "keep":
        assert fold.utterance_ids == tuple(utterances["utterance_id"])


def test_the_dialogue_s_own_order_is_kept() -> None:
    fold = task(list(reversed(LINES))).fold(0)
    assert fold.utterance_ids == tuple(f"u{number}" for number in range(10))
    assert fold.dialogues.tolist() == [0, 1, 4, 6, 10]


def sessions() -> pl.DataFrame:
    """IEMOCAP in small: five sessions of two dialogues and two speakers each, the later ones with more joy."""
    rows = []
    for session in "12345":
        for dialogue in ("a", "b"):
            labels = ["love", "fear", None, *["joy"] * int(session)]
            rows += [(f"{session}{dialogue}", f"{session}{'FM'[turn % 2]}", label) for turn, label in enumerate(labels)]
    columns = dict.fromkeys(("dialogue_id", "speaker", "label"), pl.String)
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        utterance_id=pl.format("u{}", pl.int_range(pl.len())),
        session=pl.col("dialogue_id").str.head(1),
        split=pl.lit(None, pl.String),
        sentiment=pl.lit(None, pl.Float64),
    )


def by_session(utterances: pl.DataFrame, dev: Any, test: Any, together: Any = (), **config: Any) -> Task:
    rule = {"by": "session", "dev": dev, "test": test, "together": together}
    return Task("small", validate(CONFIG | {"splits": rule} | config, TaskConfig, "tasks.small"), utterances)


def groups(small: Task, utterances: pl.DataFrame) -> list[tuple[str, ...]]:
    """Sessions of train, dev and test of each fold, such as `345`."""
    sessions_of = utterances["session"].to_numpy()
    folds = [small.fold(index) for index in range(small.folds)]
    return [tuple("".join(sorted(set(sessions_of[fold.splits == split]))) for split in range(3)) for fold in folds]


@pytest.mark.parametrize(
    ("dev", "test", "expected"),
    [
        (["1"], ["5"], [("234", "1", "5")]),
        (["1", "3"], ["5"], [("24", "13", "5")]),
        (
            *("next", "each"),
            [("345", "2", "1"), ("145", "3", "2"), ("125", "4", "3"), ("123", "5", "4"), ("234", "1", "5")],
        ),
        ("each", ["5"], [("234", "1", "5"), ("134", "2", "5"), ("124", "3", "5"), ("123", "4", "5")]),
    ],
)
def test_splits_by_session(dev: Any, test: Any, expected: list[tuple[str, ...]]) -> None:
    utterances = sessions()
    small = by_session(utterances, dev, test)
    assert groups(small, utterances) == expected
    truth = small.truth()
    assert truth["fold"].unique().sort().to_list() == list(range(small.folds))
    for fold in range(small.folds):
        shown = small.fold(fold)
        assert (shown.targets[shown.splits == SPLITS.index("test")] == IGNORE).all()
        found = truth.filter(pl.col("fold") == fold)
        assert dict(found["split"].value_counts().iter_rows()) == {
            split: count for split, count in small.counts(fold).items() if split != "train"
        }


def test_each_speaker_in_turn() -> None:
    utterances = sessions().with_columns(dialogue_id=pl.col("utterance_id"), speaker=pl.col("session"))
    rule = {"by": "speaker", "dev": "next", "test": "each"}
    small = Task("small", validate(CONFIG | {"splits": rule}, TaskConfig, "tasks.small"), utterances)
    assert groups(small, utterances)[-1] == ("234", "1", "5")


def test_sessions_that_are_taken_together() -> None:
    utterances = sessions()
    small = by_session(utterances, "next", "each", [["4", "1"], ["2"], ["5"]])
    assert groups(small, utterances) == [("35", "2", "14"), ("134", "5", "2"), ("23", "14", "5")]
    assert small.split_source == "made here by session: dev next, test each of 4 1; 2; 5"
    with pytest.raises(TaskError, match=r"splits name the sessions \['6'\]"):
        by_session(utterances, "next", "each", [["1", "6"], ["2"], ["5"]])


@pytest.mark.parametrize(
    ("changes", "dev", "fault"),
    [
        ({"session": None}, ["1"], "^task small: u0 has no session, by which the task is split"),
        ({}, ["6"], r"^task small: splits name the sessions \['6'\]; the corpus has \['1', '2', '3', '4', '5'\]"),
        ({"dialogue_id": "4a"}, ["1"], "^task small: dialogue_id '4a' is in dev and train; 1 in total"),
        ({"dialogue_id": "2a"}, "each", "^task small, fold 0: dialogue_id '2a' is in dev and train; 1 in total"),
        ({"dialogue_id": "5a"}, "each", "^task small, fold 0: dialogue_id '5a' is in dev and test; 1 in total"),
        ({"speaker": "5F"}, "each", "^task small, fold 0: speaker '5F' is in dev and test; 1 in total"),
    ],
)
def test_a_leak_of_any_fold_is_named(changes: dict[str, str | None], dev: Any, fault: str) -> None:
    first = pl.col("utterance_id") == "u0"
    utterances = sessions().with_columns(
        pl.when(first).then(pl.lit(value, pl.String)).otherwise(name).alias(name) for name, value in changes.items()
    )
    with pytest.raises(TaskError, match=fault):
        by_session(utterances, dev, ["5"])


def test_a_leak_of_a_later_fold_alone_is_found() -> None:
    utterances = sessions().with_columns(
        dialogue_id=pl.when(pl.col("dialogue_id").is_in(["2a", "3b"])).then(pl.lit("x")).otherwise("dialogue_id")
    )
    by_session(utterances, ["1"], ["5"])
    with pytest.raises(TaskError, match=r"^task small, fold 1: dialogue_id 'x' is in dev and train"):
        by_session(utterances, "each", ["5"])


def test_a_class_that_a_fold_lacks_is_named() -> None:
    utterances = sessions().with_columns(
        label=pl.when((pl.col("session") == "3") & (pl.col("label") == "fear")).then(None).otherwise("label")
    )
    with pytest.raises(TaskError, match=r"^task small, fold 1: class 'bad' has no utterance in dev"):
        by_session(utterances, "next", "each")


def test_counts_that_differ_are_said_by_split_fold_and_class() -> None:
    utterances = sessions()
    assert by_session(utterances, "next", "each", counts={"all": 50, "test": [6, 8, 10, 12, 14]}).differences() == []
    counts = {"all": 51, "train": [36, 34], "dev": [8, 10, 13, 14, 6], "test": {"good": 10, "bad": 2}}
    assert by_session(utterances, "next", "each", counts=counts).differences() == [
        "all: 50 labelled utterances; the full corpus has 51",
        "train: 5 folds; the full corpus has 2",
        "dev of fold 2: 12 labelled utterances; the full corpus has 13",
        *(f"test: {found} good utterances; the full corpus has 10" for found in (4, 6, 8, 12)),
    ]
    assert by_session(utterances, "each", ["5"], counts={"test": 1_300}).differences() == [
        "test: 14 labelled utterances; the full corpus has 1,300"
    ]


def scored(*sentiments: float | None) -> pl.DataFrame:
    """One utterance of each sentiment in every split."""
    rows = [(split, split, value) for split in SPLITS for value in sentiments]
    columns = {"split": pl.String, "dialogue_id": pl.String, "sentiment": pl.Float64}
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        utterance_id=pl.format("u{}", pl.int_range(pl.len())),
        **dict.fromkeys(("label", "speaker", "session"), pl.lit(None, pl.String)),
    )


def test_classes_may_be_made_of_sentiments() -> None:
    classes = {"negative": {"below": 0}, "positive": {"at_least": 0}}
    config = validate(CONFIG | {"classes": classes}, TaskConfig, "tasks.small")
    small = Task("small", config, scored(-3, -0.2, 0.0, None, 2.6))
    assert small.fold(0).targets[:5].tolist() == [0, 0, 1, IGNORE, 1]
    found = small.truth().filter(pl.col("split") == "test").select("target", "sentiment").rows()
    assert found == [(0, -3.0), (0, -0.2), (1, 0.0), (1, 2.6)]


def test_sentiments_may_leave_a_gap() -> None:
    classes = {"negative": {"below": 0}, "neutral": {"at_least": 0, "below": 0.5}, "positive": {"at_least": 1}}
    config = validate(CONFIG | {"classes": classes}, TaskConfig, "tasks.small")
    fold = Task("small", config, scored(-1, 0, 0.7, 1)).fold(0)
    assert fold.targets[:4].tolist() == [0, 1, IGNORE, 2]
    assert fold.scored[:4].tolist() == [True, True, False, True]
