"""What README and the documentation tell a person to type, and where they send them."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click
import pytest
import yaml

from emofuse.cli import build_parser, main

ROOT = Path(__file__).parents[1]

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES = [page for page in PAGES if not {"_build", "reference"} & set(page.parts)]

OTHERS = {
    "arecord",
    "cd",
    "curl",
    "eval",
    "find",
    "git",
    "ln",
    "mkdir",
    "mv",
    "pip",
    "pre-commit",
    "ray",
    "rm",
    "source",
}
"""Programs that are not this project's, and not started here."""

PROMPT = "$ "


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page, word by word, those of a pipe or a list one by one."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(PROMPT):
                words = shlex.split(line.removeprefix(PROMPT), comments=True)
                for between, command in groupby(words, {"|", "&&", ";"}.__contains__):
                    if not between:
                        yield list(command)


CASES = [
    pytest.param(page, command, id=f"{page.relative_to(ROOT)}: {' '.join(command)}"[:90])
    for page in PAGES
    for command in commands(page)
]


@pytest.mark.parametrize(("page", "command"), CASES)
def test_a_documented_command_exists(page: Path, command: list[str]) -> None:
    while re.match(r"[A-Z_]+=", command[0]):
        command = command[1:]
    program, *arguments = command
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    known = {"emofuse": check_emofuse, "dvc": check_dvc, "make": check_make, "mlflow": check_mlflow}
    if program in known:
        known[program](arguments, page)
    elif program not in OTHERS:
        path = ROOT / program
        assert path.exists() or (program.startswith(".venv/bin/") and shutil.which(path.name)), program


def check_emofuse(arguments: list[str], _: Path) -> None:
    build_parser().parse_args(arguments)


def check_make(arguments: list[str], _: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {each for each in arguments if "=" not in each} <= set(targets)


def check_mlflow(arguments: list[str], _: Path) -> None:
    from mlflow.cli import cli

    command: click.Command = cli
    context = click.Context(command)
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    command.make_context(command.name, arguments)


def check_dvc(arguments: list[str], page: Path) -> None:
    from dvc.cli.parser import get_main_parser

    parsed = get_main_parser().parse_args(arguments)
    for target in getattr(parsed, "targets", None) or []:
        if parsed.cmd in ("repro", "exp"):
            check_target(target, page)
    for change in getattr(parsed, "set_param", None) or []:
        check_key(change.partition("=")[0])


def check_target(target: str, page: Path) -> None:
    """A graph of a corpus of the project, or of one that the page makes; or a stage of the graph."""
    graph, _, stage = target.rpartition(":") if ":" in target else (target, "", "")
    if "dvc.yaml" not in graph:
        graph, stage = "dvc.yaml", target
    made = {
        f"corpora/{command[3]}/dvc.yaml" for command in commands(page) if command[:3] == ["emofuse", "corpus", "new"]
    }
    assert graph in made or (ROOT / graph).is_file(), graph
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert not stage or stage.partition("@")[0] in stages, stage


def check_key(key: str) -> None:
    """A key of a parameter file."""
    file, colon, place = key.rpartition(":")
    tree = yaml.safe_load((ROOT / (file if colon else "params.yaml")).read_text(encoding="utf-8"))
    for part in place.split("."):
        assert part in tree, key
        tree = tree[part]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_a_page_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


def test_every_page_that_is_named_anywhere_is_there() -> None:
    listing = [
        "git",
        "grep",
        "-IhoE",
        r"\b(docs|benchmarks)/[A-Za-z0-9_/-]+\.(md|py)",
        "--",
        ":!CHANGELOG.md",
    ]
    named = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    made = {f"docs/reference/{page}.md" for page in ("parameters", "commands", "files", "modules")}
    assert sorted(name for name in set(named) - made if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES[:3], ids=lambda page: page.name)
def test_links_of_pages_outside_the_site_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_the_tutorial_takes_a_conversation_and_labels_it(
    project: "Project",  # noqa: F821
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = ROOT / "docs/tutorial/demo.md"
    (tmp_path / "data").symlink_to(project.root / "data")
    shutil.copy(project.root / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page, "python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    (command,) = (each for each in commands(page) if each[:2] == ["emofuse", "predict"])
    assert main([each.replace("whisper-tiny", "logmel") for each in command[1:]]) == 0
    told = capsys.readouterr().out
    assert told.startswith("demo/cma, seed ")
    assert len(re.findall(r"^\d+ ", told, re.MULTILINE)) == len(list((tmp_path / "talk").glob("*.flac")))


def test_the_tutorial_of_emodb_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = ROOT.parent / "shared/data/emodb"
    if not recordings.exists():
        pytest.skip(f"needs EmoDB in {recordings}")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / "docs/tutorial/emodb.md", "console")[:2]:
        line, _, expected = block.partition("\n")
        typed = shlex.split(line.removeprefix(PROMPT).replace("~/corpora/emodb", str(recordings)))
        assert main(typed[1:]) == 0
        assert capsys.readouterr().out.startswith(expected.rstrip())
