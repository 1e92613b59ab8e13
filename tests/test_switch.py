"""The signs that README says to take off switch corpora on, and the graph then has their stages."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emofuse import encoders
from emofuse.core.params import Params
from emofuse.features.extract import FeatureConfig

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
    take_off(folder, corpus)
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
    take_off(folder, "robust")
    levels = ("noise-20", "noise-10", "noise-0", "words-10", "words-20", "words-40", "no-audio", "no-text")
    assert stages(folder) - before == {f"degrade@demo-{level}" for level in levels}


@pytest.mark.parametrize("corpus", ["meld", "mosi"])
def test_noise_needs_sound_and_has_a_sign_of_its_own(fresh: tuple[Path, set[str]], corpus: str) -> None:
    folder, _ = fresh
    take_off(folder, corpus, "robust")
    without = set(read(folder, "degraded"))
    assert f"{corpus}-words-10" in without
    assert not [name for name in without if "noise" in name and corpus in name]
    take_off(folder, corpus, "robust", "noise")
    assert set(read(folder, "degraded")) - without == {f"{corpus}-noise-{level}" for level in (20, 10, 0)}


@pytest.mark.parametrize(("corpus", "task"), [("meld", "meld-7"), ("mosi", "mosi-2")])
def test_audio_is_heard_unless_what_the_committed_results_rest_on_is_asked_for(
    fresh: tuple[Path, set[str]], corpus: str, task: str
) -> None:
    folder, _ = fresh
    take_off(folder, corpus)
    assert encoder(folder, f"{corpus}-audio").reads == "audio"
    take_off(folder, corpus, "published")
    published = encoder(folder, f"{corpus}-audio")
    assert published.reads.startswith("table:")
    committed = json.loads((ROOT / f"metrics/{task}/scores.json").read_text())["protocol"]["features"]["audio"]
    asked = {name: value for name, value in published.identity.items() if name not in ("code", "versions")}
    assert asked == {
        name: committed[name] for name in asked
    }  # The program that read them may have been an earlier one.


def encoder(folder: Path, name: str) -> encoders.Encoder:
    config = Params.load(folder / "params.yaml").get(f"features.{name}", FeatureConfig)
    return encoders.load(config.family, config.options, "here")


def read(folder: Path, section: str) -> dict[str, Any]:
    return Params.load(folder / "params.yaml").get(section, dict[str, Any])


def take_off(folder: Path, *signs: str) -> None:
    """Run the documented commands on the parameters as they are shipped."""
    shutil.copy(ROOT / "params.yaml", folder)
    pages = [(ROOT / page).read_text().splitlines() for page in ("README.md", "docs/robustness.md")]
    commands = [line.removeprefix("$ ") for page in pages for line in page if line.startswith("$ sed")]
    # README's example is MELD's sign, and says so; the page on worse conditions has the sign of noise in a sentence.
    alike = {"mosi": "meld", "iemocap": "meld", "noise": "robust"}
    for sign in signs:
        shown = alike.get(sign, sign)
        command = next(each for each in commands if f"#{shown} " in each).replace(shown, sign)
        subprocess.run(command, cwd=folder, shell=True, check=True)  # noqa: S602


def stages(folder: Path) -> set[str]:
    listed = subprocess.run(
        [Path(sys.executable).parent / "dvc", "stage", "list", "--name-only"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listed.stdout.split())
