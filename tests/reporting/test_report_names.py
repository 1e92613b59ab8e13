"""What a tracker says of runs is shown, and never run, in a page."""

import json
import re

import pytest

from emofuse.reporting.printed import with_known
from emofuse.reporting.report import KNOWN

PAGE = f"<html>{KNOWN.format('{}')}</html>"


@pytest.mark.parametrize("name", ["hcam", "</script><script>alert(1)</script>", "<!--<script>", 'a"b', "\\u003c"])
def test_a_run_s_name_ends_no_script(name: str) -> None:
    page = with_known(PAGE, {name: 1.5})
    assert page.count("<script") == page.count("</script>") == 1
    assert "<!--" not in page
    found = re.search(r">(\{.*\})</script>", page)
    assert found is not None
    assert json.loads(found[1]) == {"seconds": {name: 1.5}, "commit": None}
