"""The ``emofuse`` command: what is done beside the pipeline's stages, from the project's root folder."""

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

# Nothing heavy is imported up here, so that help is there at once.

__all__ = ["build_parser", "main"]

Command = Callable[[argparse.Namespace], None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

END = """exit status:
  0 done, 1 an error, shown in one line (--debug shows where), 2 wrong use, 130 interrupted

environment:
  EMOFUSE_DEBUG=1      like --debug; of the pipeline's stages, too: EMOFUSE_DEBUG=1 dvc repro
  MLFLOW_TRACKING_URI  the tracker; without it mlflow.db in the project's root folder"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error, 2 for a wrong use, 130 when interrupted.

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
        # Whoever read has had enough, such as `head`; what Python still holds goes nowhere.
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
        description="What is done beside the pipeline's stages. Run it in the project's root folder.",
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
    """What may stand before and after a command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where in the code an error comes from"
    )
    return common


def _add(
    commands: Commands, name: str, command: Command, summary: str, text: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with its line in the list of all, a description and an example."""
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
        "print the emotions of a recording or a conversation, turn by turn",
        "Print for each turn the likeliest emotion and all probabilities. In a sound file the turns are found and the "
        "words written down; speakers come from --segments, --diarize or --channels. A folder has a sound file for "
        "each turn, each with a transcript of the same name (.txt) if there is one; a JSON or CSV file has audio, "
        "text, speaker, start_s and end_s for each turn, and - is JSON on standard input. Several are answered one "
        "after another. Without transcripts the audio network answers alone and says so, if the model has one and its "
        "features are computed from sound; without sound the text network does.",
        "emofuse predict talk.wav --html > talk.html",
    )
    parser.add_argument(
        "conversation", type=Path, nargs="+", metavar="CONVERSATION", help="sound file, folder, JSON or CSV file, or -"
    )
    parser.add_argument(
        "--model",
        help="a model's folder, of whose seeds the best on dev is taken; a bundle's folder; or an address in MLflow's "
        "registry, models:/NAME@ALIAS; by default the project's best model on dev",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, a row a turn")
    form.add_argument("--srt", action="store_true", help="print captions, for a recording")
    form.add_argument("--html", action="store_true", help="print a page: sound, emotions over time, turns")
    parser.add_argument("--link", action="store_true", help="have the page refer to the sound, not carry it")
    parser.add_argument(
        "--transcribe",
        metavar="RECOGNISER",
        help="transcribe turns without text: a transformers speech recogniser, a folder or, in the cache, ID@REVISION; "
        "or none. By default the words of a recording without any are written down by Whisper tiny.en",
    )
    speakers = parser.add_mutually_exclusive_group()
    speakers.add_argument(
        "--segments",
        type=Path,
        metavar="FILE",
        help="who speaks when, and what, of a recording: RTTM, SRT, WebVTT, Audacity labels, TextGrid, WhisperX JSON",
    )
    speakers.add_argument("--channels", action="store_true", help="each channel of a recording is a speaker")
    speakers.add_argument(
        "--diarize", metavar="PIPELINE", help="find who speaks when with a pipeline of pyannote.audio, if it is there"
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="answer each turn as it ends: of a file at the speed of speech; of 16-bit mono samples at 16 kHz with -",
    )


def _predict(arguments: argparse.Namespace) -> None:
    from emofuse.core.collector import collector_paused

    with collector_paused():
        from emofuse.inference.command import predict
        from emofuse.tracking.fetch import load

    predict(arguments, load)


def _add_export(commands: Commands) -> None:
    parser = _add(
        commands,
        "export",
        _export,
        "write a trained model as a folder that is used anywhere",
        "Write a bundle: weights, configuration, labels, encoder identities, protocol, scores and a model card. Using "
        "it needs no DVC and no MLflow. With --mlflow, write a model for `mlflow models serve` that has it inside.",
        "emofuse export data/models/demo/whisper-tiny+minilm/hcam hcam-bundle",
    )
    parser.add_argument("model", metavar="MODEL", help="as in emofuse predict --model")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to")
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
        "check the installation, and say how to mend it",
        "Check Python, torch and torchaudio, the GPU, sound decoders, the encoders of params.yaml, DVC remotes and the "
        "tracker. The exit status is 1 if something does not work.",
        "emofuse doctor",
    )


def _doctor(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.health.doctor import examine

    broken = 0
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
        "mend what a killed DVC left broken",
        "Take away an empty .dvc/tmp/rwlock, and take a cut-off dvc.lock from git, or away. A DVC that was killed, or "
        "had no room on the disk, leaves them so, and every later command of DVC falls over them. `make repro` does it "
        "first. Nothing but what DVC cannot read is touched, and nothing while a DVC is at work on it. Features of a "
        "model in a local folder whose files have changed, which DVC does not see, are named with what mends them.",
        "emofuse heal",
    )


def _heal_and_warn(arguments: argparse.Namespace) -> None:
    from emofuse.core.params import ParamsError
    from emofuse.health.outdated import outdated

    _heal(arguments)
    try:
        for each in outdated():
            print(f"{each}; {each.mend}")
    except ParamsError as error:  # of which whatever is run next says more
        print(f"Features are not compared with their encoders' folders: {_one_line(error)}")


def _heal(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.core.dvc_state import find_broken, heal

    for line in heal(Path()):
        print(line)
    broken = find_broken(Path())
    if broken:
        names = " and ".join(map(str, broken))
        raise RuntimeError(f"{names}: broken, and a process of DVC holds the lock; end it, and run this again")


def _add_completion(commands: Commands) -> None:
    parser = _add(
        commands,
        "completion",
        _completion,
        "print a script that completes commands in a shell",
        "Print a script that makes the shell complete commands, options and files.",
        'eval "$(emofuse completion bash)"',
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell")


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
        "bring the MLflow tracker in line with what is on disk",
        "Log the trained runs that the MLflow tracker lacks, update those whose scores have changed, and register of "
        "each model the run that is best on dev, as emofuse-<task>-<model>, an ablation's slash a hyphen. Nothing is "
        "logged twice. The tracker is mlflow.db in this folder, or the one that MLFLOW_TRACKING_URI names. The exit "
        "status is 1 if a model could not be registered because something that it needs is not on disk. The address "
        "that is printed last opens MLflow's page with the models sorted by weighted F1 on dev.",
        "dvc pull && emofuse track",
    )
    parser.add_argument("--port", type=int, default=5000, help="of `make ui`, for that address (default: 5000)")


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
        "print results tables",
        "Print the results tables in metrics/, of the tasks that are named, or of the embedded corpus.",
        "emofuse table meld-7 --time",
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="a task of any corpus")
    parser.add_argument(
        "--time", action="store_true", help="add how long training took, beside the scores, from the tracker"
    )


def _table(arguments: argparse.Namespace) -> None:
    from emofuse.core.layout import Layout
    from emofuse.core.params import Params

    params, layout = Params.load(), Layout()
    known = _seconds(params) if arguments.time else None
    for task in arguments.tasks or params.get("run.tasks", list[str]):
        paths = sorted((layout.root / "metrics" / task).glob("*/table.md"))
        if not paths:
            raise FileNotFoundError(
                f"metrics/{task}: no results yet; run `dvc repro`, of another corpus with its dvc.yaml"
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
        "put all results side by side",
        "Write one page and one Markdown table of all results in metrics/: encoders, models and tasks with intervals, "
        "and what others have published beside them. Or bring the results in README.md up to date, a cut of it.",
        "emofuse leaderboard",
    )
    parser.add_argument("--readme", action="store_true", help="write the results into README.md instead")


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
        "print a task's page with training times and scores under worse conditions",
        "Print the page of a task and a pair of encoders, to look at in a browser from the project's root folder, with "
        "training times from the tracker, the commit that has the results, and the scores under worse conditions: the "
        "page in data/scores/ with the words of the corpus, or else the one in metrics/.",
        "emofuse report demo > demo.html",
    )
    parser.add_argument("task", metavar="TASK", help="a task of any corpus")
    parser.add_argument("pair", nargs="?", metavar="PAIR", help="encoders, as in metrics/; by default the first")


def _report(arguments: argparse.Namespace) -> None:
    from emofuse.core.params import Params
    from emofuse.reporting.provenance import commit_of
    from emofuse.reporting.report import with_known
    from emofuse.reporting.robustness import read_conditions
    from emofuse.tracking.address import TrackingConfig
    from emofuse.tracking.sync import training_seconds

    place = f"{arguments.task}/{arguments.pair or '*'}/report.html"
    pages = [page for folder in ("data/scores", "metrics") for page in sorted(Path(folder).glob(place))]
    if not pages:
        raise FileNotFoundError(f"metrics/{place}: not there yet; run `dvc repro`")
    known = training_seconds(Path(), Params.load().get("tracking", TrackingConfig))
    pair = pages[0].parent.name
    seconds = _of(arguments.task, pair, known)
    commit = commit_of(Path("metrics", arguments.task, pair, "scores.json"))
    worse = list(read_conditions(Path("metrics"), f"{arguments.task}/{pair}"))
    print(with_known(pages[0].read_text(encoding="utf-8"), seconds, commit, worse), end="")


Seconds: TypeAlias = "dict[tuple[str, str, str], float]"


def _seconds(params: "Params") -> Seconds:
    """How long a run of each model took to train; none, and a line that says why, where the tracker cannot be asked."""
    from emofuse.tracking.address import TrackingConfig, TrackingError
    from emofuse.tracking.sync import training_seconds

    try:
        return training_seconds(Path(), params.get("tracking", TrackingConfig))
    except TrackingError as error:
        print(f"Training times are not known: {_one_line(error)}\n")
        return {}


def _of(task: str, pair: str, known: Seconds) -> dict[str, float]:
    """Of a task and a pair: the models of both encoders, of either, or of none."""
    encoders = {pair, *pair.split("+"), "labels"}
    return {model: seconds for (of, named, model), seconds in known.items() if of == task and named in encoders}


def _times(scores: Path, task: str, pair: str, known: Seconds) -> str:
    import json

    from emofuse.reporting.protocol import times_markdown

    seconds = _of(task, pair, known)
    if not seconds:
        return f"The tracker has no training times of {task}.\n"
    return times_markdown(json.loads(scores.read_text(encoding="utf-8")), seconds)


def _add_corpus(commands: Commands) -> None:
    parser = _add(
        commands,
        "corpus",
        _help_of_corpus,
        "begin with a corpus of one's own, or check one",
        "Begin with a corpus of one's own, or check one before anything is encoded.",
        "emofuse corpus check meld",
    )
    parser.set_defaults(parser=parser)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND")
    new = _add(
        inner,
        "new",
        _corpus_new,
        "make the folder of a corpus in corpora/",
        "Read a corpus's table, or its files' names, and write corpora/NAME/ with a parameter file to edit: labels, "
        "speakers, splits or folds by speakers. The corpus itself is linked into data/raw/.",
        "emofuse corpus new emodb ~/corpora/emodb",
    )
    new.add_argument("name", metavar="NAME", help="letters, digits, hyphens, underscores")
    new.add_argument(
        "folder", type=Path, metavar="FOLDER", help="has utterances.csv, or sound files with telling names"
    )
    new.add_argument("--names", metavar="PATTERN", help="regular expression of the files' paths: docs/how-to/corpus.md")
    new.add_argument(
        "--folds",
        type=_folds,
        metavar="N",
        help="every speaker is test once, in N folds; 1: some of them once and for all (default: 5 with few speakers)",
    )
    check = _add(
        inner,
        "check",
        _corpus_check,
        "count and check a corpus, before anything is encoded",
        "Print the counts of each task by class and split, labels that no class takes, defects of the table, and what "
        "would stop a later stage. No sound is decoded.",
        "emofuse corpus check emodb",
    )
    check.add_argument("name", metavar="NAME", help="of a folder in corpora/, or demo")


def _help_of_corpus(arguments: argparse.Namespace) -> None:
    arguments.parser.print_help()


def _corpus_new(arguments: argparse.Namespace) -> None:
    import re

    from emofuse.core.params import Params, ParamsError
    from emofuse.corpora.new import propose, write_corpus
    from emofuse.plan import plans

    Params.load()  # This is the root folder of a project, or the message says so.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", arguments.name):
        raise ParamsError(f"{arguments.name!r}: a corpus's name has letters, digits, hyphens and underscores alone")
    if arguments.name in {plan.corpus for plan in plans()}:
        raise ParamsError(f"{arguments.name!r}: there is a corpus of that name; choose another")
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

    print(check_corpus(arguments.name))


def _add_corpora(commands: Commands) -> None:
    _add(
        commands,
        "corpora",
        _corpora,
        "list what of each corpus is expected, there, missing",
        "Say for each corpus who owns it, how it is asked for, which files are expected where, which of them are there "
        "and which are missing. Nothing is downloaded.",
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
        "list the encoders of the catalogue",
        "List the encoders of params.yaml: millions of parameters, size of a frame, frames a second, licence, whether "
        "the weights have seen emotion labels, and whether they are on this machine. No hub is asked.",
        "emofuse encoders",
    )
    fetch = _add(
        parser.add_subparsers(title="commands", metavar="COMMAND"),
        "fetch",
        _encoders_fetch,
        "bring an encoder into the local cache",
        "Bring an encoder into the local cache and load it, such as for machines of a cluster that have no network.",
        "emofuse encoders fetch wav2vec2-base",
    )
    fetch.add_argument("name", metavar="NAME", help="of the catalogue")


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
        "Show what the store of finished work in .emofuse/ holds. It may be pruned or deleted at any time: nothing but "
        "time is lost.",
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
        "remove what was not used for long",
        "Remove what no stage has used for some days, and what killed processes left behind.",
        "emofuse store prune --older-than-days 30",
    )
    parser.add_argument("--older-than-days", type=_days, required=True, metavar="N", help="0 removes all")


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
