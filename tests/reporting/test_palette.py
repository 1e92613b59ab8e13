"""One meaning has one colour, whatever a corpus calls it, and two classes of a task never share one."""

import pytest

from emofuse.reporting.palette import MEANINGS, emotion_colours


@pytest.mark.parametrize(
    "classes",
    [("angry", "happy", "sad", "neutral"), ("anger", "joy", "sadness", "neutral"), ("ang", "hap", "sad", "neu")],
)
def test_the_names_of_a_meaning_have_its_colour(classes: tuple[str, ...]) -> None:
    wanted = [MEANINGS[each] for each in ("anger", "joy", "sadness", "neutral")]
    assert list(emotion_colours(classes).values()) == wanted


def test_the_order_of_classes_changes_no_colour() -> None:
    classes = ("surprise", "anger", "joy")
    assert emotion_colours(classes) == emotion_colours(classes[::-1])


@pytest.mark.parametrize("classes", [("joy", "happy", "hap"), [f"class {number}" for number in range(8)]])
def test_two_classes_never_share_a_colour(classes: tuple[str, ...]) -> None:
    assert len(set(emotion_colours(classes).values())) == len(classes)


def test_many_classes_all_have_one() -> None:
    classes = [f"class {number}" for number in range(30)]
    assert list(emotion_colours(classes)) == classes


def test_colours_of_meanings_differ() -> None:
    assert len(set(MEANINGS.values())) == len(MEANINGS)
