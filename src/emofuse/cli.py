"""The ``emofuse`` command: everything except the pipeline's stages."""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from emofuse.core.names import print_all_names

if TYPE_CHECKING:
    from emofuse.core.params import Params

# Heavy modules are imported where they are used, so that help appears at once.

__all__ = ["build_parser", "main"]

Command = Callable[[argparse.Namespace], None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

END = """exit status:
  0 success, 1 an error, reported in one line (--debug adds a traceback), 2 wrong usage, 130 interrupted

environment:
  EMOFUSE_DEBUG=1      like --debug, also for the pipeline's stages: EMOFUSE_DEBUG=1 dvc repro
  MLFLOW_TRACKING_URI  the tracker; default: mlflow.db in the project's root folder"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error, 2 for wrong usage, 130 if interrupted.

    Args:
        argv: the arguments, those of the process by default
    """
    print_all_names()
    arguments = build_parser().parse_args(argv)
    command: Command = arguments.command
    try:
        command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe; discard the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "debug" in arguments or os.environ.get("EMOFUSE_DEBUG"):
            raise
        print(f"emofuse: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, from which help, completion and the reference are made."""
    parser = argparse.ArgumentParser(
        prog="emofuse",
        parents=[_common()],
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=16),
        description="Tools around the pipeline. Run them in the project's root folder.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        *(_add_predict, _add_export, _add_track, _add_leaderboard, _add_table, _add_report),
        *(_add_corpus, _add_corpora, _add_encoders, _add_store, _add_doctor, _add_heal, _add_completion),
    ):
        add(commands)
    parser.epilog = "\n".join(("examples:", *_examples(parser), "", END))
    return parser


def _examples(parser: argparse.ArgumentParser) -> Iterator[str]:
    """An example of each command, and of the commands that it has."""
    for command in _choices(parser).values():
        yield str(command.epilog).replace("example: ", "  ")
        yield from _examples(command)


def _common() -> argparse.ArgumentParser:
    """Options that are allowed before and after a command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    return common


def _add(
    commands: Commands, name: str, command: Command, summary: str, text: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with a summary, a description and an example."""
    parser = commands.add_parser(
        name, parents=[_common()], help=summary, description=text, epilog=f"example: {example}"
    )
    parser.set_defaults(command=command)
    return parser


def _add_predict(commands: Commands) -> None:
    parser = _add(
        commands,
        "predict",
        _predict,
        "print the emotions in a recording or a conversation, turn by turn",
        "Print the most likely emotion and all probabilities of each turn. In a sound file, turns are detected and "
        "transcribed; --segments, --diarize or --channels say who speaks. A folder has one sound file per turn, with "
        "an optional transcript of the same name (.txt). A JSON or CSV file has audio, text, speaker, start_s and "
        "end_s for each turn; - reads JSON from standard input. Several conversations are predicted one after "
        "another. Without transcripts the audio network predicts alone and says so, if the model has one that reads "
        "features of sound; without sound the text network does.",
        "emofuse predict talk.wav --html > talk.html",
    )
    parser.add_argument(
        "conversation", type=Path, nargs="+", metavar="CONVERSATION", help="sound file, folder, JSON or CSV file, or -"
    )
    parser.add_argument(
        "--model",
        help="a model's folder (the best seed on dev is used), a bundle's folder, or an address in MLflow's registry, "
        "models:/NAME@ALIAS; default: the project's best model on dev",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, one row per turn")
    form.add_argument("--srt", action="store_true", help="print captions (recordings only)")
    form.add_argument("--html", action="store_true", help="print a page with the sound, emotions over time, and turns")
    parser.add_argument("--link", action="store_true", help="link to the sound file instead of embedding it")
    parser.add_argument(
        "--transcribe",
        metavar="RECOGNISER",
        help="recogniser for turns without text: a folder, or ID@REVISION in the local cache, of a transformers speech "
        "recogniser; or none. Default for turns of recordings: Whisper tiny.en",
    )
    speakers = parser.add_mutually_exclusive_group()
    speakers.add_argument(
        "--segments",
        type=Path,
        metavar="FILE",
        help="the turns of a recording: RTTM, SRT, WebVTT, Audacity labels, TextGrid or WhisperX JSON; for several "
        "recordings, a folder with a file of the same name for each, or one RTTM that names them all",
    )
    speakers.add_argument("--channels", action="store_true", help="treat each channel of a recording as one speaker")
    speakers.add_argument(
        "--diarize",
        metavar="PIPELINE",
        help="find the speakers with a pyannote.audio pipeline, if installed: a folder, or ID@REVISION; its models can "
        "run code, so use only those that you trust",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="predict each turn when it ends: a file is played in real time; - reads 16-bit mono samples at 16 kHz",
    )


def _predict(arguments: argparse.Namespace) -> None:
    from emofuse.core.memory import collector_paused

    with collector_paused():
        from emofuse.inference.command import predict
        from emofuse.tracking.fetch import load

    predict(arguments, load)


def _add_export(commands: Commands) -> None:
    parser = _add(
        commands,
        "export",
        _export,
        "write a trained model as a self-contained folder",
        "Write a bundle: weights, configuration, labels, encoder identities, protocol, scores and a model card. It can "
        "be used without DVC and MLflow. With --mlflow, write a model for `mlflow models serve` that contains it.",
        "emofuse export data/models/demo/whisper-tiny+minilm/hcam hcam-bundle",
    )
    parser.add_argument("model", metavar="MODEL", help="as in emofuse predict --model")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write")
    parser.add_argument("--mlflow", action="store_true", help="write an MLflow model")


def _export(arguments: argparse.Namespace) -> None:
    from emofuse.inference.bundle import write_bundle
    from emofuse.tracking.fetch import find

    bundle = find(arguments.model)
    if arguments.mlflow:
        from emofuse.inference.serving import save

        save(bundle, arguments.folder)
    else:
        write_bundle(bundle, arguments.folder)
    manifest = bundle.manifest
    print(f"{arguments.folder}: {manifest.task}/{manifest.model}, seed {manifest.seed}, fold {manifest.fold}")


def _add_doctor(commands: Commands) -> None:
    _add(
        commands,
        "doctor",
        _doctor,
        "check the installation and say how to fix it",
        "Check Python, torch and torchaudio, the GPU, audio decoders, the encoders in params.yaml, DVC remotes and the "
        "tracker. The exit status is 1 if something does not work.",
        "emofuse doctor",
    )


def _doctor(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.core.memory import collector_paused
    from emofuse.health.doctor import examine

    broken = 0
    with collector_paused():  # most of the time goes into imports
        for finding in examine():
            print(finding, flush=True)
            broken += finding.state == "broken"
    if broken:
        raise RuntimeError(f"{broken} {'thing does' if broken == 1 else 'things do'} not work; see above")


def _add_heal(commands: Commands) -> None:
    _add(
        commands,
        "heal",
        _heal_and_warn,
        "repair the files that a killed DVC left broken",
        "Remove a broken .dvc/tmp/rwlock, and restore a broken dvc.lock from git or remove it. DVC leaves such files "
        "when it is killed or the disk is full, and then fails in every later command. Files that DVC can read, or is "
        "using, are not touched. `make repro` runs this first. It also lists encoders whose local folder changed where "
        "DVC does not watch it.",
        "emofuse heal",
    )


def _heal_and_warn(arguments: argparse.Namespace) -> None:
    from emofuse.core.params import ParamsError
    from emofuse.health.outdated import outdated

    _heal(arguments)
    try:
        for each in outdated():
            print(f"{each}; {each.mend}")
    except ParamsError as error:  # the next command says more
        print(f"Features were not compared with the folders of their encoders: {_one_line(error)}")


def _heal(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.core.dvc_state import find_broken, heal

    for line in heal(Path()):
        print(line)
    broken = find_broken(Path())
    if broken:
        names = " and ".join(map(str, broken))
        raise RuntimeError(f"{names}: broken, but a DVC process holds the lock; end it and run this again")


def _add_completion(commands: Commands) -> None:
    parser = _add(
        commands,
        "completion",
        _completion,
        "print a script for shell completion",
        "Print a script that lets the shell complete commands, options and files.",
        'eval "$(emofuse completion bash)"',
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _completion(arguments: argparse.Namespace) -> None:
    import shtab

    parser = build_parser()
    for command in _choices(parser).values():
        for action in command._actions:
            if action.type is Path or action.dest in ("model", "transcribe"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: command for group in groups for name, command in group.choices.items()}


def _add_track(commands: Commands) -> None:
    parser = _add(
        commands,
        "track",
        _track,
        "add to the MLflow tracker what it lacks",
        "Log trained runs that the MLflow tracker lacks, update runs with new scores, and register each model's best "
        "run on dev as emofuse-<task>-<encoders>-<model>. Nothing is logged twice. The tracker is mlflow.db in this "
        "folder, or the one in MLFLOW_TRACKING_URI. The exit status is 1 if a model cannot be registered because a "
        "file is missing. The last line is the address of the models, sorted by weighted F1 on dev.",
        "dvc pull && emofuse track",
    )
    parser.add_argument("--port", type=int, default=5000, help="port of `make ui` in that address (default: 5000)")


def _track(arguments: argparse.Namespace) -> None:
    _heal(arguments)
    from emofuse.core.params import Params
    from emofuse.tracking.address import TrackingConfig, TrackingError
    from emofuse.tracking.sync import sync

    summary = sync(Path(), Params.load().get("tracking", TrackingConfig))
    for what, names in (("added", summary.added), ("updated", summary.updated)):
        for model, count in Counter(name.partition("/seed-")[0] for name in names).items():
            print(f"{what} {model}: {count} {'run' if count == 1 else 'runs'}")
    for name in summary.registered:
        print(f"registered {name}")
    for reason in summary.refused:
        print(f"not registered {reason}")
    print(summary)
    if summary.view:
        local = f"`make ui`, then http://127.0.0.1:{arguments.port}"
        print(f"view: {summary.tracker if summary.tracker.startswith('http') else local}{summary.view}")
    if summary.refused:
        count = len(summary.refused)
        raise TrackingError(f"{count} {'model was' if count == 1 else 'models were'} not registered; see above")


def _add_table(commands: Commands) -> None:
    parser = _add(
        commands,
        "table",
        _table,
        "print the results of tasks",
        "Print the results in metrics/ of the named tasks, or of the built-in corpus.",
        "emofuse table meld-7 --time",
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="a task of any corpus")
    parser.add_argument("--time", action="store_true", help="add training times from the tracker")


def _table(arguments: argparse.Namespace) -> None:
    from emofuse.core.layout import Layout
    from emofuse.core.params import Params

    params, layout = Params.load(), Layout()
    known = _seconds(params) if arguments.time else None
    for task in arguments.tasks or params.get("run.tasks", list[str]):
        paths = sorted((layout.root / "metrics" / task).glob("*/table.md"))
        if not paths:
            raise FileNotFoundError(
                f"metrics/{task}: no results yet; run `dvc repro`, for other corpora with corpora/NAME/dvc.yaml"
            )
        for path in paths:
            print(f"{task}, {path.parent.name}\n\n{path.read_text(encoding='utf-8')}")
            if known is not None:
                print(_times(path.with_name("scores.json"), task, path.parent.name, known))


def _add_leaderboard(commands: Commands) -> None:
    parser = _add(
        commands,
        "leaderboard",
        _leaderboard,
        "print all results in one table",
        "Print and write a table of all results in metrics/, with intervals and published results, as Markdown and as "
        "a page.",
        "emofuse leaderboard",
    )
    parser.add_argument("--readme", action="store_true", help="update the results in README.md instead")


def _leaderboard(arguments: argparse.Namespace) -> None:
    from emofuse.reporting.leaderboard import write_leaderboard
    from emofuse.reporting.readme import write_results

    if arguments.readme:
        write_results(Path("README.md"), Path("metrics"))
        return
    print(write_leaderboard(Path("metrics")), end="")


def _add_report(commands: Commands) -> None:
    parser = _add(
        commands,
        "report",
        _report,
        "print a task's report with training times and scores under worse conditions",
        "Print the HTML report of a task and a pair of encoders, with training times from the tracker, the commit of "
        "the results, and the scores under worse conditions. It is the report in data/scores/, with the words of the "
        "corpus, or else the one in metrics/. Its links work from the project's root folder.",
        "emofuse report demo > demo.html",
    )
    parser.add_argument("task", metavar="TASK", help="a task of any corpus")
    parser.add_argument("pair", nargs="?", metavar="PAIR", help="AUDIO+TEXT, as in metrics/; default: the first")


def _report(arguments: argparse.Namespace) -> None:
    from emofuse.core.params import Params
    from emofuse.reporting.printed import commit_of, with_known
    from emofuse.reporting.robustness import read_conditions
    from emofuse.tracking.address import TrackingConfig
    from emofuse.tracking.sync import training_seconds

    place = f"{arguments.task}/{arguments.pair or '*'}/report.html"
    pages = [page for folder in ("data/scores", "metrics") for page in sorted(Path(folder).glob(place))]
    if not pages:
        raise FileNotFoundError(f"metrics/{place}: no report yet; run `dvc repro`")
    known = training_seconds(Path(), Params.load().get("tracking", TrackingConfig))
    pair = pages[0].parent.name
    seconds = _of(arguments.task, pair, known)
    commit = commit_of(Path("metrics", arguments.task, pair, "scores.json"))
    worse = list(read_conditions(Path("metrics"), f"{arguments.task}/{pair}"))
    print(with_known(pages[0].read_text(encoding="utf-8"), seconds, commit, worse), end="")


Seconds: TypeAlias = "dict[tuple[str, str, str], float]"


def _seconds(params: "Params") -> Seconds:
    """Training time of a run of each model; empty, with a message, if the tracker cannot be reached."""
    from emofuse.tracking.address import TrackingConfig, TrackingError
    from emofuse.tracking.sync import training_seconds

    try:
        return training_seconds(Path(), params.get("tracking", TrackingConfig))
    except TrackingError as error:
        print(f"Training times are unknown: {_one_line(error)}\n")
        return {}


def _of(task: str, pair: str, known: Seconds) -> dict[str, float]:
    """Training times of a task and a pair of encoders, including models that read one encoder or none."""
    encoders = {pair, *pair.split("+"), "labels"}
    return {model: seconds for (of, named, model), seconds in known.items() if of == task and named in encoders}


def _times(scores: Path, task: str, pair: str, known: Seconds) -> str:
    import json

    from emofuse.reporting.protocol import times_markdown

    seconds = _of(task, pair, known)
    if not seconds:
        return f"The tracker has no training times for {task}.\n"
    return times_markdown(json.loads(scores.read_text(encoding="utf-8")), seconds)


def _add_corpus(commands: Commands) -> None:
    parser = _add(
        commands,
        "corpus",
        _help_of_corpus,
        "add or check a corpus",
        "Add a corpus of your own, or check a corpus before anything is encoded.",
        "emofuse corpus check meld",
    )
    parser.set_defaults(parser=parser)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND")
    new = _add(
        inner,
        "new",
        _corpus_new,
        "add a corpus to corpora/",
        "Read a corpus's table or file names, and write corpora/NAME/ with a parameter file to edit: labels, speakers, "
        "and splits or folds by speaker. The corpus itself is linked into data/raw/.",
        "emofuse corpus new emodb ~/corpora/emodb",
    )
    new.add_argument("name", metavar="NAME", help="letters, digits, hyphens, underscores")
    new.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="folder with utterances.csv, or with sound files named by label",
    )
    new.add_argument(
        "--names", metavar="PATTERN", help="regular expression for the files' paths; see docs/how-to/corpus.md"
    )
    new.add_argument(
        "--folds",
        type=_folds,
        metavar="N",
        help="number of folds in which every speaker is tested once; 1 for a single split (default: 5 if there are few "
        "speakers, else 1)",
    )
    check = _add(
        inner,
        "check",
        _corpus_check,
        "count and check a corpus before anything is encoded",
        "Print the utterances of each task by class and split, labels that belong to no class, defects of the table, "
        "and problems that would stop a later stage. No sound is decoded.",
        "emofuse corpus check emodb",
    )
    check.add_argument("name", metavar="NAME", help="a folder in corpora/, or demo")


def _help_of_corpus(arguments: argparse.Namespace) -> None:
    arguments.parser.print_help()


def _corpus_new(arguments: argparse.Namespace) -> None:
    import re

    from emofuse.core.params import Params, ParamsError
    from emofuse.corpora.propose import propose, write_corpus
    from emofuse.plan import plans

    Params.load()  # or says that this is not the root folder of a project
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", arguments.name):
        raise ParamsError(f"{arguments.name!r}: expected only letters, digits, hyphens and underscores")
    if arguments.name in {plan.corpus for plan in plans()}:
        raise ParamsError(f"{arguments.name!r}: there is already a corpus with this name; choose another")
    proposal = propose(arguments.name, arguments.folder, names=arguments.names, folds=arguments.folds)
    path = write_corpus(proposal, arguments.folder)
    print(f"{path}: written")
    if proposal.scheme is not None:
        print(f"  names     {proposal.scheme.title}")
    for remark in proposal.remarks:
        print(f"  decided   {remark}")
    print(f"  edit      {path}, then `emofuse corpus check {arguments.name}`")
    print(f"  run       dvc repro {path.with_name('dvc.yaml')}")


def _corpus_check(arguments: argparse.Namespace) -> None:
    from emofuse.health.check import check_corpus

    for line in check_corpus(arguments.name):
        print(line)


def _add_corpora(commands: Commands) -> None:
    _add(
        commands,
        "corpora",
        _corpora,
        "list each corpus's owner and files",
        "List who owns each corpus, how to request it, which files are expected where, and which of them are missing. "
        "Nothing is downloaded.",
        "emofuse corpora",
    )


def _corpora(arguments: argparse.Namespace) -> None:
    del arguments
    from typing import Any

    from emofuse.core.params import Params, corpus_files
    from emofuse.corpora.listing import listing

    entries, published = [], set()
    for file in corpus_files():
        params = Params.load(file)
        entry = params.get("corpus", dict[str, Any])
        entries.append(entry)
        encoders = params.get("encoders", dict[str, dict[str, Any]])
        if any(encoders.get(name, {}).get("family") == "published" for name in params.get("run.audio", list[str])):
            published.add(str(entry["name"]))
    print(listing(entries, published))


def _add_encoders(commands: Commands) -> None:
    parser = _add(
        commands,
        "encoders",
        _encoders,
        "list the encoders in the catalogue",
        "List the encoders in params.yaml: parameters in millions, size of a frame, frames per second, licence, "
        "whether the weights have seen emotion labels, and whether they are on this machine. No hub is contacted.",
        "emofuse encoders",
    )
    fetch = _add(
        parser.add_subparsers(title="commands", metavar="COMMAND"),
        "fetch",
        _encoders_fetch,
        "download an encoder into the local cache",
        "Download an encoder into the local cache and load it, for example for cluster nodes without a network.",
        "emofuse encoders fetch wav2vec2-base",
    )
    fetch.add_argument("name", metavar="NAME", help="name in the catalogue")


def _encoders(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.core.params import Params
    from emofuse.encoders.catalogue import catalogue

    rows = [("name", "family", "parameters, M", "size", "frames/s", "licence", "labels", "state")]
    for each in catalogue(Params.load()):
        about, seen = each.config.about, each.config.options.get("labels_seen")
        details = ("", "", "", "")
        if about is not None:
            details = (
                f"{about.parameters:g}",
                str(about.size),
                f"{about.frames:g}" if about.frames else "",
                about.licence,
            )
        rows.append((each.name, each.config.family, *details, "seen" if seen else "unseen", each.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _encoders_fetch(arguments: argparse.Namespace) -> None:
    from emofuse.core.params import Params
    from emofuse.encoders.catalogue import fetch

    encoder = fetch(Params.load(), arguments.name)
    made = encoder.identity
    print(f"{arguments.name}: {made['id']} at {made['revision']}, frames of {encoder.dim}")


def _add_store(commands: Commands) -> None:
    parser = _add(
        commands,
        "store",
        _store,
        "show or prune the store of finished work",
        "Show the contents of the store of finished work, .emofuse/. It can be pruned or deleted at any time; "
        "only time is lost.",
        "emofuse store",
    )
    _add_prune(parser.add_subparsers(title="commands", metavar="COMMAND"))


def _store(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.core.files import readable_size
    from emofuse.core.store import Store

    store = Store()
    sizes = store.sizes()
    for kind, (count, size) in sizes.items():
        print(f"{kind:<10} {count:>6} {'entry  ' if count == 1 else 'entries'} {readable_size(size):>10}")
    total = sum(size for _, size in sizes.values())
    print(f"{store.root}: {readable_size(total)}" if sizes else f"{store.root}: empty")


def _add_prune(commands: Commands) -> None:
    parser = _add(
        commands,
        "prune",
        _prune,
        "remove old entries",
        "Remove entries that no stage has used for some days, and leftovers of killed processes.",
        "emofuse store prune --older-than-days 30",
    )
    parser.add_argument("--older-than-days", type=_days, required=True, metavar="N", help="age; 0 removes everything")


def _prune(arguments: argparse.Namespace) -> None:
    from emofuse.core.files import readable_size
    from emofuse.core.store import Store

    removed, freed = Store().prune(arguments.older_than_days)
    print(f"removed {removed} {'entry' if removed == 1 else 'entries'}, {readable_size(freed)}")


def _folds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of folds, 1 or more")
    return int(text)


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text}: expected a number of days, 0 or more")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
