"""The identity of features covers all code that computes them."""

from types import ModuleType

import pytest

from emofuse.core.imports import closure
from emofuse.encoders import speech, text

ASIDE = {"base", "ctranslate2", "pretrained", "sources"}
"""Modules that find, read and describe networks; what they hand on has digests of its own."""


@pytest.mark.parametrize("module", [speech, text])
def test_all_code_that_computes_features_is_in_their_identity(module: ModuleType) -> None:
    run = closure(module.__name__.removeprefix("emofuse."))
    computing = {name.removeprefix("encoders.") for name in run if name.startswith("encoders.")} - ASIDE
    assert set(module._CODE) == computing
