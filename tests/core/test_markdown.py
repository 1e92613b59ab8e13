"""What people and corpora write is shown by Markdown as it is, in its own cell."""

from hypothesis import given
from hypothesis import strategies as st

from emofuse.core.markdown import plain, table

LABELS = ("<script>alert(1)</script>", "happy|sad", "R&B", "[a](javascript:alert(1))", "two\nlines", "<img src=x>")


def test_labels_are_text_in_cells_of_their_own() -> None:
    head, rule, first, *_ = table(["Label", "n"], ["---", "---:"], [(label, "**1**") for label in LABELS]).splitlines()
    assert (head, rule) == ("| Label | n |", "| --- | ---: |")
    assert first == "| &lt;script&gt;alert(1)&lt;/script&gt; | **1** |"


@given(st.text())
def test_no_text_makes_a_tag_a_link_a_cell_or_a_line(text: str) -> None:
    shown = plain(text)
    assert "<" not in shown
    assert "](" not in shown
    assert len(shown.splitlines()) <= 1
    assert shown.replace("\\|", "").count("|") == 0
