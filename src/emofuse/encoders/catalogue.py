"""The catalogue of encoders in ``params.yaml``: what each is, and whether it is on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse import encoders
from emofuse.core.params import STRICT, Params, ParamsError
from emofuse.encoders.base import Encoder

__all__ = ["About", "EncoderConfig", "Listed", "catalogue", "fetch"]


@dataclass(frozen=True, config=STRICT)
class About:
    """What its owners say of a pretrained encoder; nothing depends on it.

    Attributes:
        parameters: of the part that encodes, in millions
        size: of a frame of one layer
        frames: a second; null for tokens
        licence: of the weights
    """

    parameters: Annotated[float, Field(gt=0)]
    size: Annotated[int, Field(ge=1)]
    licence: str
    frames: float | None = None


@dataclass(frozen=True, config=STRICT)
class EncoderConfig:
    """An entry of the catalogue.

    Attributes:
        family: which family of :mod:`emofuse.encoders`
        options: the family's own options
        about: what its owners say of it
    """

    family: Literal[tuple(encoders.FAMILIES)]  # type: ignore[valid-type]
    options: dict[str, Any] = field(default_factory=dict)
    about: About | None = None


@plain_dataclass(frozen=True)
class Listed:
    """A line of the list.

    Attributes:
        name: in the catalogue
        config: its entry
        state: whether it is there: ``installed`` or ``not installed``, of a package; ``folder`` or ``no folder``, of a
            local one; ``cached`` or ``not cached``, of the hub; ``no weights`` for what computes without any
    """

    name: str
    config: EncoderConfig
    state: str


def catalogue(params: Params) -> Iterator[Listed]:
    """Yield the entries of the catalogue; no hub is asked.

    Raises:
        ParamsError: an entry is wrong
    """
    for name in params.names("encoders"):
        config = params.get(f"encoders.{name}", EncoderConfig)
        yield Listed(name, config, _state(config))


def fetch(params: Params, name: str) -> Encoder:
    """Bring an encoder into the local cache, load it, and return it.

    Raises:
        ParamsError: there is no such entry, or it is wrong
        EncoderError: it cannot be brought or loaded
    """
    known = params.names("encoders")
    if name not in known:
        raise ParamsError(f"{name!r}: no such encoder; the catalogue has {', '.join(known)}")
    config = params.get(f"encoders.{name}", EncoderConfig)
    options = config.options | ({"local_files_only": False} if "model" in config.options else {})
    return encoders.load(config.family, options, f"encoders.{name}.options")


def _state(config: EncoderConfig) -> str:
    model = config.options.get("model")
    if model is None:
        return "no weights"
    # Imported here, since it imports torch, and most of the list needs none.
    from emofuse.encoders.weights import is_cached, model_folder

    try:
        folder = model_folder(str(model))
    except ValueError:
        return "not installed"
    if str(model).startswith("package:"):
        return "installed"
    if folder is not None:
        return "folder"
    revision = config.options.get("revision")
    try:
        return "no folder" if revision is None else "cached" if is_cached(str(model), str(revision)) else "not cached"
    except ValueError:  # it is no hub's name
        return "no folder"
