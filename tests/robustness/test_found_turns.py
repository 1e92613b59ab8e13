"""Turns are found where somebody speaks, belong to the utterances that they are of, and errors are counted."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import polars as pl
import pytest
from scipy.signal import resample_poly

from emofuse.corpora.demo.voice import Speech
from emofuse.inference.transcripts import recogniser
from emofuse.inference.voice_activity import Span
from emofuse.inference.whisper import PACKAGED
from emofuse.robustness.found_turns import Aligned, align, find, identity, join, word_error_rate, write_down
from emofuse.robustness.listening import spread

TEXTS = ("You are late for the meeting.", "The report is not finished yet.")
SECOND = 16_000


def spoken(text: str) -> np.ndarray:
    samples, rate = Speech(text, "en-us", 140, 50, 50, 80, "test").load()
    return resample_poly(samples[0], 320, rate // 50).astype(np.float32)


@pytest.mark.parametrize(
    ("truth", "heard", "rate"),
    [
        (["You are late!"], ["you are, late"], 0.0),
        (["You are late."], ["You are never late."], 1 / 3),
        (["You are late.", "Sorry"], ["You were", None], 3 / 4),
        (["It’s late", None], ["It's late", "um"], 1 / 2),
        (["Grüße"], ["GRÜSSE"], 0.0),
        ([None, "…"], ["so", None], None),
    ],
)
def test_errors_are_counted_over_all_words(
    truth: list[str | None], heard: list[str | None], rate: float | None
) -> None:
    assert word_error_rate(truth, heard) == (None if rate is None else pytest.approx(rate, abs=1e-6))


def test_clips_are_joined_at_their_times_or_with_the_pause() -> None:
    clips = {name: np.full(SECOND, value, np.float32) for name, value in (("a", 0.1), ("b", 0.2), ("c", 0.3))}
    joined = join(clips, dict.fromkeys(clips, (None, None)), 0.5)
    assert [astuple(each) for each in joined.places.values()] == [(0, 16_000), (24_000, 40_000), (48_000, 64_000)]
    assert joined.samples[[0, 16_000, 24_000, 63_999]].tolist() == pytest.approx([0.1, 0.0, 0.2, 0.3])
    # A quarter of a second between the first two, minutes between the others, of which two seconds stay.
    timed = join(clips, {"a": (10.0, 11.0), "b": (11.25, 12.25), "c": (300.0, 301.0)}, 0.5)
    assert [astuple(each) for each in timed.places.values()] == [(0, 16_000), (20_000, 36_000), (68_000, 84_000)]
    overlapping = join(clips, {"a": (10.0, 11.0), "b": (10.5, 11.5), "c": (11.5, 12.5)}, 0.5)
    assert len(overlapping.samples) == 3 * SECOND


PLACES = {"a": Span(0, 10), "b": Span(20, 30), "c": Span(40, 50), "d": Span(60, 70)}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([(1, 9), (19, 31), (40, 49), (61, 72)], {each: Aligned((n,)) for n, each in enumerate("abcd")}),
        ([(0, 4), (6, 10), (21, 30)], {"a": Aligned((0, 1)), "b": Aligned((2,))}),
        ([(0, 28), (41, 50)], {"a": Aligned((0,)), "b": Aligned((0,), shared=True), "c": Aligned((1,))}),
        ([(11, 19)], {}),
        ([], {}),
    ],
    ids=["one each", "split in two", "two in one", "between the turns", "nothing"],
)
def test_a_turn_belongs_to_the_utterance_that_it_overlaps_most(
    turns: list[tuple[int, int]], expected: dict[str, Aligned]
) -> None:
    assert align(PLACES, [Span(*each) for each in turns]) == expected


def test_turns_and_words_of_a_synthetic_dialogue_are_those_that_it_was_joined_from() -> None:
    clips = {text: spoken(text) for text in TEXTS}
    clips["silence"] = np.zeros(SECOND, np.float32)
    dialogue = join(clips, dict.fromkeys(clips, (None, None)), 0.8)
    turns = find(dialogue)
    assert align(dialogue.places, turns) == {text: Aligned((number,)) for number, text in enumerate(TEXTS)}
    ((first, second),) = write_down([(dialogue, turns)], recogniser())
    found = word_error_rate(TEXTS, [first, second])
    assert found is not None
    assert found < 0.2


def test_words_come_back_to_their_dialogues() -> None:
    def recognise(clips: Sequence[np.ndarray]) -> list[str]:
        return [f"  {clip[0]:.0f}\n words " for clip in clips]

    samples = {str(value): np.full(10, value, np.float32) for value in range(3)}
    joined = join(samples, dict.fromkeys(samples, (None, None)), 0.0)
    pairs = [(joined, [Span(10, 20), Span(20, 30)]), (joined, []), (joined, [Span(0, 10)])]
    assert write_down(pairs, recognise) == [["1 words", "2 words"], [], ["0 words"]]


def test_dialogues_are_spread_over_all_of_them() -> None:
    table = pl.DataFrame({"utterance_id": map(str, range(20)), "dialogue_id": [f"d{n // 2}" for n in range(20)]})
    assert spread(table, 3)["dialogue_id"].unique(maintain_order=True).to_list() == ["d0", "d3", "d6"]
    assert spread(table, None).equals(table)
    assert spread(table, 99).equals(table)


def test_a_recogniser_s_files_are_what_its_words_depend_on() -> None:
    assert identity(PACKAGED)["files"]["model.bin"] != identity("some/recogniser@1")["files"].get("model.bin")
    assert identity("some/recogniser@1") != identity("some/recogniser@2")
