"""The list of models: what each is built from, what it reads, and its place in tables.

Adding a model is its file in this package, an entry here, and its section under ``models`` in ``params.yaml``. Nothing
is imported to look a model up, so that every stage can.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from emofuse.core.schema import MODALITIES

__all__ = [
    "ENSEMBLE",
    "FUSION",
    "LINEAR",
    "MODELS",
    "UNIMODAL",
    "Input",
    "Model",
    "ablation_name",
    "base_name",
    "in_order",
    "is_ablation",
    "is_ensemble",
    "model",
    "sources",
    "unimodal",
]

ENSEMBLE = "ensemble"
"""What the seeds of a model together are called, as ``<model>/ensemble``; no ablation may have that name."""

Input = Literal["labels", "frames", "pooled", "utterance", "context", "probabilities"]
"""What a model reads of each modality: nothing but the labels of train; frames; their mean and standard deviation;
vectors of the unimodal networks without context (``utterance``) or with it (``context``); or the probabilities of the
latter alone."""


@dataclass(frozen=True)
class Model:
    """A model of the results tables.

    Attributes:
        name: in tables, in ``params.yaml`` and of its folder
        title: one line on what it is
        module: of this package, where its network is
        network: the network's class; its options are the class of that name, less ``Network``, with ``Config``
        inputs: what it can read; the first is the default
        modalities: whose features it reads
        kind: how it is trained; see :mod:`emofuse.training.trainer`
        seeded: whether seeds give different runs
        baseline: whether it is there to be compared with
        folder: of a unimodal network's runs in its encoder's folder; by default the name
    """

    name: str
    title: str
    module: str
    network: str | None = None
    inputs: tuple[Input, ...] = ("frames",)
    modalities: tuple[str, ...] = MODALITIES
    kind: Literal["prior", "linear", "mixture", "network"] = "network"
    seeded: bool = True
    baseline: bool = False
    folder: str = ""

    @property
    def reads_networks(self) -> bool:
        """Whether it reads what the unimodal networks give, so that these are trained first."""
        return bool({"utterance", "context", "probabilities"} & set(self.inputs))

    def load(self) -> Any:
        """Import and return the module."""
        return import_module(f"emofuse.models.{self.module}")

    def network_class(self) -> Any:
        """Import and return the network's class."""
        return getattr(self.load(), str(self.network))

    def config_class(self) -> Any:
        """Import and return the dataclass of the network's options."""
        return getattr(self.load(), f"{str(self.network).removesuffix('Network')}Config")


_LEVELS: tuple[tuple[str, str, Input], ...] = (("utterance", "I", "frames"), ("context", "II", "utterance"))

UNIMODAL = tuple(
    Model(
        f"{modality}-{level}",
        f"{modality} alone, {'with' if level == 'context' else 'without'} context: stage {stage} of HCAM",
        "unimodal",
        f"{level.capitalize()}Network",
        (reads,),
        (modality,),
        folder=level,
    )
    for level, stage, reads in _LEVELS
    for modality in MODALITIES
)
"""The networks of one modality, the second on what the first gives; ``pretrain`` trains them."""

LINEAR = tuple(
    Model(
        *(f"{modality}-linear", f"logistic regression on {modality} statistics", "linear", "Linear", ("frames",)),
        modalities=(modality,),
        kind="linear",
        seeded=False,
        baseline=True,
        folder="linear",
    )
    for modality in MODALITIES
)
"""The linear baselines of one modality, which ``pretrain`` trains too."""

FUSION = (
    Model(
        "majority",
        "class frequencies of train",
        "majority",
        None,
        ("labels",),
        modalities=(),
        kind="prior",
        seeded=False,
        baseline=True,
    ),
    Model(
        *("linear", "logistic regression on the statistics of both modalities", "linear", "Linear", ("frames",)),
        kind="linear",
        seeded=False,
        baseline=True,
    ),
    Model(
        *("concat", "early concatenation of utterance vectors, and a dialogue GRU", "concat", "Concat"),
        inputs=("utterance", "pooled"),
        baseline=True,
    ),
    Model(
        *("late", "late fusion: weighted mean of probabilities", "late", None, ("probabilities",)),
        kind="mixture",
        baseline=True,
    ),
    Model("hcam", "HCAM: co-attention over contextual vectors", "hcam", "HCAM", ("context", "utterance")),
    Model("cma", "CMA: cross-modal attention over frames, statistics pooling", "cma", "CMA", ("frames",)),
    Model("hbaf", "HBAF: gated bimodal attention, contrastive learning", "hbaf", "HBAF", ("utterance",)),
)
"""The models that ``fuse`` trains; each may have ablations, ``<model>/<ablation>``."""

MODELS: Mapping[str, Model] = {each.name: each for each in (FUSION[0], *LINEAR, FUSION[1], *UNIMODAL, *FUSION[2:])}
"""All models by name, in the order of every table: the baselines first."""


def base_name(name: str) -> str:
    """Return the model that a row of a table belongs to: an ablation's is the one that it is an ablation of.

    >>> base_name("hcam/no-context")
    'hcam'
    """
    return name.partition("/")[0]


def ablation_name(name: str) -> str:
    """Return the part of an ablation's name behind that of its model.

    >>> ablation_name("hcam/no-context")
    'no-context'
    """
    return name.partition("/")[2]


def is_ensemble(name: str) -> bool:
    """Return whether a name is that of a model's seeds together, ``<model>/ensemble``."""
    return name != base_name(name) and name.endswith(f"/{ENSEMBLE}")


def is_ablation(name: str) -> bool:
    """Return whether a name is that of an ablation, ``<model>/<ablation>``."""
    return name != base_name(name) and not is_ensemble(name)


def unimodal(modality: str, level: Input) -> Model:
    """Return the network of a modality that reads frames and gives ``utterance`` vectors, or ``context`` ones.

    >>> unimodal("audio", "context").name
    'audio-context'
    """
    return next(each for each in UNIMODAL if each.modalities == (modality,) and each.folder == level)


def model(name: str) -> Model:
    """Return the model of a name, an ablation's too.

    Raises:
        KeyError: there is no such model
    """
    return MODELS[base_name(name)]


def sources(config: Mapping[str, Any]) -> dict[str, Model]:
    """Return for each modality the unimodal network that a run reads from; none where it reads features.

    Args:
        config: the run's ``config.json``
    """
    levels: dict[str, Input] = {"utterance": "utterance", "context": "context", "probabilities": "context"}
    level = levels.get(config["reads"])
    return {name: unimodal(name, level) for name in model(config["model"]).modalities} if level else {}


def in_order(names: Iterable[str]) -> list[str]:
    """Return model names in the order of every table, each once: ablations after their model, what is not known last.

    >>> in_order(["new", "hcam/no-contrastive", "hbaf", "hcam"])
    ['hcam', 'hcam/no-contrastive', 'hbaf', 'new']
    """
    places = {name: place for place, name in enumerate(MODELS)}

    def key(name: str) -> tuple[int, str, str]:
        base = base_name(name)
        return places.get(base, len(places)), base, name

    return sorted(set(names), key=key)
