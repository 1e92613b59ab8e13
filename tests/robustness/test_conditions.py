"""A condition is read by its name, for the modality under which `run` names it."""

from pathlib import Path
from typing import Any

import pytest

from emofuse.core.params import Params, ParamsError
from emofuse.plan import Plan
from emofuse.robustness.conditions import Change, Found, Noise, WordErrors, read_condition

NOISE, ERRORS = {"noise_db": 20.0, "seed": 0}, {"word_errors": 0.1, "seed": 3}
FOUND = {"recogniser": "folder", "pause_s": 0.6}


def params(condition: Any, name: str = "x") -> Params:
    return Params({"conditions": {name: condition}}, Path("params.yaml"))


@pytest.mark.parametrize(
    ("given", "modality", "change"),
    [
        (NOISE, "audio", Noise(20.0, 0)),
        (ERRORS, "text", WordErrors(0.1, 3)),
        (FOUND, "both", Found("folder", 0.6)),
        (FOUND | {"dialogues": 3}, "both", Found("folder", 0.6, 3)),
        ("missing", "audio", "missing"),
        ("missing", "text", "missing"),
    ],
)
def test_a_condition_is_what_the_parameters_say(given: Any, modality: str, change: Change) -> None:
    assert read_condition(params(given), "x", modality) == change


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"word_errors": 1.5, "seed": 0}, r"conditions\.x.*word_errors: 1\.5"),
        ({"noise_db": 20.0}, r"conditions\.x.*seed: missing"),
        ("louder", r"conditions\.x.*'louder'"),
    ],
)
def test_a_condition_that_is_none_is_refused(given: Any, fault: str) -> None:
    with pytest.raises(ParamsError, match=fault):
        read_condition(params(given), "x", "text")


@pytest.mark.parametrize(
    ("given", "named", "changed"), [(NOISE, "text", "audio"), (ERRORS, "audio", "text"), (FOUND, "audio", "both")]
)
def test_a_change_of_the_other_modality_is_refused(given: Any, named: str, changed: str) -> None:
    with pytest.raises(ParamsError, match=rf"run.conditions.{named}: 'x' changes {changed}; name it under {changed}"):
        read_condition(params(given), "x", named)


@pytest.mark.parametrize("name", ["Noise at 20 dB", "noise/20", "noise.20"])
def test_a_name_that_could_be_no_folder_is_refused(name: str) -> None:
    run = {"tasks": [], "audio": [], "text": [], "models": {"features": [], "networks": []}}
    tree = {"file": "params.yaml", "corpus": {"name": "demo"}, "tasks": {}, "encoders": {}, "conditions": {name: NOISE}}
    with pytest.raises(ParamsError, match=r"run\.conditions\.audio"):
        Plan.load(Params(tree | {"run": run | {"conditions": {"audio": [name]}}}, Path("params.yaml")))
