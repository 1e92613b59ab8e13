"""The section ``run`` of a corpus's file: the tasks, encoders, models and conditions to run, by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.layout import Pair
from emofuse.core.params import STRICT, Name, Params, ParamsError, corpus_files
from emofuse.models.registry import ENSEMBLE, FUSION, MODELS

__all__ = ["Conditions", "External", "Models", "Plan", "Selection", "params_of_task", "plans"]

Names = tuple[Name, ...]


@dataclass(frozen=True, config=STRICT)
class Models:
    """The models to train for each task and pair of encoders.

    Attributes:
        features: models that read features
        networks: models that read the outputs of the unimodal networks
        ablations: models to train with their ablations
    """

    features: Names
    networks: Names
    ablations: Names = ()


@dataclass(frozen=True, config=STRICT)
class Conditions:
    """The conditions under which models are tested again, by the modality that they change.

    Attributes:
        audio: conditions that change the sound
        text: conditions that change the words
        both: conditions that change both
    """

    audio: Names = ()
    text: Names = ()
    both: Names = ()


@dataclass(frozen=True, config=STRICT)
class External:
    """Predictions from outside this project.

    Attributes:
        name: name of the row
        task: the task that it predicts
        file: CSV or Parquet, relative to the project's root folder; see :mod:`emofuse.scoring.external`
        source: who made it and how, as shown under the table
        labels_seen: whether its source may have seen the labels of test, as a language model trained on the web may
    """

    name: Name
    task: Name
    file: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    labels_seen: bool | Literal["unknown"]


@dataclass(frozen=True, config=STRICT)
class Selection:
    """The section ``run``.

    Attributes:
        tasks: names of the corpus's ``tasks``
        audio: audio encoders; each pair with a text encoder has its own models and tables
        text: text encoders
        models: models to train
        conditions: conditions under which models are tested again
        external: predictions from outside this project
    """

    tasks: Names
    audio: Names
    text: Names
    models: Models
    conditions: Conditions = field(default_factory=Conditions)
    external: tuple[External, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to run for one corpus, validated.

    Attributes:
        corpus: its name
        file: its parameter file, from the project's root folder
        run: the selection
        ablations: names of the ablations of each model whose ablations are run
    """

    corpus: str
    file: str
    run: Selection
    ablations: Mapping[str, Names] = field(default_factory=dict)

    @classmethod
    def load(cls, params: Params) -> "Plan":
        """Read and check what a corpus's file selects.

        Raises:
            ParamsError: a name is not there, stands twice, or could not be part of a path; or the graph beside the file
                is not the project's
        """
        _refuse_other_graph(params)
        corpus, file = params.get("corpus.name", Name), params.get("file", str)  # type: ignore[arg-type]
        run = params.get("run", Selection)
        where = f"{params.path}: run"
        for key, names, known in _references(run, params):
            _refuse_doubles(f"{where}.{key}", names)
            for name in names:
                if name not in known:
                    raise ParamsError(f"{where}.{key}: {name!r}; expected some of {', '.join(known)}")
        _check_external(run, f"{where}.external")
        both = sorted(set(run.audio) & set(run.text))
        if both:
            raise ParamsError(f"{where}: {both} stand under audio and text; expected each under what it encodes")
        named = {name: params.get(f"models.{name}.ablations", dict[Name, Any]) for name in run.models.ablations}
        for name, own in named.items():
            if ENSEMBLE in own:
                raise ParamsError(
                    f"{params.shared}: models.{name}.ablations: {ENSEMBLE!r} is the row of all seeds; rename it"
                )
        return cls(corpus, file, run, {name: tuple(own) for name, own in named.items()})

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of encoders."""
        return [Pair(*each) for each in product(self.run.audio, self.run.text)]

    @property
    def fusion(self) -> list[str]:
        """The models that are trained of each pair, in the order of tables."""
        chosen = {*self.run.models.features, *self.run.models.networks}
        return [each.name for each in FUSION if each.name in chosen]

    def external(self, task: str) -> list[External]:
        """Return the predictions of others of a task."""
        return [each for each in self.run.external if each.task == task]

    def modality(self, encoder: str) -> str:
        """Return what an encoder that is run encodes, ``audio`` or ``text``."""
        return "audio" if encoder in self.run.audio else "text"


def plans(root: Path = Path()) -> list[Plan]:
    """Return what is run of each corpus of a project.

    Raises:
        ParamsError: a file is wrong, or two corpora or two tasks have one name, and would share their folders
    """
    found: list[Plan] = []
    for file in corpus_files(root):
        plan = Plan.load(Params.load(file, root))
        for other in found:
            if other.corpus == plan.corpus:
                raise ParamsError(
                    f"{file}: corpus.name: {plan.corpus!r} is also the name in {other.file}; choose another"
                )
            both = sorted(set(other.run.tasks) & set(plan.run.tasks))
            if both:
                raise ParamsError(f"{file}: tasks: {both} are tasks of {other.file} too; choose other names")
        found.append(plan)
    return found


def params_of_task(task: str, root: Path = Path()) -> Params:
    """Return the parameters of the corpus that a task is of.

    Raises:
        ParamsError: no corpus of the project has such a task
    """
    known = []
    for file in corpus_files(root):
        params = Params.load(file, root)
        names = params.names("tasks")
        if task in names:
            return params
        known += names
    raise ParamsError(f"tasks: {task!r}; the corpora of this project have {', '.join(known)}")


def _references(run: Selection, params: Params) -> Iterator[tuple[str, Names, Sequence[str]]]:
    """Yield each list of names with its key and what may stand in it."""
    trained = {*run.models.features, *run.models.networks}
    conditions = params.names("conditions")
    yield "tasks", run.tasks, params.names("tasks")
    yield "audio", run.audio, params.names("encoders")
    yield "text", run.text, params.names("encoders")
    yield "models.features", run.models.features, [each.name for each in FUSION if not each.reads_networks]
    yield "models.networks", run.models.networks, [each.name for each in FUSION if each.reads_networks]
    yield "models.ablations", run.models.ablations, [name for name in MODELS if name in trained]
    yield "conditions.audio", run.conditions.audio, conditions
    yield "conditions.text", run.conditions.text, conditions
    yield "conditions.both", run.conditions.both, conditions


def _refuse_other_graph(params: Params) -> None:
    """Refuse a graph beside a corpus's file that is no copy of the project's.

    A link would always be one, but DVC does not follow links in what git has: no experiment could be shown.
    """
    graph, shared = (path.with_name("dvc.yaml") for path in (params.path, params.shared))
    if graph.exists() and shared.exists() and graph.read_bytes() != shared.read_bytes():
        raise ParamsError(f"{graph}: differs from {shared}; expected a copy: `cp {shared} {graph}`")


def _check_external(run: Selection, where: str) -> None:
    for each in run.external:
        if each.task not in run.tasks:
            raise ParamsError(f"{where}: {each.name}: task {each.task!r}; expected one of {', '.join(run.tasks)}")
        if each.name in MODELS:
            raise ParamsError(f"{where}: {each.name!r} is a model of this project; choose another name")
    for task in run.tasks:
        _refuse_doubles(f"{where}, task {task}", tuple(each.name for each in run.external if each.task == task))


def _refuse_doubles(where: str, names: Names) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ParamsError(f"{where}: {doubled} stand twice; expected once each")
