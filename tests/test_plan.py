"""What is run of a corpus: every name is one that there is, stands once, and can be part of a path."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from emofuse.core.layout import Pair
from emofuse.core.params import Params, ParamsError
from emofuse.plan import Plan, params_of_task, plans

SHARED: dict[str, Any] = {
    "encoders": {name: {} for name in ("logmel", "prosody", "bert", "minilm")},
    "conditions": {"noise-0": {}, "no-text": "missing"},
    "models": {"hcam": {"ablations": {"no-context": {}}}},
}


def corpus(name: str = "toy", file: str = "params.yaml", defined: tuple[str, ...] = ("toy-2",), **run: Any) -> Any:
    """The sections of a corpus, with two encoders of the sound and one of the words."""
    usual = {
        "tasks": [defined[0]],
        "audio": ["logmel", "prosody"],
        "text": ["bert"],
        "models": {"features": ["cma", "majority"], "networks": ["late", "hcam"], "ablations": ["hcam"]},
        "conditions": {"audio": ["noise-0"], "text": ["no-text"]},
    }
    return {
        "root": ".",
        "file": file,
        "corpus": {"name": name},
        "tasks": {task: {} for task in defined},
        "run": usual | run,
    }


def load(sections: Mapping[str, Any], folder: Path) -> Plan:
    return Plan.load(Params({**SHARED, **sections}, folder / "params.yaml"))


def test_what_is_selected_is_planned_in_the_order_of_tables(tmp_path: Path) -> None:
    plan = load(corpus(defined=("toy-2", "toy-3")), tmp_path)
    assert (plan.corpus, plan.file) == ("toy", "params.yaml")
    assert plan.pairs == [Pair("logmel", "bert"), Pair("prosody", "bert")]
    assert plan.run.tasks == ("toy-2",)
    assert plan.fusion == ["majority", "late", "hcam", "cma"]
    assert [plan.modality(each) for each in ("logmel", "prosody", "bert")] == ["audio", "audio", "text"]


def test_worse_conditions_and_ablations_may_be_left_out(tmp_path: Path) -> None:
    sections = corpus(models={"features": ["majority"], "networks": []})
    del sections["run"]["conditions"]
    run = load(sections, tmp_path).run
    assert (run.models.ablations, run.conditions.audio, run.conditions.text) == ((), (), ())


def models(**changes: Any) -> dict[str, Any]:
    return {"models": {"features": ["cma"], "networks": ["hcam"]} | changes}


ASKED = {"name": "asked", "task": "toy-2", "file": "asked.csv", "source": "a model, asked", "labels_seen": "unknown"}


def test_ablations_are_planned_by_name_and_none_takes_that_of_all_seeds(tmp_path: Path) -> None:
    own = models(ablations=["hcam"])
    assert load(corpus(**own), tmp_path).ablations == {"hcam": ("no-context",)}
    sections = {**corpus(**own), "models": {"hcam": {"ablations": {"ensemble": {}}}}}
    with pytest.raises(ParamsError, match=r"models\.hcam\.ablations: 'ensemble' is the row of all seeds; rename it"):
        load(sections, tmp_path)


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        ({"tasks": ["toy-7"]}, "tasks: 'toy-7'; expected some of toy-2"),
        ({"audio": ["logmell"]}, "audio: 'logmell'; expected some of logmel, prosody, bert, minilm"),
        ({"text": ["bert", "gpt"]}, "text: 'gpt'; expected some of logmel, prosody, bert, minilm"),
        (models(features=["tensor"]), "models.features: 'tensor'; expected some of majority, linear, cma"),
        (models(networks=["tensor"]), "models.networks: 'tensor'; expected some of concat, late, hcam, hbaf"),
        (models(features=["hcam"]), "models.features: 'hcam'; expected some of majority, linear, cma"),
        (models(networks=["hcam", "cma"]), "models.networks: 'cma'; expected some of concat, late, hcam, hbaf"),
        (models(features=["audio-context"]), "models.features: 'audio-context'; expected some of majority"),
        (models(ablations=["hbaf"]), "models.ablations: 'hbaf'; expected some of hcam, cma"),
        (models(ablations=["hcam", "hcam"]), "models.ablations: ['hcam'] stand twice; expected once each"),
        (models(features=["cma", "majority", "cma"]), "models.features: ['cma'] stand twice; expected once each"),
        ({"tasks": ["toy-2", "toy-2"]}, "tasks: ['toy-2'] stand twice; expected once each"),
        ({"audio": ["logmel", "prosody", "logmel"]}, "audio: ['logmel'] stand twice; expected once each"),
        ({"text": ["bert", "bert"]}, "text: ['bert'] stand twice; expected once each"),
        ({"conditions": {"audio": ["rain"]}}, "conditions.audio: 'rain'; expected some of noise-0, no-text"),
        ({"conditions": {"text": ["rain"]}}, "conditions.text: 'rain'; expected some of noise-0, no-text"),
        ({"conditions": {"text": ["no-text"] * 2}}, "conditions.text: ['no-text'] stand twice; expected once each"),
        ({"audio": ["logmel", "bert"]}, "['bert'] stand under audio and text; expected each under what it encodes"),
        ({"audio": "logmel"}, "audio: 'logmel': "),
        ({"audio": [1]}, "audio: [1]: names are text: put numbers"),
        ({"models": {"features": ["cma"]}}, "models.networks: missing: "),
        (models(unimodal=["audio"]), "models.unimodal: ['audio']: unknown key; allowed are ['ablations', 'features', "),
        (
            {"model": ["hcam"]},
            "model: ['hcam']: unknown key; allowed are ['audio', 'conditions', 'external', 'models', ",
        ),
        ({"external": [ASKED | {"task": "toy-7"}]}, "external: asked: task 'toy-7'; expected one of toy-2"),
        ({"external": [ASKED | {"name": "hcam"}]}, "external: 'hcam' is a model of this project; choose another"),
        ({"external": [ASKED, ASKED]}, "external, task toy-2: ['asked'] stand twice; expected once each"),
        ({"external": [ASKED | {"name": "a/b"}]}, "external.0.name: 'a/b': "),
    ],
)
def test_a_bad_selection_is_refused(tmp_path: Path, run: dict[str, Any], fault: str) -> None:
    with pytest.raises(ParamsError) as error:
        load(corpus(**run), tmp_path)
    beside = "run: " if "under audio and text" in fault else "run."
    assert str(error.value).startswith(f"{tmp_path / 'params.yaml'}: {beside}{fault}")


BAD_NAMES = ["a.b", "a b", "a/b", "../a", "a+b", "a@b", "-a", "", "${a}"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "key", ["tasks", "audio", "text", "models.features", "models.networks", "conditions.text", "conditions.both"]
)
def test_a_name_that_could_not_be_part_of_a_path_is_refused(tmp_path: Path, name: str, key: str) -> None:
    """Though there be an entry of that name: a dot parts keys, a plus encoders, a slash folders."""
    sections = {**deepcopy(SHARED), **corpus()}
    for section in ("tasks", "encoders", "conditions"):
        sections[section][name] = {}
    *parents, last = key.split(".")
    tree = sections["run"]
    for part in parents:
        tree = tree[part]
    tree[last] = [name]
    with pytest.raises(ParamsError) as error:
        load(sections, tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'params.yaml'}: run.{key}.0: {name!r}: ")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_corpus_s_name_has_to_be_one_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParamsError, match=r"corpus\.name: "):
        load(corpus(name=name), tmp_path)


# All corpora of a project.


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a project: ``write(embedded, **corpora by folder)``."""

    def to(embedded: Mapping[str, Any], **others: Mapping[str, Any]) -> Path:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({**SHARED, **embedded}))
        for folder, sections in others.items():
            path = tmp_path / "corpora" / folder / "params.yaml"
            path.parent.mkdir(parents=True)
            path.write_text(yaml.safe_dump(dict(sections)))
        return tmp_path

    return to


def own(folder: str, **changes: Any) -> Any:
    return corpus(**{"name": folder, "file": f"corpora/{folder}/params.yaml", "defined": (f"{folder}-2",)} | changes)


def test_the_plans_of_all_corpora(write: Callable[..., Path]) -> None:
    found = plans(write(corpus(), beta=own("beta"), alpha=own("alpha", defined=("alpha-2", "alpha-3"))))
    assert [(plan.corpus, plan.run.tasks) for plan in found] == [
        ("toy", ("toy-2",)),
        ("alpha", ("alpha-2",)),
        ("beta", ("beta-2",)),
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "toy"}, "corpora/alpha/params.yaml: corpus.name: 'toy' is also the name in params.yaml; choose"),
        ({"name": "beta"}, "corpora/beta/params.yaml: corpus.name: 'beta' is also the name in corpora/alpha/params"),
        (
            {"defined": ("toy-2",)},
            r"corpora/alpha/params.yaml: tasks: \['toy-2'\] are tasks of params.yaml too; choose",
        ),
    ],
)
def test_two_corpora_that_would_share_a_folder_are_refused(
    write: Callable[..., Path], changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ParamsError, match=fault):
        plans(write(corpus(), alpha=own("alpha", **changes), beta=own("beta")))


def test_a_fault_in_any_corpus_s_file_is_found(write: Callable[..., Path]) -> None:
    with pytest.raises(ParamsError, match=r"corpora/alpha/params\.yaml: run\.audio: 'logmell'; expected some of"):
        plans(write(corpus(), alpha=own("alpha", audio=["logmell"])))


def test_a_task_leads_to_its_corpus(write: Callable[..., Path]) -> None:
    root = write(corpus(), alpha=own("alpha", defined=("alpha-2", "alpha-3")))
    assert params_of_task("alpha-3", root).get("corpus.name", str) == "alpha"
    assert params_of_task("toy-2", root).get("corpus.name", str) == "toy"
    with pytest.raises(ParamsError, match="tasks: 'alpha-4'; the corpora of this project have toy-2, alpha-2, alpha-3"):
        params_of_task("alpha-4", root)


def test_the_shipped_corpora_can_all_be_run(root: Path) -> None:
    assert [plan.corpus for plan in plans(root)] == ["demo", "iemocap", "meld", "mosi"]
