"""Compiled layers give the same features, and batches of new shapes are compiled no more."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config

from emofuse.encoders import EncoderError, load


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """What other tests compiled counts for nothing."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def noise(n_samples: int) -> np.ndarray:
    return np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)


SOUNDS = [
    [noise(each) for each in lengths]
    for lengths in ([16_000, 15_900, 16_123], [5_000, 4_000], [9_000, 8_900, 8_800, 8_700])
]
TEXTS = [["a b c", "d e f g"], ["a e i o u a e i o u a", "b", "c d"], ["x y"] * 3]


@pytest.mark.parametrize(
    ("family", "kind", "options", "batches"),
    [
        ("speech", "group", {"layers": [0, 2, 5]}, SOUNDS),
        ("speech", "whisper", {"layers": "all"}, SOUNDS),
        ("text", "bert", {"max_tokens": 24}, TEXTS),
    ],
)
def test_compiled_layers_give_the_same_features(
    family: str,
    kind: str,
    options: dict[str, Any],
    batches: list[list[Any]],
    folders: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Traced and captured as ever, but run without the last step to machine code, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    options |= {"model": str(folders(kind)), "labels_seen": False}
    plain, compiled = (load(family, options | {"compile": each}, "here") for each in (False, True))
    assert compiled.identity == plain.identity
    programs: list[int] = []
    for batch in batches:
        for found, expected in zip(compiled.encode(batch), plain.encode(batch), strict=True):
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
        programs.append(counters["stats"]["unique_graphs"])
    assert programs[0] == programs[-1] < 5  # fewer than layers


def test_without_a_compiler_there_is_a_clear_error(folders: Callable[[str], Path], tmp_path: Path) -> None:
    options = {"model": str(folders("bert")), "labels_seen": False, "max_tokens": 24, "compile": True}
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",), "compile_threads": 1, "force_disable_caches": True}),
        pytest.raises(EncoderError, match=r"compile: true: torch cannot compile here, set it to false; .*compiler"),
    ):
        list(load("text", options, "here").encode(["a b c"]))
