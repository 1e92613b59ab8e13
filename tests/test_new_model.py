"""A model of one's own: its file, a line in the registry, its section, its name under ``run``; no more."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

Dvc = Callable[..., subprocess.CompletedProcess[str]]

SOURCE = '''"""Mean frames of both modalities, or of audio alone, to classes."""

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from emofuse.core.params import STRICT
from emofuse.models.parts.base import Batch, Network, Output, Unit
from emofuse.models.parts.layers import Standardize


@dataclass(frozen=True, config=STRICT)
class MeansConfig:
    text: bool


class Means(Network):
    unit: ClassVar[Unit] = "utterance"

    def __init__(self, config: MeansConfig, dims: dict[str, int], classes: int, causal: bool) -> None:
        super().__init__()
        self.standardize = nn.ModuleDict({name: Standardize(dim) for name, dim in dims.items()})
        self.names = ("audio", "text") if config.text else ("audio",)
        self.classifier = nn.Linear(sum(dims[name] for name in self.names), classes)

    def forward(self, batch: Batch) -> Output:
        own = [self.standardize[x](batch.frames[x][:, 0]) for x in self.names]
        return Output(self.classifier(torch.cat(own, dim=1)))
'''

ENTRY = '    Model("means", "pooled frames, linearly to classes", "means", "Means", ("pooled",)),\n'

SECTION = """  means:
    network:
      text: true  # whether it reads the text
    fit:
      epochs: 1
      patience: 1
      batch_size: 32
      learning_rate: 0.01
      weight_decay: 0.01
      max_grad_norm: 1.0
    ablations:
      no-text:
        network.text: false
"""


def insert(path: Path, before: str, text: str) -> None:
    """Put text before the one place where a line stands."""
    whole = path.read_text(encoding="utf-8")
    assert whole.count(before) == 1, f"{path.name}: {before!r}"
    path.write_text(whole.replace(before, text + before), encoding="utf-8")


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which all is done, and its own code is what runs."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy, symlinks=True)
    monkeypatch.setenv("PYTHONPATH", str(copy / "src"))
    return copy


def test_a_new_model_comes_to_a_table_and_nothing_else_is_trained_again(project: Path, dvc: Dvc) -> None:
    out = project / "metrics/demo/logmel+minilm"
    before = pl.read_csv(out / "scores.csv")
    (project / "src/emofuse/models/means.py").write_text(SOURCE)
    insert(project / "src/emofuse/models/registry.py", ')\n"""The models that ``fuse`` trains', ENTRY)
    insert(project / "params.yaml", "  hcam:  # stage III\n", SECTION)
    insert(project / "params.yaml", "    networks:  # models that read", "    - means\n")
    insert(project / "params.yaml", "  conditions:  # conditions under which", "    - means\n")
    whole = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(whole.replace("ablations: []  #", "ablations:  #"), encoding="utf-8")

    output = dvc(project, "repro").stdout
    assert set(re.findall(r"Running stage '(.*?)'", output)) == {
        "fuse-features@demo-logmel-minilm-means",
        "ablate@demo-logmel-minilm-means",
        "score@demo-logmel-minilm",
    }
    scores = pl.read_csv(out / "scores.csv")
    assert scores["model"].unique(maintain_order=True).to_list() == [
        *before["model"].unique(maintain_order=True),
        *("means", "means/ensemble", "means/no-text"),
    ]
    old = pl.col("model").is_in(before["model"].unique().to_list())
    assert scores.filter(old).equals(before)
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| means/no-text | " in table
    assert re.search(r"^- means over means/no-text: Weighted F1 ", table, re.MULTILINE)
    assert re.search(r"^- means over (audio|text)-context: Weighted F1 ", table, re.MULTILINE)
    assert "Running stage" not in dvc(project, "repro").stdout
