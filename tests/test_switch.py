"""The signs that README says to take off switch corpora on, and the graph then has their stages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The graph and the parameters as they are shipped, and the names of the stages that they give."""
    folder = tmp_path_factory.mktemp("fresh")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "stages").symlink_to(ROOT / "stages")
    subprocess.run([Path(sys.executable).parent / "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder, stages(folder)


@pytest.mark.parametrize(
    ("corpus", "tasks"),
    [
        ("meld", {"meld-7", "meld-3"}),
        ("mosi", {"mosi-2"}),
        ("iemocap", {"iemocap-4", "iemocap-4-loso", "iemocap-6"}),
    ],
)
def test_a_corpus_is_off_in_the_shipped_file_and_on_after_the_readme_s_command(
    fresh: tuple[Path, set[str]], corpus: str, tasks: set[str]
) -> None:
    folder, before = fresh
    shutil.copy(ROOT / "params.yaml", folder)
    command = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("$ sed"))
    assert "#meld" in command
    command = command.removeprefix("$ ").replace("meld", corpus)
    subprocess.run(command, cwd=folder, shell=True, check=True)  # noqa: S602
    added = stages(folder) - before
    assert not [name for name in before if corpus in name]
    assert {re.sub("@.*", "", name) for name in added} == {"ingest", "extract", "pretrain", "fuse", "score"}
    assert all(f"@{corpus}" in name for name in added)
    assert {name.removeprefix("score@") for name in added if name.startswith("score@")} == tasks


def test_worse_conditions_are_off_in_the_shipped_file_and_on_after_the_documented_command(
    fresh: tuple[Path, set[str]],
) -> None:
    folder, before = fresh
    assert not [name for name in before if name.startswith("degrade")]
    shutil.copy(ROOT / "params.yaml", folder)
    text = (ROOT / "docs/robustness.md").read_text()
    command = next(line for line in text.splitlines() if line.startswith("$ sed")).removeprefix("$ ")
    subprocess.run(command, cwd=folder, shell=True, check=True)  # noqa: S602
    levels = ("noise-20", "noise-10", "noise-0", "words-10", "words-20", "words-40", "no-audio", "no-text")
    assert stages(folder) - before == {f"degrade@demo-{level}" for level in levels}


def stages(folder: Path) -> set[str]:
    listed = subprocess.run(
        [Path(sys.executable).parent / "dvc", "stage", "list", "--name-only"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listed.stdout.split())
