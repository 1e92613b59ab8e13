"""Parameter files of small projects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def write_params() -> Callable[..., None]:
    """Write the parameters of a corpus that runs one encoder of each modality.

    ``write_params(project, "demo", audio, text, **shared)`` writes the root's file, with the sections that are shared;
    of any other corpus its own file, ``worse`` naming conditions of its words.
    """

    def write(
        project: Path, corpus: str, audio: str, text: str, worse: list[str] | None = None, **shared: dict[str, Any]
    ) -> None:
        is_demo = corpus == "demo"
        file = Path("params.yaml") if is_demo else Path("corpora") / corpus / "params.yaml"
        run = {"tasks": [corpus], "audio": [audio], "text": [text]}
        tree = {
            "root": "." if is_demo else "../..",
            "file": file.as_posix(),
            "corpus": {"name": corpus},
            "tasks": {corpus: {}},
            "run": run
            | {"models": {"features": ["majority"], "networks": []}}
            | ({"conditions": {"text": worse}} if worse else {}),
        }
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(yaml.safe_dump(tree | shared, sort_keys=False))

    return write
