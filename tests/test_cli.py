"""The ``emofuse`` command as a person calls it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emofuse.cli import main
from emofuse.core.store import Store
from emofuse.reporting.readme import BEGIN, END, with_results
from emofuse.tracking.address import TrackingConfig, TrackingError
from emofuse.tracking.sync import Summary

COMMANDS = [
    *(
        ["predict"],
        ["export"],
        ["track"],
        ["corpora"],
        ["leaderboard"],
        ["table"],
        ["report"],
        ["store"],
        ["store", "prune"],
    ),
    *(["doctor"], ["completion"]),
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where the command is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMOFUSE_DEBUG", raising=False)
    return tmp_path


def fill(root: Path, days: float = 0) -> None:
    """Put one entry into the store, last used some days ago."""
    Store(root / ".emofuse").ensure("runs", "abc", lambda folder: (folder / "x").write_bytes(b"0" * 1500) and None)
    moment = time.time() - 86_400 * days
    os.utime(root / ".emofuse/runs/abc/manifest.json", (moment, moment))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_a_text_and_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "example: " in shown
    assert " ".join(["emofuse", *command]) in shown.split("example: ")[1]


def test_the_whole_help_has_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("    ")}
    for command in COMMANDS:
        assert command[0] in listed
        assert " ".join(["emofuse", *command]) in shown.split("examples:")[1]
    assert "130 interrupted" in shown
    assert "EMOFUSE_DEBUG" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command[0] in script for command in COMMANDS)
    if shell == "bash":
        (root / "talk.json").touch()
        # What a person sees after the tab key: commands, and files where a file is meant.
        for typed, expected in ((["emofuse", "pre"], "predict"), (["emofuse", "predict", "ta"], "talk.json")):
            ask = f"COMP_WORDS=({' '.join(typed)}); COMP_CWORD={len(typed) - 1}; _shtab_emofuse; echo ${{COMPREPLY[@]}}"
            done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], cwd=root, capture_output=True, text=True)
            assert done.stdout.split() == [expected], done.stderr


def test_a_reader_that_has_had_enough_is_no_error(root: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = f"{sys.executable} -m emofuse.cli completion bash | true"
    done = subprocess.run(command, shell=True, env=environment, cwd=root, capture_output=True, text=True)  # noqa: S602
    assert done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, emofuse.cli\ntry: emofuse.cli.main(['-h'])\nexcept SystemExit: print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    heavy = {"mlflow", "numpy", "polars", "pyarrow", "pydantic", "torch", "yaml"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["store", "prune"], ["store", "prune", "--older-than-days", "-1"]]
    + [["store", "prune", "--older-than-days", value] for value in ("soon", "nan", "inf")],
    ids=" ".join,
)
def test_wrong_use_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_an_error_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "emofuse: params.yaml: not found; run this from the project's root folder\n"


@pytest.mark.parametrize("arguments", [["--debug", "track"], ["track", "--debug"]], ids=" ".join)
def test_debug_shows_where_an_error_comes_from(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="not found"):
        main(arguments)


def test_an_interrupted_command_shows_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "sizes", interrupt)
    assert main(["store"]) == 130


def test_track_says_what_it_added_and_fails_where_a_model_could_not_be_registered(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def sync(folder: Path, config: TrackingConfig) -> Summary:
        asked.append((folder.resolve(), config))
        return Summary(
            "sqlite:////mlflow.db",
            added=("demo/hcam", "demo/hcam/seed-0-fold-0"),
            updated=("demo/late",),
            unchanged=("demo/concat",),
            registered=("emofuse-demo-hcam",),
            refused=("demo/late: no text network",),
            view="/#/experiments/1/runs",
        )

    monkeypatch.setattr("emofuse.tracking.sync.sync", sync)
    (root / "params.yaml").write_text("tracking: {experiment: mine}")
    assert main(["track"]) == 1
    assert asked == [(root, TrackingConfig(experiment="mine"))]
    output = capsys.readouterr()
    assert output.err == "emofuse: 1 model was not registered; see above\n"
    assert output.out.splitlines() == [
        "added demo/hcam: 2 runs",
        "updated demo/late: 1 run",
        "registered emofuse-demo-hcam",
        "not registered demo/late: no text network",
        "tracking: 2 runs added, 1 updated, 1 unchanged, 1 model registered, 1 model not registered "
        "in sqlite:////mlflow.db",
        "view: `make ui`, then http://127.0.0.1:5000/#/experiments/1/runs",
    ]


def test_track_fails_in_one_line_when_the_tracker_is_down(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sync(*_: object) -> Summary:
        raise TrackingError("tracker http://x: down")

    monkeypatch.setattr("emofuse.tracking.sync.sync", sync)
    (root / "params.yaml").write_text("tracking: {}")
    assert main(["track"]) == 1
    assert capsys.readouterr().err == "emofuse: tracker http://x: down\n"


def test_corpora_lists_what_is_there_and_what_is_missing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(
        "corpus: {name: demo, reader: demo}\nrun: {audio: [bands]}\nencoders: {bands: {family: logmel}}\n"
    )
    (root / "corpora/mosi").mkdir(parents=True)
    (root / "corpora/mosi/params.yaml").write_text(
        "file: corpora/mosi/params.yaml\ncorpus: {name: mosi, reader: mosi, source: data/raw/mosi}\n"
        "run: {audio: [bands]}\n"
    )
    (root / "data/raw/mosi").mkdir(parents=True)
    (root / "data/raw/mosi/label.csv").touch()
    assert main(["corpora"]) == 0
    shown = capsys.readouterr().out
    assert [block.partition(":")[0] for block in shown.split("\n\n")] == ["iemocap", "meld", "mosi", "own"]
    assert "there     labels: 1 file, label.csv" in shown
    assert "expected  sound: 10,039 files" in shown
    assert "request   the IEMOCAP release form" in shown
    assert "run       dvc repro corpora/mosi/dvc.yaml" in shown


def test_an_empty_store_is_shown_as_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store"]) == 0
    assert capsys.readouterr().out == ".emofuse: empty\n"


def test_store_shows_sizes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(root)
    assert main(["store"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["runs", "1", "entry", "1.7", "kB"], [".emofuse:", "1.7", "kB"]]


def test_prune_removes_what_was_not_used_for_long(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(root, days=3)
    assert main(["store", "prune", "--older-than-days", "4"]) == 0
    assert main(["store", "prune", "--older-than-days", "2.5"]) == 0
    assert capsys.readouterr().out == "removed 0 entries, 0 B\nremoved 1 entry, 1.7 kB\n"
    assert not (root / ".emofuse/runs/abc").exists()


def write_results(root: Path, value: float) -> None:
    folder = root / "metrics/demo/logmel+minilm"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = ("accuracy", "balanced_accuracy", "weighted_f1")
    rows = [f"{model},{metric},{value},,0.1,0.9,3" for model in ("hcam", "hcam/no-part") for metric in metrics]
    rows = [f"late,{metric},0.25,,0.1,0.9,3" for metric in metrics] + rows
    (folder / "scores.csv").write_text("\n".join(["model,metric,mean,sd,low,high,n_runs", *rows, ""]))
    columns = "model_a,model_b,metric,difference,low,high,p,p_adjusted"
    (folder / "pairs.csv").write_text(f"{columns}\nhcam,late,weighted_f1,{value - 0.25},0.1,0.4,0.001,0.001\n")
    models = {"late": {"n_parameters": 0}, "hcam": {"n_parameters": 1234}}
    names = (*metrics, "dev/weighted_f1")
    scores = {
        model: {name: {"mean": mean, "sd": None, "low": 0.1, "high": 0.9, "n_runs": 3} for name in names}
        for model, mean in {"late": 0.25, "hcam": value, "hcam/no-part": 0.9}.items()
    }
    protocol = {"task": "demo", "encoders": {"audio": "logmel", "text": "minilm"}, "models": models}
    written = {"protocol": protocol, "intervals": {"confidence_level": 0.95}, "scores": scores}
    (folder / "scores.json").write_text(json.dumps(written))
    (folder / "table.md").write_text(f"table with {value}\n")


def test_the_readme_s_results_are_those_of_metrics(root: Path) -> None:
    (root / "README.md").write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    for value in (0.5, 0.625):
        write_results(root, value)
        assert main(["leaderboard", "--readme"]) == 0
        text = (root / "README.md").read_text()
        assert f"| hcam | **{100 * value:.1f}** [10.0, 90.0] |" in text
        assert "no-part" not in text
        assert "old" not in text
        assert text.startswith("# Title\n")
        assert text.endswith("\n\nThe end.\n")


def test_a_readme_without_marks_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(root, 0.5)
    (root / "README.md").write_text("# Title\n")
    assert main(["leaderboard", "--readme"]) == 1
    assert "README.md: expected one line" in capsys.readouterr().err
    assert (root / "README.md").read_text() == "# Title\n"


def test_the_committed_readme_has_the_committed_results() -> None:
    project = Path(__file__).parents[1]
    text = (project / "README.md").read_text(encoding="utf-8")
    assert with_results(text, project / "metrics") == text, "run `emofuse leaderboard --readme`"


def test_table_with_times(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(root, 0.5)
    (root / "params.yaml").write_text("run: {tasks: [demo]}\ntracking: {}\n")
    assert main(["table"]) == 0
    assert capsys.readouterr().out == "demo, logmel+minilm\n\ntable with 0.5\n\n"
    known = {
        ("demo", "logmel+minilm", "hcam"): 12.34,
        ("demo", "logmel+minilm", "late"): 3.0,
        ("demo", "prosody+minilm", "hcam"): 8.8,
        ("other", "logmel+minilm", "hcam"): 9.9,
    }
    monkeypatch.setattr("emofuse.tracking.sync.training_seconds", lambda *_: known)
    assert main(["table", "--time"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[-3:] == ["| late | 25.0 | 0 | 3.0 |", "| hcam | 50.0 | 1,234 | 12.3 |", ""]
    assert "table with 0.5" in output


def test_report_takes_the_page_with_words_where_it_is_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "params.yaml").write_text("tracking: {}\n")
    known = {("demo", "logmel+minilm", "hcam"): 12.34, ("other", "logmel+minilm", "hcam"): 9.9}
    monkeypatch.setattr("emofuse.tracking.sync.training_seconds", lambda *_: known)
    assert main(["report", "demo"]) == 1
    assert capsys.readouterr().err.startswith("emofuse: metrics/demo/*/report.html: no report yet")
    for folder in ("metrics/demo/logmel+minilm", "data/scores/demo/logmel+minilm"):
        (root / folder).mkdir(parents=True)
        page = f'<p>{folder}</p><script type="application/json" id="known">{{}}</script>\n'
        (root / folder / "report.html").write_text(page)
        assert main(["report", "demo"]) == 0
        assert capsys.readouterr().out == page.replace("{}", '{"seconds": {"hcam": 12.34}, "commit": null}')


def test_table_without_a_tracker_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise TrackingError("tracker http://x: down")

    write_results(root, 0.5)
    (root / "params.yaml").write_text("run: {tasks: [demo]}\ntracking: {}\n")
    monkeypatch.setattr("emofuse.tracking.sync.training_seconds", fail)
    assert main(["table", "--time"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(
        "Training times are unknown: tracker http://x: down\n\ndemo, logmel+minilm\n\ntable with 0.5\n"
    )
    assert output.endswith("The tracker has no training times for demo.\n\n")
