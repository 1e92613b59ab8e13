"""Small networks to test with. A test says only what its own differ in."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from emofuse.models.cma import CMAConfig
from emofuse.models.concat import ConcatConfig
from emofuse.models.hbaf import HBAFConfig
from emofuse.models.hcam import HCAMConfig
from emofuse.models.unimodal import ContextConfig, UtteranceConfig

_CONFIGS: Mapping[str, Any] = {
    "utterance": UtteranceConfig(input_projection=0, hidden=8, layers=1, dropout=0.0, input_dropout=0.0),
    "context": ContextConfig(hidden=8, layers=1, heads=2, dropout=0.0, contrastive=0.0, temperature=0.1),
    "concat": ConcatConfig(hidden=8, layers=1, dropout=0.0),
    "hcam": HCAMConfig(hidden=8, co_attention=True, blocks=1, heads=2, dropout=0.0, contrastive=0.0, temperature=0.1),
    "cma": CMAConfig(channels=8, kernel=1, hidden=8, heads=2, dropout=0.0, attention=True, pooling="statistics"),
    "hbaf": HBAFConfig(
        hidden=8,
        audio_hidden=8,
        heads=2,
        dropout=0.0,
        context=True,
        gate=True,
        self_attention=True,
        cross_attention=True,
        text_loss=0.1,
        audio_loss=0.1,
        absolute=0.0,
        relative=0.0,
        temperature=0.2,
    ),
}


def config_of(network: str, **changes: Any) -> Any:
    """A small configuration with every part of its network, but no dropout and no contrastive loss unless asked for."""
    return replace(_CONFIGS[network], **changes)
