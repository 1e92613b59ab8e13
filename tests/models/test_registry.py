"""The registry: every model once, found by its entry, in the order of every table."""

import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.core.params import Params
from emofuse.models.parts.base import Network
from emofuse.models.registry import FUSION, MODELS, UNIMODAL, Model, in_order, model, sources

ORDER = (
    *("majority", "audio-linear", "text-linear", "linear"),
    *("audio-utterance", "text-utterance", "audio-context", "text-context"),
    *("concat", "late", "hcam", "cma", "hbaf"),
)


def test_the_baselines_stand_first() -> None:
    assert tuple(MODELS) == ORDER
    assert [each.name for each in FUSION] == ["majority", "linear", "concat", "late", "hcam", "cma", "hbaf"]
    assert [each.name for each in UNIMODAL] == list(ORDER[4:8])


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)
def test_every_entry_leads_to_what_it_names(entry: Model) -> None:
    if entry.kind == "network":
        assert issubclass(entry.network_class(), Network)
        assert is_dataclass(entry.config_class())
    else:
        trains = {"prior": "prior", "mixture": "mix"}.get(entry.kind, entry.network)
        assert callable(getattr(entry.load(), str(trains)))
    assert entry.title


def test_every_model_has_a_section_and_every_section_a_model(root: Path) -> None:
    """The two sections of the unimodal networks have the names of the modalities."""
    sections = Params.load(root=root).names("models")
    assert sorted(sections) == sorted(["audio", "text", *(each.name for each in FUSION)])


def test_every_file_of_a_model_is_somebody_s(root: Path) -> None:
    files = {path.stem for path in (root / "src/emofuse/models").glob("*.py")} - {"__init__", "registry"}
    assert files == {each.module for each in MODELS.values()}


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        ("majority", False),
        ("linear", False),
        ("cma", False),
        ("concat", True),
        ("late", True),
        ("hcam", True),
        ("hbaf", True),
    ],
)
def test_what_reads_networks_waits_for_them(name: str, waits: bool) -> None:
    assert MODELS[name].reads_networks is waits


@pytest.mark.parametrize(
    ("name", "reads", "expected"),
    [
        ("hcam", "context", {"audio": "audio-context", "text": "text-context"}),
        ("hcam/no-context", "utterance", {"audio": "audio-utterance", "text": "text-utterance"}),
        ("hbaf", "utterance", {"audio": "audio-utterance", "text": "text-utterance"}),
        ("late", "probabilities", {"audio": "audio-context", "text": "text-context"}),
        ("audio-context", "utterance", {"audio": "audio-utterance"}),
        ("text-context", "utterance", {"text": "text-utterance"}),
        ("text-utterance", "frames", {}),
        ("concat", "pooled", {}),
        ("cma", "frames", {}),
        ("majority", "labels", {}),
    ],
)
def test_a_run_reads_from_the_networks_of_its_own_modalities(name: str, reads: str, expected: dict[str, str]) -> None:
    found = sources({"model": name, "reads": reads})
    assert {modality: each.name for modality, each in found.items()} == expected


def test_an_ablation_is_of_its_model_and_what_is_not_there_is_an_error() -> None:
    assert model("hcam/no-context") is MODELS["hcam"]
    with pytest.raises(KeyError, match="tensor"):
        model("tensor/no-context")


def test_models_stand_in_the_order_of_the_registry() -> None:
    names = ["zeta", "hbaf", "hcam/no-contrastive", "alpha", "cma", "hcam", "majority", "zeta/small", "hcam"]
    assert in_order(names) == ["majority", "hcam", "hcam/no-contrastive", "cma", "hbaf", "alpha", "zeta", "zeta/small"]


NAMES = st.sampled_from([*ORDER, "hcam/a", "hcam/b", "hcam-like", "cma/a", "new", "new/a"])


@given(st.lists(NAMES), st.randoms(use_true_random=False))
def test_the_order_is_of_the_names_and_not_of_the_list(names: list[str], generator: object) -> None:
    ordered = in_order(names)
    assert sorted(ordered) == sorted(set(names))
    generator.shuffle(names)  # type: ignore[attr-defined]
    assert in_order(names) == ordered
    for base in {name.partition("/")[0] for name in ordered if "/" in name} & set(ordered):
        own = [place for place, name in enumerate(ordered) if name.partition("/")[0] == base]
        assert own == list(range(own[0], own[0] + len(own)))
        assert ordered[own[0]] == base


def test_looking_a_model_up_imports_no_network() -> None:
    found = "{'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    code = f"import sys; from emofuse.models.registry import MODELS; print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
