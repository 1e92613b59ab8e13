"""Names with numbers are sorted as people count, and compared in one form."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from emofuse.core.names import composed, natural


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["{}.wav", "turn {} of 9.flac", "a{}b01.mp3"]))
def test_numbers_in_names_are_counted(numbers: list[int], name: str) -> None:
    names = sorted((name.format(number) for number in numbers), key=natural)
    assert names == [name.format(number) for number in sorted(numbers)]


@given(st.lists(st.text(alphabet="aB1²٣ä0/.", max_size=6), unique=True))
def test_any_names_have_one_order(names: list[str]) -> None:
    assert len({str(natural(name)) for name in names}) == len(names)


def test_accents_are_composed() -> None:
    assert composed(unicodedata.normalize("NFD", "für")) == "für"
