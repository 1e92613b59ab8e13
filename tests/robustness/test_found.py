"""Words are found where somebody speaks, and their errors are counted as the textbook has it."""

from collections.abc import Sequence

import numpy as np
import pytest
from emofuse.inference.heard import PACKAGED, recogniser
from scipy.signal import resample_poly

from emofuse.corpora.demo.voice import Speech
from emofuse.robustness.found import identity, word_error_rate, write_down

TEXTS = ("You are late for the meeting.", "The report is not finished yet.")


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
    assert word_error_rate(truth, heard) == (None if rate is None else pytest.approx(rate))


def test_where_nobody_speaks_nothing_is_written_down() -> None:
    heard: list[int] = []

    def recognise(clips: Sequence[np.ndarray]) -> list[str]:
        heard.extend(map(len, clips))
        return ["  Thanks for\nwatching! " if len(heard) == 1 else " "]

    speech, silence = spoken(TEXTS[0]), np.zeros(16_000, np.float32)
    heard = write_down([("a", speech), ("b", silence), ("c", speech)], recognise)
    assert heard == {"a": "Thanks for watching!", "b": None, "c": None}
    assert heard == [len(speech)] * 2


def test_the_packaged_recogniser_understands_the_synthesizer() -> None:
    heard = write_down([(text, spoken(text)) for text in TEXTS], recogniser())
    found = word_error_rate(TEXTS, list(heard.values()))
    assert found is not None
    assert found < 0.2


def test_a_recogniser_s_files_are_what_its_words_depend_on() -> None:
    assert identity(PACKAGED)["files"]["model.bin"] != identity("some/recogniser@1")["files"].get("model.bin")
    assert identity("some/recogniser@1") != identity("some/recogniser@2")
