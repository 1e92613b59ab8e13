"""Every model once: what it is built from, what it reads, and where it stands in tables.

Adding a model is its file in this package, an entry here, and its section under ``models`` in ``params.yaml``. Nothing
is imported to look a model up, so that every stage can.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

__all__ = ["FUSION", "MODALITIES", "MODELS", "UNIMODAL", "Input", "Model", "base_name", "in_order", "model", "sources"]

MODALITIES = ("audio", "text")
"""What a turn consists of, in the order of every pair of encoders."""

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
        kind: how it is trained; see :mod:`emofuse.training.fuse`
        seeded: whether seeds give different runs
    """

    name: str
    title: str
    module: str
    network: str | None = None
    inputs: tuple[Input, ...] = ("frames",)
    modalities: tuple[str, ...] = MODALITIES
    kind: Literal["prior", "mixture", "network"] = "network"
    seeded: bool = True

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
    )
    for level, stage, reads in _LEVELS
    for modality in MODALITIES
)
"""The networks of one modality, which ``pretrain`` trains."""

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
    ),
    Model("concat", "early concatenation of pooled frames, and a dialogue GRU", "concat", "Concat", ("pooled",)),
    Model("late", "late fusion: weighted mean of probabilities", "late", None, ("probabilities",), kind="mixture"),
    Model("hcam", "HCAM: co-attention over contextual vectors", "hcam", "HCAM", ("context", "utterance")),
    Model("cma", "CMA: cross-modal attention over frames, statistics pooling", "cma", "CMA", ("frames",)),
    Model("hbaf", "HBAF: gated bimodal attention, contrastive learning", "hbaf", "HBAF", ("utterance",)),
)
"""The models that ``fuse`` trains; each may have ablations, ``<model>/<ablation>``."""

MODELS: Mapping[str, Model] = {each.name: each for each in (FUSION[0], *UNIMODAL, *FUSION[1:])}
"""All models by name, in the order of every table: the baselines first."""


def base_name(name: str) -> str:
    """Return the model that a row of a table belongs to: an ablation's is the one that it is an ablation of.

    >>> base_name("hcam/no-context")
    'hcam'
    """
    return name.partition("/")[0]


def model(name: str) -> Model:
    """Return the model of a name, an ablation's too.

    Raises:
        KeyError: there is no such model
    """
    return MODELS[base_name(name)]


def sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Return for each modality the unimodal network that a run reads from; none where it reads features.

    Args:
        config: the run's ``config.json``
    """
    level = {"utterance": "utterance", "context": "context", "probabilities": "context"}.get(config["reads"])
    return {name: f"{name}-{level}" for name in model(config["model"]).modalities} if level else {}


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
