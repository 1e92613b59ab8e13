"""What README and the documentation tell a person to type, and where they send them."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
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
        yield from commands_of(block)


def commands_of(block: str) -> Iterator[list[str]]:
    """The commands of a block."""
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
    program, *arguments = command[1:] if command[0] == "python" else command
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


ELSEWHERE = (
    (r"(pip|pre-commit|uv) |\.venv/bin/|\.ci/run|source ", "installs, or runs the whole suite"),
    (r"make (setup|repro|lint|types|docs|bench|lock|format|test|ui)", "takes minutes; `test_make_knows_how` plans it"),
    (r".*(meld|emodb|mosi|MELD\.Raw)", "needs a corpus that is not in the repository"),
    (r"dvc (exp run|queue) ", "trains; `test_sweep.py` and `test_graph.py` run such experiments"),
    (
        r"(ray|mlflow|curl|arecord|RAY_ADDRESS=\S+|.* models:/\S+)( |$)",
        "needs a server or a microphone; other tests start one",
    ),
    (r"dvc (get|import|pull) ", "needs a remote; `test_team.py` has some"),
)
"""Commands that no stand-in here can carry, and why; they are parsed all the same."""

STAND_INS = {"whisper-tiny": "logmel", "/big/disk": "{}/disk", "/mnt/team": "{}/team"}
"""What the small project has in the place of something else."""


def runnable() -> Iterator[Any]:
    """Blocks with a command that is not elsewhere, each once; the tutorials have tests of their own."""
    seen: list[list[list[str]]] = []
    for page in PAGES:
        for number, block in enumerate(blocks(page, "console")):
            typed = [command for command in commands_of(block) if not elsewhere(command)]
            if typed and typed not in seen and page.parent.name != "tutorial":
                seen.append(typed)
                yield pytest.param(page, number, id=f"{page.relative_to(ROOT)}, block {number}")


def elsewhere(command: list[str]) -> bool:
    """Whether a command is left out here."""
    return any(re.match(pattern, " ".join(command)) for pattern, _ in ELSEWHERE)


@pytest.fixture(scope="module")
def checkout(
    make_project: Callable[[Path], Path],
    dvc: Callable[..., Any],
    project: "Project",  # noqa: F821
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The small project as a checkout, with a recording, a conversation, and a corpus beside it."""
    folder = make_project(tmp_path_factory.mktemp("documented") / "checkout")
    shutil.copy(project.root / "params.yaml", folder)
    for name in ("data", "metrics", ".emofuse"):
        shutil.copytree(project.root / name, folder / name, dirs_exist_ok=True)
    (folder / "metrics/corpora/demo.html").touch()
    dvc(folder, "commit", "--force", "ingest")
    talk, *calls = project.conversations.values()
    shutil.copytree(talk, folder / "talk")
    _record(talk, folder)
    _write_corpus(folder.parent / "corpora/calls", calls[:6])
    for arguments in (["add", "-A"], ["commit", "-qm", "as documented"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)
    return folder


def _record(talk: Path, folder: Path) -> None:
    """A recording of a conversation's first two turns, and who speaks when in it."""
    rows = json.loads((talk / "turns.json").read_text())[:2]
    parts, lines, start = [], [], 0.0
    for row in rows:
        samples, rate = soundfile.read(talk / row["audio"], dtype="float32")
        lines.append(f"SPEAKER talk 1 {start:.2f} {len(samples) / rate:.2f} <NA> <NA> {row['speaker']} <NA> <NA>")
        parts += [samples, np.zeros(rate, np.float32)]
        start += len(samples) / rate + 1
    soundfile.write(folder / "talk.wav", np.concatenate(parts), rate)
    (folder / "talk.rttm").write_text("\n".join(lines) + "\n")


def _write_corpus(folder: Path, conversations: Sequence[Path]) -> None:
    """A corpus of one's own as `docs/how-to/corpus.md` describes it."""
    (folder / "audio").mkdir(parents=True)
    lines = ["utterance_id,dialogue_id,speaker,text,label"]
    for number, conversation in enumerate(conversations):
        for turn, row in enumerate(json.loads((conversation / "turns.json").read_text())):
            name = f"call{number}_{turn}"
            shutil.copy(conversation / row["audio"], folder / f"audio/{name}.flac")
            lines.append(f'{name},call{number},caller-{number},"{row["text"]}",{("angry", "calm")[turn % 2]}')
    (folder / "utterances.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("page", "number"), list(runnable()))
def test_a_documented_block_runs(
    page: Path, number: int, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block of commands does what it says on the small project, without error.

    These are the commands of `emofuse`, `dvc` and the shell that need no more than a trained project of twelve
    dialogues, a recording, a corpus of one's own, and empty folders. Of `dvc repro` the first stage is run and the
    others are listed, since other tests run them. Those in :data:`ELSEWHERE` are left out: they would install
    something, take minutes, or need a corpus or a server.
    """
    here, block = tmp_path / "checkout", blocks(page, "console")[number]
    shutil.copytree(checkout, here, symlinks=True)
    for name in ("disk", "team"):
        (tmp_path / name).mkdir()
    if "mkdir /big/disk/emofuse-store" in block:  # a project without results
        shutil.rmtree(here / ".emofuse")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(checkout.parent))
    monkeypatch.setenv("PYTHONPATH", str(here / "src"))  # the code of stages
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    for command in commands_of(block):
        if not elsewhere(command):
            run(_with_stand_ins(command, tmp_path), here)


def _with_stand_ins(command: list[str], folder: Path) -> list[str]:
    """A command as it is typed in the small project."""
    for name, instead in STAND_INS.items():
        command = [each.replace(name, instead.format(folder)) for each in command]
    return [str(Path(each).expanduser()) if each.startswith("~") else each for each in command]


def run(command: list[str], folder: Path) -> None:
    """Run a command: this project's and DVC's in this process, where starting another takes longer than the work."""
    *command, _, out = command if ">" in command else (*command, ">", "")
    program, *arguments = command
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout((folder / out).open("w") if out else io.StringIO()))
        if program == "emofuse":
            if "-" in arguments:
                samples, _ = soundfile.read(folder / "talk.wav", dtype="int16")
                piped = stack.enter_context(pytest.MonkeyPatch.context())
                piped.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(samples.tobytes())))
            assert main(arguments) == 0
        elif program == "dvc":
            from dvc.cli import main as run_dvc

            if arguments[:2] == ["remote", "add"]:  # one of several
                subprocess.run(["git", "checkout", "-q", ".dvc/config"], cwd=folder, check=True)
            if arguments[0] == "repro":
                assert run_dvc(["stage", "list", *arguments[1:]]) == 0
                arguments = ["repro", "--single-item", f"{arguments[1]}:ingest"]
            if arguments[0] == "checkout":
                arguments.append("ingest")  # the one stage that DVC has seen
            assert run_dvc(arguments) == 0
        else:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    assert not out or (folder / out).stat().st_size


@pytest.mark.parametrize("target", re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
def test_make_knows_how(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_a_page_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/recordings.md", "docs/how-to/team.md"])
def test_python_of_a_page_runs(
    page: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of other pages need a corpus that is not in the repository, or a tracker."""
    monkeypatch.chdir(checkout)
    if not Path("bert-base").exists():
        Path("bert-base").symlink_to("data/features/demo/minilm")
    names = {each: import_module(each) for each in ("datasets", "pandas", "polars")}
    for block in blocks(ROOT / page, "python"):
        for name, instead in (
            STAND_INS | {"meld/bert-base": "demo/minilm", "meld": "demo", "of-00008": "of-00004"}
        ).items():
            block = block.replace(name, instead)
        exec(compile(block, page, "exec"), names)  # noqa: S102
    assert page.endswith("team.md") or re.search(r"(angry|happy|neutral|sad)", capsys.readouterr().out)


@pytest.mark.parametrize(("page", "most"), [("README.md", 130), ("docs/decisions.md", 120)])
def test_a_page_to_read_in_one_go_stays_short(page: str, most: int) -> None:
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= most


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


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs/reference/python.md"], ids=lambda page: page.name)
def test_links_lead_somewhere_without_the_site_too(page: Path) -> None:
    """To files that git has: pages that are made from the code are not on the pages that GitHub shows."""
    known = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = set(known.stdout.splitlines())
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        target = (page.parent / link).resolve().relative_to(ROOT).as_posix()
        assert target in files, link


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
    found = capsys.readouterr().out
    assert found.startswith("demo/cma, seed ")
    assert len(re.findall(r"^\d+ ", found, re.MULTILINE)) == len(list((tmp_path / "talk").glob("*.flac")))


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
