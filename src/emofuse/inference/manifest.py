"""Descriptions of a bundle and its networks, validated when they are read."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT
from emofuse.encoders import FAMILIES
from emofuse.models.registry import MODELS, Input, base_name

__all__ = ["Features", "Manifest", "Network"]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Dim = Annotated[int, Field(ge=1, le=65_536)]
Scores = dict[str, dict[str, float | None]]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")]


@dataclass(frozen=True, config=STRICT)
class Features:
    """The frozen encoder of one modality.

    Attributes:
        family: which family of :mod:`emofuse.encoders`
        options: the family's own options
        identity: the encoder's identity when the training features were made
    """

    family: Literal[tuple(FAMILIES)]  # type: ignore[valid-type]
    options: dict[str, Any]
    identity: dict[str, Any]


@dataclass(frozen=True, config=STRICT)
class Manifest:
    """What a bundle says of its model.

    Attributes:
        format: of the bundle
        task: key of the task
        model: name in the results table
        seed: of the run
        fold: of the run
        runs: number of runs, of which this one is the best on dev
        dev: its scores on dev, fractions
        classes: names, in the order of the probabilities
        networks: names of the folders under ``networks``, the model's own among them
        features: encoders by modality
        max_seconds: a longer clip is cut there
        protocol: what the scores rest on; None if the model was not scored
        scores: on test, over all runs: by metric ``mean, sd, low, high, n_runs``; None if the model was not scored
        scores_alone: the same of the networks that answer where a modality is missing, by their names
        language: what is spoken in the corpus; None if its parameter file does not say so
    """

    format: Literal[2]
    task: Name
    model: Name
    seed: Annotated[int, Field(ge=0)]
    fold: Annotated[int, Field(ge=0)]
    runs: Annotated[int, Field(ge=1)]
    dev: dict[str, Finite]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    networks: tuple[Name, ...]
    features: dict[Literal["audio", "text"], Features]
    max_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
    protocol: dict[str, Any] | None
    scores: Scores | None
    scores_alone: dict[Name, Scores] = Field(default_factory=dict)
    language: Annotated[str, Field(max_length=100)] | None = None

    def __post_init__(self) -> None:
        for name, values in (("classes", self.classes), ("networks", self.networks)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} {list(values)}: one stands twice")
        if self.model not in self.networks:
            raise ValueError(f"networks {list(self.networks)}: the model's own, {self.model!r}, is not among them")
        if "weighted_f1" not in self.dev:
            raise ValueError("dev: weighted_f1 is missing")
        absent = set(modalities_of(self.model)) - set(self.features)
        if absent:
            raise ValueError(f"features: the model reads {sorted(absent)}, and nothing says how they are made")
        for where, scores in (("scores", self.scores), *self.scores_alone.items()):
            for metric, score in (scores or {}).items():
                missing = {"mean", "sd", "low", "high", "n_runs"} - set(score)
                if missing or score["mean"] is None or score["n_runs"] is None:
                    raise ValueError(f"{where}.{metric}: expected mean, sd, low, high and n_runs")

    def unread(self, modality: str) -> str | None:
        """Return why the model does not answer from a modality of a new conversation; None if it does."""
        features = self.features[modality]  # type: ignore[index]
        if features.family == "published":
            source = features.identity.get("revision")
            return (
                f"its {modality} features are values that {source} published, which cannot be computed from a recording"
            )
        if modality in (self.protocol or {}).get("modalities_absent", ()):
            return f"it was trained on a corpus without {modality}"
        return None


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="ignore"))
class Network:
    """What a network's ``config.json`` has to say, whatever else it does."""

    model: Name
    reads: Input
    classes: tuple[str, ...]
    config: dict[str, Any] | None = None
    dim: Dim | None = None
    dims: dict[Literal["audio", "text"], Dim] | None = None
    causal: bool | None = None
    weights: dict[Literal["audio", "text", "fused"], Finite] | None = None

    def __post_init__(self) -> None:
        for name in self._needed():
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing")
        if self.reads == "probabilities":
            return
        if not isinstance((self.config or {}).get("network"), dict):
            raise ValueError("config.network: expected a mapping")
        absent = set(modalities_of(self.model)) - set(self.dims or modalities_of(self.model))
        if absent:
            raise ValueError(f"dims: {sorted(absent)} are missing")

    def _needed(self) -> tuple[str, ...]:
        if self.reads == "probabilities":
            return ("weights",)
        if len(modalities_of(self.model)) > 1:
            return ("config", "dims", "causal")
        if self.reads == "frames" and self.dims is None:
            return ("config", "dim")
        return ("config", "dims", "causal") if self.dims is not None else ("config", "dim", "causal")


def modalities_of(name: str) -> tuple[str, ...]:
    """What a model reads, where there is one of that name."""
    if base_name(name) not in MODELS:
        raise ValueError(f"model: {name!r} is no model of this version; known are {', '.join(MODELS)}")
    return MODELS[base_name(name)].modalities
