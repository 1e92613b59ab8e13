"""The sections of the parameters that models are configured by, put together from what the registry says of each."""

from dataclasses import field, make_dataclass
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, Params
from emofuse.models.registry import FUSION, UNIMODAL, Model, ablation_name, is_ablation, model
from emofuse.training.fit import FitConfig

__all__ = ["settings"]


def settings(params: Params, name: str) -> Any:
    """Return the checked section of a model, or of an ablation with its changes made.

    Args:
        params: of the corpus
        name: such as ``hcam``, ``hcam/no-context`` or ``audio-utterance``

    Raises:
        ParamsError: a value is not allowed, or an ablation changes what is not there
    """
    entry = model(name)
    if entry in UNIMODAL:
        # The networks of a modality share a section, checked as a whole before the first of them is trained.
        (modality,) = entry.modalities
        levels = [(each.folder, _section(each)) for each in UNIMODAL if each.modalities == entry.modalities]
        return getattr(params.get(f"models.{modality}", _made(levels)), entry.folder)
    key = f"models.{entry.module}"
    if is_ablation(name):
        where = f"{key}.ablations.{ablation_name(name)}"
        params = params.changed(key, params.get(where, dict[str, Any]), where)
    return params.get(key, _section(model(entry.module)))


def _section(entry: Model) -> type[Any]:
    fields: list[Any] = []
    if entry.network is not None:
        fields.append(("network", entry.config_class()))
    if entry.kind == "network":
        fields.append(("fit", FitConfig))
    if entry in FUSION:
        if entry.kind == "network" and entry.reads_networks:
            fields.append(("ensemble", bool, False))
        if len(entry.inputs) > 1:
            fields.append(("reads", Literal[entry.inputs], entry.inputs[0]))
        fields.append(("ablations", dict[str, dict[str, Any]], field(default_factory=dict)))
    return _made(fields)


def _made(fields: list[Any]) -> type[Any]:
    return dataclass(frozen=True, config=STRICT)(make_dataclass("Section", fields, frozen=True))
