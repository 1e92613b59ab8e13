"""Fixtures that several folders of tests share."""

import asyncio
import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before torch is there. What tests compute is so little that threads wait for each other longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
import pytest
import yaml
from filelock import FileLock
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from emofuse.scoring.scores import Scores

# The fixtures that properties use here hold no state; times on a busy machine say nothing.
settings.register_profile("emofuse", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("emofuse")

TRANSCRIPT = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
PROSODY = (
    "filename,duration,avg_intensity,intensity_variation,avg_pitch,pitch_std,pitch_range,articulation_rate,mean_hnr"
)

CLASSES = ("angry", "happy", "sad")
"""Classes of the small task whose predictions are made, so that what its scores must be is known."""

TESTS = Path(__file__).parent

LONG = (
    *("test_pipeline.py", "test_hub.py", "test_graph.py", "test_sweep.py", "test_team.py", "test_new_model.py"),
    *("tracking", "training", "inference"),
)
"""Files and folders whose tests take longest, in the order in which they begin."""

TRACKED = ("enabled: false", "enabled: true")
"""What to replace in the parameters of a small project so that its stages log to a tracker."""

SMALL = {"dialogues": 24, "shards": 12, "seeds": 2}
"""Size of the embedded corpus and its task where a test runs the pipeline as a whole."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; the rest is in a random order, whose seed pytest-randomly prints."""
    items.sort(key=lambda item: LONG.index(unit) if (unit := _unit(item.path)) in LONG else len(LONG))


def _unit(path: Path) -> str:
    """What one worker runs as a whole: the tests of a folder, or of a file beside this one."""
    return path.name if path.parent == TESTS else path.relative_to(TESTS).parts[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several workers run, give tests to one that share what takes long to set up."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _unit(TESTS.parent / nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return Scheduler(config, log)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Folder that is filled once for all workers: ``once(name, fill)``; do not write into it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # half of what another worker failed to make
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def small() -> dict[str, int]:
    """Dialogues, shards and seeds of what ``make_project`` makes."""
    return SMALL


@pytest.fixture(scope="session")
def tracked() -> tuple[str, str]:
    """What to replace in the parameters of what ``make_project`` makes so that its stages log to a tracker."""
    return TRACKED


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment in which a person runs DVC: this Python's programs first, no tracker elsewhere."""
    return _environment()


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | own


@pytest.fixture(scope="session")
def dvc() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run DVC to its end: ``dvc(project, arguments...)``, with ``fails=True`` where it must fail.

    Stages run the code of the project, as in a checkout that was set up; ``folder`` is one below it to call DVC in.
    """

    def run(project: Path, *arguments: str, fails: bool = False, folder: str = "") -> subprocess.CompletedProcess[str]:
        own = _environment() | {"PYTHONPATH": str(project / "src")}
        done = subprocess.run(
            ["dvc", *arguments], cwd=project / folder, env=own, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def make_project(root: Path) -> Callable[[Path], Path]:
    """Copy into a folder what git would: the project as a fresh clone, with few dialogues, seeds and epochs."""

    def make(folder: Path) -> Path:
        listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, names):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name, follow_symlinks=False)
        for lock in (folder / "dvc.lock", *folder.glob("corpora/*/dvc.lock")):
            lock.unlink(missing_ok=True)
        shutil.rmtree(folder / "metrics", ignore_errors=True)
        _shrink(folder / "params.yaml")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        return folder

    return make


@pytest.fixture(scope="session")
def finished(
    make_project: Callable[[Path], Path],
    dvc: Callable[..., subprocess.CompletedProcess[str]],
    once: Callable[[str, Callable[[Path], object]], Path],
) -> Path:
    """A project after one plain `dvc repro`, to look at and to copy; copies log to no tracker until they say so."""

    def fill(folder: Path) -> None:
        params = make_project(folder) / "params.yaml"
        untracked = params.read_text(encoding="utf-8")
        params.write_text(untracked.replace(*TRACKED), encoding="utf-8")
        dvc(folder, "repro")
        params.write_text(untracked, encoding="utf-8")

    return once("finished", fill)


_SHRUNK = (
    (r"dialogues: \d+", f"dialogues: {SMALL['dialogues']}"),
    (r"(?<=\n  )shards: \d+", f"shards: {SMALL['shards']}"),
    (r"seeds: \d+", f"seeds: {SMALL['seeds']}"),
    (r"epochs: \d+", "epochs: 1"),
    (r"min_steps: \d+", "min_steps: 0"),
    (r"resamples: \d+", "resamples: 200"),
    (r"    text:\n    - words-42\n", "    text: []\n"),
    (r"    both:[^\n]*\n    - found\n", "    both: []\n"),
    (r"(?<=own models and tables\n)  - whisper-tiny\n", "  - logmel\n"),
    (r"enabled: true", "enabled: false"),
)


def _shrink(path: Path) -> None:
    """Make the demo small in the file's text, whose comments stay."""
    text = path.read_text(encoding="utf-8")
    for pattern, small in _SHRUNK:
        text, count = re.subn(pattern, small, text)
        assert count, f"nothing in {path.name} is like {pattern}"
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def truth() -> Callable[..., pl.DataFrame]:
    """Targets of a small made-up task: ``truth(n_dialogues, n_turns, fold, prefix)``."""
    return _truth


@pytest.fixture
def predict() -> Callable[..., pl.DataFrame]:
    """Predictions that are given: ``predict(truth, predicted, model, seed, split)``."""
    return _predict


@pytest.fixture
def guess() -> Callable[..., pl.DataFrame]:
    """Predictions of some skill: ``guess(truth, skill, model, seeds)``."""
    return _guess


@pytest.fixture
def classes() -> tuple[str, ...]:
    """The classes of that task."""
    return CLASSES


@pytest.fixture
def tiny() -> "Scores":
    """Four utterances of one dialogue: two of class a, two of class b.

    Majority says a: accuracy 2/4, recalls 1 and 0, F1 of a 4/6 and of b 0. hcam's seed 0 takes one b for an a: accuracy
    3/4, recalls 1 and 1/2, F1 4/5 and 2/3, both means 11/15; its seed 1 is perfect. So its accuracy is 0.875 with a
    deviation of 0.25 / sqrt(2), its F1 13/15 with (4/15) / sqrt(2). One dialogue tells nothing of others: the intervals
    hold all that a score can be. That of the calibration error is a bootstrap's, which draws one of two runs. All
    answers are sure to 0.8, which is 0.3 from majority's accuracy and 0.05 and 0.2 from those of hcam.
    """
    from emofuse.scoring.estimates import ScoringConfig
    from emofuse.scoring.scores import score

    ids = [f"d_{turn}" for turn in range(4)]
    truth = pl.DataFrame({"fold": 0, "split": "test", "utterance_id": ids, "dialogue_id": "d", "target": [0, 0, 1, 1]})
    by_run = {("majority", 0): [0, 0, 0, 0], ("hcam", 0): [0, 0, 1, 0], ("hcam", 1): [0, 0, 1, 1]}
    runs = pl.concat([_predict(truth, own, model, seed) for (model, seed), own in by_run.items()])
    two = runs.with_columns(pl.col("probabilities").list.head(2))
    return score(two, truth, ["a", "b"], ScoringConfig(resamples=200))


def _truth(n_dialogues: int = 12, n_turns: int = 6, fold: int = 0, prefix: str = "") -> pl.DataFrame:
    """Test targets of one fold, drawn at random; dialogue d has utterances d_0, d_1, …"""
    targets = np.random.default_rng(5).integers(0, len(CLASSES), (n_dialogues, n_turns))
    rows = [
        (fold, "test", f"{prefix}d{dialogue}_{turn}", f"{prefix}d{dialogue}", int(target))
        for (dialogue, turn), target in np.ndenumerate(targets)
    ]
    return pl.DataFrame(rows, schema=["fold", "split", "utterance_id", "dialogue_id", "target"], orient="row")


def _predict(
    truth: pl.DataFrame, predicted: Sequence[int] | np.ndarray, model: str = "hcam", seed: int = 0, split: str = "test"
) -> pl.DataFrame:
    """Predictions of ``predicted[i]`` for row i of ``truth``, with a probability of 0.8."""
    probabilities = np.full((len(truth), len(CLASSES)), 0.1, np.float32)
    probabilities[np.arange(len(truth)), predicted] = 0.8
    return pl.DataFrame(
        {
            "task": "tiny",
            "model": model,
            "seed": pl.Series([seed] * len(truth), dtype=pl.Int32),
            "fold": truth["fold"].cast(pl.Int32),
            "split": split,
            "utterance_id": truth["utterance_id"],
            "probabilities": pl.Series(probabilities.tolist(), dtype=pl.List(pl.Float32)),
        }
    )


def _guess(truth: pl.DataFrame, skill: float, model: str, seeds: Sequence[int] = (0, 1, 2)) -> pl.DataFrame:
    """Predictions of several seeds that are right with probability ``skill`` and wrong by one class otherwise."""
    target = truth["target"].to_numpy()
    rng = np.random.default_rng([*model.encode(), len(seeds)])
    runs = [np.where(rng.random(len(target)) < skill, target, (target + 1) % len(CLASSES)) for _ in seeds]
    return pl.concat([_predict(truth, predicted, model, seed) for predicted, seed in zip(runs, seeds, strict=True)])


@pytest.fixture(scope="session")
def leave_run() -> Callable[..., Path]:
    """Leave a run on disk as training does: ``leave_run(folder, model, seed, right, …)``; the folder is returned.

    It predicts 400 utterances of dev and none of test, and gets ``right`` percent of each of four classes right. With a
    ``history`` it is of a network that was trained in epochs; with a ``network`` that one's weights are there too.
    """
    return _leave_run


def _leave_run(
    folder: Path,
    model: str,
    seed: int = 0,
    right: int = 60,
    *,
    task: str = "tiny",
    encoders: Mapping[str, str] | None = None,
    stage: str = "by hand",
    parameters: Mapping[str, Any] | None = None,
    history: Sequence[dict[str, float]] = (),
    network: Any = None,
) -> Path:
    import torch

    from emofuse.tasks import Fold
    from emofuse.training.fit import Fitted
    from emofuse.training.runs import Run, save_fitted, save_run

    n, targets = 400, np.repeat(np.arange(4), 100)
    fold = Fold(
        utterance_ids=tuple(f"u{row}" for row in range(n)),
        dialogues=np.array([0, n]),
        speakers=np.zeros(n, np.int64),
        splits=np.ones(n, np.int64),
        targets=targets,
        scored=np.ones(n, bool),
        classes=("angry", "happy+excited", "neutral", "sad"),
        context="full",
    )
    predicted = np.where(np.arange(n) % 100 < right, targets, (targets + 1) % 4)
    probabilities = np.eye(4, dtype=np.float32)[predicted]
    trained = network or torch.nn.Linear(10, 4)
    fitted = Fitted(trained, probabilities, {}, len(history), False, list(history), [])
    run, kept = Run(task, model, encoders or {}, stage, seed, 0), parameters or {}
    if network:
        save_fitted(folder, run, fold, fitted, kept, {}, None)
    else:
        save_run(folder, run, fold, probabilities, kept, fitted if history else None)
    return folder


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Address of a test's folder on an SSH server, ``ssh(folder)``; it asks another ``user`` for a password."""
    import asyncssh

    base = tmp_path_factory.getbasetemp()

    class Door(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return username != "guest"

        def password_auth_supported(self) -> bool:
            return True

    async def listen() -> asyncssh.SSHAcceptor:
        key = asyncssh.generate_private_key("ssh-ed25519")
        files = {"sftp_factory": lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(base))}
        return await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=Door, **files)

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(timeout=60)
    place = f"127.0.0.1:{server.get_port()}"
    yield lambda folder, user="guest": f"ssh://{user}@{place}/{folder.relative_to(base)}"
    loop.call_soon_threadsafe(server.close)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Address of an S3 server of a module's own, without a bucket, and in the environment who may ask it."""
    import requests
    from moto.server import ThreadedMotoServer  # here, for few tests need it and it is slow to import

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)  # a thread that ends with this process at the latest
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line a request otherwise
        server.start()
        host, port = server.get_host_and_port()
        # All servers of one process have the same buckets, those of earlier modules' tests too.
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10).raise_for_status()
        yield f"http://{host}:{port}"
        server.stop()


_LOOK = """(() => {
  const of = getComputedStyle(document.body);
  const grey = rgb => rgb.match(/\\d+/g).slice(0, 3).reduce((a, b) => +a + +b) / 3;
  return [document.documentElement.scrollWidth - innerWidth, grey(of.backgroundColor), grey(of.color)];
})()"""
"""How far a page is too wide, and how light its ground and its letters are, up to 255."""


class Browser:
    """Chromium without a window, spoken to over a pipe in its DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        commands, answers = os.pipe(), os.pipe()
        self._commands, self._answers, self._left, self._number = commands[1], answers[0], b"", 0
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        # Chromium reads from descriptor 3 and writes to 4, which here are taken.
        shell = ["bash", "-c", f'exec "$@" 3<&{commands[0]} 4>&{answers[1]}', "bash"]
        self._process = subprocess.Popen(
            [*shell, "chromium", *options, f"--user-data-dir={profile}"],
            pass_fds=(commands[0], answers[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        self._session: dict[str, str] = {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events are passed over."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def show(self, page: Path, width: int, *, phone: bool = False, dark: bool = False, media: str = "") -> None:
        """Load a page on a screen of some width, or as it is printed."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone)
        self.ask("Page.navigate", url=page.as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """The value of a piece of JavaScript, or of what it promises."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def look(self) -> Any:
        """By how many pixels the page is too wide, and how light its ground and its letters are, up to 255."""
        return self.run(_LOOK)

    def check_fits(self, page: Path) -> None:
        """Check that a page is no wider than a phone and a desk, and legible in light and in dark."""
        for width, dark in product((360, 1200), (False, True)):
            self.show(page, width, phone=width < 400, dark=dark)
            too_wide, ground, letters = self.look()
            assert too_wide <= 0
            assert (ground < 40, letters > 200) == (dark, dark)
            assert abs(ground - letters) > 180

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            some = os.read(self._answers, 1 << 20)
            assert some, "the browser has ended"
            self._left += some
        message, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser to look at pages with."""
    if not shutil.which("chromium"):
        pytest.skip("needs the browser chromium on the path")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


FUSED = ("majority", "linear", "late", "concat", "hcam", "cma", "hbaf")
"""Models of the project ``project`` that read a pair of encoders."""


@dataclass(frozen=True)
class Project:
    """What the stages left of the embedded corpus, with the encoders ``logmel`` and ``minilm``.

    Attributes:
        root: the project's folder
        conversations: for each dialogue of dev and test a folder with its sound and ``turns.json``
    """

    root: Path
    conversations: dict[str, Path]

    def model(self, name: str) -> Path:
        """A model's folder by its name in the tables, such as ``hcam``, ``hcam/no-context`` or ``audio-context``."""
        modality, _, level = name.partition("-")
        encoder = {"audio": "logmel", "text": "minilm"}.get(modality)
        below = f"{encoder}/{level}" if encoder else f"logmel+minilm/{'ablations/' if '/' in name else ''}{name}"
        return self.root / "data/models/demo" / below

    def predicted(self, run: Path) -> dict[str, list[float]]:
        """What a run's predictions say, by utterance."""
        import polars as pl

        table = pl.read_parquet(run / "predictions.parquet")
        return dict(zip(table["utterance_id"], table["probabilities"], strict=True))

    def ids(self, dialogue: str) -> list[str]:
        """The utterances of a dialogue, turn by turn."""
        import polars as pl

        table = pl.read_parquet(self.root / "data/corpora/demo/utterances.parquet")
        return table.filter(pl.col("dialogue_id") == dialogue)["utterance_id"].to_list()


class _Here(Executor):
    """A pool that does its work in this process, since starting others takes longer than the work."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def submit(self, function: Callable[..., Any], /, *values: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*values, **options))
        return done


@pytest.fixture(scope="session")
def project(root: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Project:
    """A small project, made once by the real stages: twelve dialogues, every model, two seeds; do not write into it."""

    def fill(folder: Path) -> None:
        from emofuse.audio import parallel
        from emofuse.core.process import computing_alone
        from emofuse.training import trainer

        tree = yaml.safe_load((root / "params.yaml").read_text())
        (folder / "params.yaml").write_text(yaml.safe_dump(_of_twelve_dialogues(tree), sort_keys=False))
        with pytest.MonkeyPatch.context() as patch, computing_alone():
            patch.chdir(root)  # where the corpus's source is
            patch.setattr(parallel, "Pool", _Here)
            patch.setattr(trainer, "run_all", lambda _, function, each: sum(map(function, each)))
            _run_stages(folder)
        _lay_out_conversations(folder)

    folder = once("project", fill)
    return Project(folder, {path.name: path for path in sorted((folder / "conversations").iterdir())})


def _of_twelve_dialogues(tree: dict[str, Any]) -> dict[str, Any]:
    tree["corpus"]["options"]["dialogues"] = 12
    tree["tasks"]["demo"]["seeds"] = 2
    tree["scoring"]["resamples"] = 100
    models = tree["models"]
    models["hcam"]["ablations"] = {"no-context": {"reads": "utterance"}}
    tree["run"]["audio"] = ["logmel"]
    tree["run"]["models"]["ablations"] = ["hcam"]
    levels = [models[name][level] for name in ("audio", "text") for level in ("utterance", "context")]
    for each in [*levels, *(models[name] for name in FUSED if "fit" in (models[name] or {}))]:
        each["fit"] = each["fit"] | {"epochs": 2, "min_steps": 0}
    for each, speaker in ((models["concat"], "role"), (models["text"]["context"], "same")):
        each["network"] = each["network"] | {"speaker": speaker}
    return tree


def _run_stages(folder: Path) -> None:
    """Run the stages in this process; of the results, the scores without their pictures."""
    import polars as pl

    from emofuse.core.layout import Layout, Pair
    from emofuse.core.params import Params
    from emofuse.core.store import Store
    from emofuse.corpora.ingest import CorpusConfig, ingest
    from emofuse.features.extract import EncoderConfig, ExtractConfig, extract
    from emofuse.plan import Plan
    from emofuse.reporting.benchmark import protocol
    from emofuse.scoring.estimates import ScoringConfig
    from emofuse.scoring.inputs import run_folders, truth_of
    from emofuse.scoring.scores import score
    from emofuse.scoring.write import scores_on_dev, write_scores
    from emofuse.training.fuse import ablate, fuse
    from emofuse.training.jobs import Work
    from emofuse.training.pretrain import pretrain, pretrain_linear

    params, layout, store = Params.load(root=folder), Layout(folder), Store(folder / ".emofuse")
    plan, pair = Plan.load(params), Pair("logmel", "minilm")
    corpus = layout.corpus("demo")
    ingest(params.get("corpus", CorpusConfig), corpus, folder / "metrics/corpora/demo.json")
    for modality in ("audio", "text"):
        name, one = pair.encoder(modality), ExtractConfig(workers=1)
        config = params.get(f"encoders.{name}", EncoderConfig)
        extract(name, config, one, 4, corpus, layout.features("demo", name), store, modality)
        work = Work(f"pretrain demo {name}", "demo", params, layout, store)
        pretrain(work, modality, name)
        pretrain_linear(work, modality, name)
    for model in plan.fusion:
        fuse(Work(f"fuse demo {pair} {model}", "demo", params, layout, store), pair, model)
    work = Work(f"ablate demo {pair} hcam", "demo", params, layout, store)
    ablate(work, pair, "hcam")
    folders = run_folders(work.opened, pair, plan, layout)
    records = [json.loads((each / "record.json").read_text()) for each in folders]
    runs = pl.concat([pl.read_parquet(each / "predictions.parquet") for each in folders])
    scores = score(runs, truth_of(work.opened), work.opened.classes, params.get("scoring", ScoringConfig))
    facts = protocol(work.opened, pair, layout, records, [])
    write_scores(layout.metrics("demo", pair), scores, scores_on_dev(records), facts, "the table")


def _lay_out_conversations(folder: Path) -> None:
    """Lay the dialogues of dev and test out as a person would have them; the sound is what the corpus has."""
    import polars as pl
    import pyarrow.parquet as pq

    utterances = pl.read_parquet(folder / "data/corpora/demo/utterances.parquet").filter(pl.col("split") != "train")
    tables = [pq.read_table(path) for path in (folder / "data/corpora/demo/audio").glob("*.parquet")]
    sound = {
        name: each["bytes"]
        for table in tables
        for name, each in zip(table["utterance_id"].to_pylist(), table["audio"].to_pylist(), strict=True)
    }
    for (dialogue,), rows in utterances.group_by("dialogue_id", maintain_order=True):
        out = folder / "conversations" / str(dialogue)
        out.mkdir(parents=True)
        turns = []
        for row in rows.to_dicts():
            (out / f"{row['turn']}.flac").write_bytes(sound[row["utterance_id"]])
            turns.append({"speaker": row["speaker"], "text": row["text"], "audio": f"{row['turn']}.flac"})
        (out / "turns.json").write_text(json.dumps(turns))


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start Python code as a process of its own: ``start(code, folder, arguments...)``."""

    def run(code: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


@pytest.fixture(scope="session")
def meld_row() -> Callable[..., dict[str, str]]:
    """One row of a MELD transcript: ``meld_row(dialogue, utterance, text, **other columns)``."""

    def make(dialogue: int, utterance: int, text: str, **columns: str) -> dict[str, str]:
        usual = ["1", text, "Ross", "joy", "positive", str(dialogue), str(utterance), "1", "2"]
        times = ["00:00:01,500", "00:00:02,750"]
        return dict(zip(TRANSCRIPT.split(","), [*usual, *times], strict=True)) | columns

    return make


@pytest.fixture(scope="session")
def write_meld() -> Callable[..., Path]:
    """Write a folder as MELD ships it: ``write_meld(folder, transcripts by split, prosody by split or None)``."""

    def write(
        folder: Path,
        transcripts: Mapping[str, Sequence[Mapping[str, str]]],
        prosody: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in transcripts.items():
            lines = [list(row.values()) for row in rows]
            _write_csv(folder / f"{split}_sent_emo.csv", TRANSCRIPT.split(","), lines)
        for split, clips in (prosody or {}).items():
            lines = [[f"{clip}.wav", *values] for clip, values in clips.items()]
            _write_csv(folder / f"meld_{split}_audio_features.csv", PROSODY.split(","), lines)
        return folder

    return write


def _write_csv(path: Path, header: list[str], lines: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *lines])


@pytest.fixture(scope="session")
def save_wav2vec2() -> Callable[..., None]:
    """What saves the smallest network of the kind to a folder, with random weights of a seed."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    def save(folder: Path, seed: int = 0) -> None:
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
        Wav2Vec2Model(Wav2Vec2Config(conv_dim=(8,) * 7, **sizes, **positions)).save_pretrained(folder)
        Wav2Vec2FeatureExtractor().save_pretrained(folder)

    return save


@pytest.fixture
def write_params() -> Callable[..., None]:
    """Write the parameters of a corpus that runs one encoder of each modality.

    ``write_params(project, "demo", audio, text, **shared)`` writes the root's file, with the sections that are shared;
    of any other corpus its own file.
    """

    def write(project: Path, corpus: str, audio: str, text: str, **shared: dict[str, Any]) -> None:
        is_demo = corpus == "demo"
        file = Path("params.yaml") if is_demo else Path("corpora") / corpus / "params.yaml"
        run = {"tasks": [corpus], "audio": [audio], "text": [text]}
        tree = {
            "root": "." if is_demo else "../..",
            "file": file.as_posix(),
            "corpus": {"name": corpus},
            "tasks": {corpus: {}},
            "run": run | {"models": {"features": ["majority"], "networks": []}},
        }
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(yaml.safe_dump(tree | shared, sort_keys=False))

    return write
