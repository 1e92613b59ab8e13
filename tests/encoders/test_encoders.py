"""What all families owe the extraction."""

from typing import Any

import numpy as np
import pytest

from emofuse import encoders
from emofuse.core.params import ParamsError

PUBLISHED: dict[str, Any] = {
    "table": "prosody",
    "modality": "audio",
    "columns": 2,
    "labels_seen": False,
    "source": "them",
}

PRETRAINED: dict[str, Any] = {"model": "x", "labels_seen": False}


@pytest.mark.parametrize(
    ("family", "options", "fault"),
    [
        ("logmel", {"n_mels": 4}, "here.n_mels: 4: .*greater than or equal to 8"),
        ("logmel", {"mels": 40}, r"here.mels: 40: unknown key; allowed are \['hop_ms', 'n_mels', 'window_ms'\]"),
        ("logmel", {"hop_ms": 12.5}, "here.hop_ms: 12.5: .*integer"),
        ("text", {}, "here.model: missing"),
        ("text", {"model": "x"}, "here.labels_seen: missing"),
        ("text", PRETRAINED | {"layers": "first"}, "here.layers.*'first': .*'last', 'mean4', 'concat4' or 'all'"),
        ("text", PRETRAINED | {"layers": []}, "here.layers.*at least 1 item"),
        ("text", PRETRAINED | {"stride": 0}, "here.stride: 0: .*greater than or equal to 1"),
        ("text", PRETRAINED | {"stride": 2, "output": "mean"}, "here: .*stride: 2 averages frames, but output: mean"),
        ("text", PRETRAINED | {"sha256": "0" * 63}, "here.sha256: .*pattern"),
        ("speech", PRETRAINED | {"padding": "zeros"}, "here.padding: 'zeros': .*'none' or 'full'"),
        ("speech", PRETRAINED | {"revision": "main"}, "here.revision: 'main': .*pattern"),
        ("speech", PRETRAINED | {"output": "max"}, "here.output: 'max': .*'frames' or 'mean'"),
        ("speech", PRETRAINED | {"dtype": "int8"}, "here.dtype: 'int8': .*'float32', 'bfloat16' or 'float16'"),
        ("speech", PRETRAINED | {"max_seconds": 0.5}, "here.max_seconds: 0.5: .*greater than or equal to 1"),
        ("published", PUBLISHED | {"columns": 0}, "here.columns: 0: .*greater than or equal to 1"),
        ("published", PUBLISHED | {"modality": "face"}, "here.modality: 'face': .*'audio' or 'text'"),
    ],
)
def test_a_bad_option_is_named(family: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ParamsError, match=fault):
        encoders.load(family, options, "here")


@pytest.mark.parametrize(("family", "options"), [("logmel", {}), ("published", PUBLISHED)])
def test_an_encoder_says_what_it_depends_on(family: str, options: dict[str, Any]) -> None:
    identity = encoders.load(family, options, "here").identity
    assert {"id", "revision", "layer", "dtype", "frame_rate", "labels_seen", "code", "versions"} <= set(identity)


def test_corrected_builds_share_features_and_another_series_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(number: str) -> dict[str, Any]:
        monkeypatch.setattr("emofuse.encoders.base.version", lambda package: number)
        return encoders.load("logmel", {}, "here").identity

    assert identity("2.11.0+cu130") == identity("2.11.1")
    assert identity("2.11.1") != identity("2.12.0")


def test_published_values_are_handed_through_with_their_gaps() -> None:
    encoder = encoders.load("published", PUBLISHED, "here")
    assert (encoder.reads, encoder.modality, encoder.dim) == ("table:prosody", "audio", 2)
    values = [np.array([1.5, np.nan]), np.array([-1e300, 0.0])]
    frames = list(encoder.encode(values))
    for given, found in zip(values, frames, strict=True):
        np.testing.assert_array_equal(found, given[None])
    assert encoder.identity["revision"] == "them"
    assert encoder.identity["labels_seen"] is False


@pytest.mark.parametrize(
    "change", [{"table": "other"}, {"source": "others"}, {"labels_seen": True}], ids=lambda each: next(iter(each))
)
def test_what_matters_of_published_values_is_in_the_identity(change: dict[str, Any]) -> None:
    first, second = (encoders.load("published", PUBLISHED | each, "here").identity for each in ({}, change))
    assert first != second
