"""The ``emofuse`` command: what is done beside the pipeline's stages, from the project's root folder."""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.params import Params

# Nothing heavy is imported up here, so that help is there at once.

__all__ = ["main"]

Command = Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error, 2 for a wrong use, 130 when interrupted.

    Args:
        argv: the arguments, those of the process by default
    """
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        command(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if "debug" in arguments or os.environ.get("EMOFUSE_DEBUG"):
            raise
        print(f"emofuse: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where in the code an error comes from"
    )
    parser = _described(
        argparse.ArgumentParser(prog="emofuse", parents=[common]),
        "What is done beside the pipeline's stages. Run it in the project's root folder.",
        "emofuse track",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    track = _described(
        commands.add_parser("track", parents=[common], help="bring the MLflow tracker in line with what is on disk"),
        "Log the trained runs that the MLflow tracker lacks, and update those whose scores have changed. Nothing is "
        "logged twice. The tracker is mlflow.db in this folder, or the one that MLFLOW_TRACKING_URI names.",
        "dvc pull && emofuse track",
    )
    track.set_defaults(command=_track)
    table = _described(
        commands.add_parser("table", parents=[common], help="print the results tables"),
        "Print the results table of every task that params.yaml names, from metrics/; or bring the results that are in "
        "README.md up to date.",
        "emofuse table --time",
    )
    table.add_argument("--time", action="store_true", help="add how long training took, from the tracker")
    table.add_argument("--readme", action="store_true", help="write the results into README.md instead")
    table.set_defaults(command=_table)
    corpora = _described(
        commands.add_parser("corpora", parents=[common], help="list what of each corpus is expected, there, missing"),
        "Say for each corpus who owns it, how it is asked for, which files are expected where, which of them are there "
        "and which are missing. Nothing is downloaded.",
        "emofuse corpora",
    )
    corpora.set_defaults(command=_corpora)
    store = _described(
        commands.add_parser("store", parents=[common], help="show or prune the store of finished work"),
        "Show what the store of finished work in .emofuse/ holds. It may be pruned or deleted at any time: nothing but "
        "time is lost.",
        "emofuse store",
    )
    store.set_defaults(command=_store)
    prune = _described(
        store.add_subparsers(title="commands", metavar="COMMAND").add_parser(
            "prune", parents=[common], help="remove what was not used for long"
        ),
        "Remove what no stage has used for some days, and what killed processes left behind.",
        "emofuse store prune --older-than-days 30",
    )
    prune.add_argument("--older-than-days", type=_days, required=True, metavar="N", help="0 removes all")
    prune.set_defaults(command=_prune)
    return parser


def _described(parser: argparse.ArgumentParser, text: str, example: str) -> argparse.ArgumentParser:
    """Give a command its description and an example."""
    parser.description = text
    parser.epilog = f"example: {example}"
    return parser


def _track(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.params import Params
    from emofuse.tracking import TrackingConfig, sync

    summary = sync(Path(), Params.load().get("tracking", TrackingConfig))
    for what, names in (("added", summary.added), ("updated", summary.updated)):
        for model, count in Counter(name.partition("/seed-")[0] for name in names).items():
            print(f"{what} {model}: {count} {'run' if count == 1 else 'runs'}")
    print(summary)


def _table(arguments: argparse.Namespace) -> None:
    from typing import Any

    from emofuse.params import Params
    from emofuse.scoring.readme import write_results

    if arguments.readme:
        write_results(Path("README.md"), Path("metrics"))
        return
    params = Params.load()
    for task in params.get("tasks", dict[str, Any]):
        path = Path("metrics") / task / "table.md"
        if not path.exists():
            raise FileNotFoundError(f"{path}: not there yet; run `dvc repro`")
        print(f"{task}\n\n{path.read_text(encoding='utf-8')}")
    if arguments.time:
        print(_times(params))


def _times(params: "Params") -> str:
    """How long a run of each model took to train; why not, where the tracker cannot be asked."""
    from emofuse.scoring import in_order
    from emofuse.tracking import TrackingConfig, TrackingError, training_seconds

    try:
        seconds = training_seconds(Path(), params.get("tracking", TrackingConfig))
    except TrackingError as error:
        return f"Training times are not known: {_one_line(error)}"
    if not seconds:
        return "The tracker has no training times."
    lines = [
        f"| {task} | {model} | {seconds[task, model]:.1f} |"
        for task in sorted({task for task, _ in seconds})
        for model in in_order([model for of, model in seconds if of == task])
    ]
    return "\n".join(["| Task | Model | Seconds to train a run, from the tracker |", "| --- | --- | ---: |", *lines])


def _corpora(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.corpora.listing import listing
    from emofuse.params import Params

    print(listing(Params.load()))


def _store(arguments: argparse.Namespace) -> None:
    del arguments
    from emofuse.files import readable_size
    from emofuse.store import Store

    store = Store()
    sizes = store.sizes()
    for kind, (count, size) in sizes.items():
        print(f"{kind:<10} {count:>6} {'entry  ' if count == 1 else 'entries'} {readable_size(size):>10}")
    total = sum(size for _, size in sizes.values())
    print(f"{store.root}: {readable_size(total)}" if sizes else f"{store.root}: empty")


def _prune(arguments: argparse.Namespace) -> None:
    from emofuse.files import readable_size
    from emofuse.store import Store

    removed, freed = Store().prune(arguments.older_than_days)
    print(f"removed {removed} {'entry' if removed == 1 else 'entries'}, {readable_size(freed)}")


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
