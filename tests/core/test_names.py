"""Names with numbers are sorted as people count, and compared in one form."""

import os
import subprocess
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from emofuse.core.names import composed, is_utf8, natural, readable


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["{}.wav", "turn {} of 9.flac", "a{}b01.mp3"]))
def test_numbers_in_names_are_counted(numbers: list[int], name: str) -> None:
    names = sorted((name.format(number) for number in numbers), key=natural)
    assert names == [name.format(number) for number in sorted(numbers)]


@given(st.lists(st.text(alphabet="aB1²٣ä0/.", max_size=6), unique=True))
def test_any_names_have_one_order(names: list[str]) -> None:
    assert len({str(natural(name)) for name in names}) == len(names)


def test_accents_are_composed() -> None:
    assert composed(unicodedata.normalize("NFD", "für")) == "für"


@given(st.binary(max_size=20))
def test_any_name_of_a_file_can_be_written_down(name: bytes) -> None:
    shown = readable(os.fsdecode(name))
    shown.encode()
    assert (shown == os.fsdecode(name)) == is_utf8(os.fsdecode(name))


def test_a_surrogate_that_stands_for_no_byte_is_shown_too() -> None:
    assert readable("a\ud800b") == "a\\ud800b"


def test_what_is_printed_may_have_any_name_in_it() -> None:
    """Of a command and of a stage, and where the terminal knows no umlaut."""
    for code in (
        "import emofuse.cli as cli; cli._table = lambda _: print('gr\\udcfcn', 'gr\\xfcn'); cli.main(['table'])",
        "from emofuse.core.process import stage\nwith stage('x'): print('gr\\udcfcn', 'gr\\xfcn')",
    ):
        for encoding, expected in (("utf-8", "gr\\udcfcn gr\xfcn"), ("ascii", "gr\\udcfcn gr\\xfcn")):
            done = subprocess.run(
                [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True
            )
            assert done.stdout.decode().strip() == expected, done.stderr.decode()
