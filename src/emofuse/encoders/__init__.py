"""Encoder families: one file a family, each with a ``Config`` and an encoder that is made with one."""

from importlib import import_module
from typing import Any

from emofuse.core.params import validate
from emofuse.encoders.base import Encoder, EncoderError

__all__ = ["FAMILIES", "Encoder", "EncoderError", "load"]

FAMILIES = {
    "logmel": "LogMel",
    "prosody": "Prosody",
    "published": "Published",
    "speech": "SpeechEncoder",
    "text": "TextEncoder",
}
"""The module of each family, and the class of its encoder."""


def load(family: str, options: dict[str, Any], where: str) -> Encoder:
    """Load a frozen encoder.

    Args:
        family: one of :data:`FAMILIES`
        options: the family's options, as they stand in the parameters
        where: the parameters' key, for messages

    Raises:
        ParamsError: an option is not allowed
        EncoderError: the encoder cannot be loaded
    """
    module = import_module(f"emofuse.encoders.{family}")
    encoder: Encoder = getattr(module, FAMILIES[family])(validate(options, module.Config, where))
    return encoder
