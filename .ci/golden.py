"""Compare the demo's results as `make repro` made them with those that are committed.

On the kind of processor that the committed ones were made on, every CSV, JSON and Markdown file is the same to the
digit. On others the last bits of sums differ, and training with other last bits is training with another seed:

* the protocol but for versions and digests, and the majority's scores, are the same: no processor rounds them otherwise
* linear models are fitted to their optimum, but their penalty is chosen on dev, where two may be so near that the last
  bits decide: on the demo half a float16 digit of noise took `linear` to the next one in one of three trials, 1.7
  points lower on test; where the penalty stayed no answer changed. Hence :data:`LINEAR`
* two means over n seeds differ by sd * sqrt(2 / n) or less two times of three, and by :data:`TIMES` as much once in
  16,000 times, so that none of some forty comparisons fails by chance. The sd is that of the row, or of all rows
  together where that is larger, since a few seeds may happen to agree
* ensembles are functions of the same predictions and are not compared

Usage: python .ci/golden.py, or with --record before results are committed, which writes the kind of processor down.
"""

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER, RECORD = "metrics/demo", Path("metrics/processor.json")

METRICS = ("accuracy", "weighted_f1", "dev/weighted_f1")

OF_THE_MACHINE = ("cut_off", "provenance")
"""What the protocol says of training and of the versions, which other machines may have otherwise."""

LINEAR = 0.03
"""Most that a score of a linear model may differ by, as a fraction."""

TIMES = 4.0
"""Most standard deviations that two means over seeds may differ by."""

_ROUNDED = 1e-6


def processor() -> dict[str, Any]:
    """Return the kind of this machine: processor, cores, torch's instructions, and Python."""
    import torch

    about = Path("/proc/cpuinfo")
    # Virtual machines hide the name's end, so that several generations of processors share one.
    text = about.read_text() if about.exists() else ""
    lines = re.findall(r"(?:cpu family|model|model name|stepping)\s*: (.*)", text)
    return {
        "name": " ".join(lines[:4]) or platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.backends.cpu.get_cpu_capability(),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def to_the_digit(committed: Mapping[str, str], made: Mapping[str, str]) -> Iterator[str]:
    """Say which files are not the same, by name."""
    for name in sorted({*committed, *made}):
        if committed.get(name) != made.get(name):
            yield f"{name}: not the same to the digit" if name in made else f"{name}: not made"


def within_tolerance(committed: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Say what differs by more than another processor explains, of two ``scores.json``."""
    for key in sorted({*committed["protocol"], *made["protocol"]} - set(OF_THE_MACHINE)):
        before, now = (_without_versions(each["protocol"].get(key)) for each in (committed, made))
        if before != now:
            yield f"protocol.{key}: {now}; committed is {before}"
    old, new = committed["scores"], made["scores"]
    if list(old) != list(new):
        yield f"models: {list(new)}; committed are {list(old)}"
    for metric in METRICS:
        deviations = [rows[metric]["sd"] for rows in old.values() if metric in rows and rows[metric]["sd"] is not None]
        usual = math.sqrt(sum(each**2 for each in deviations) / max(len(deviations), 1))
        for model in (name for name in old if name in new and metric in old[name] and not name.endswith("/ensemble")):
            most, row = _most(model, old[model][metric], usual), old[model][metric]
            difference = new[model][metric]["mean"] - row["mean"]
            if abs(difference) > most + _ROUNDED:
                yield f"{model}, {metric}: {100 * difference:+.2f} points; {100 * most:.2f} are allowed"


def _without_versions(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_versions(each) for name, each in value.items() if name != "versions"}


def _most(model: str, row: Mapping[str, Any], usual: float) -> float:
    if row["sd"] is None:
        return 0.0 if model == "majority" else LINEAR
    return TIMES * max(row["sd"], usual) * math.sqrt(2 / row["n_runs"])


def main() -> int:
    """Return the exit status: 0 if the results come again."""
    here = processor()
    if "--record" in sys.argv[1:]:
        RECORD.write_text(json.dumps(here, indent=2) + "\n")
        return 0
    listed = _git("ls-files", FOLDER).split()
    names = [name for name in listed if name.endswith((".csv", ".json", ".md"))]
    committed = {name: _git("show", f"HEAD:{name}") for name in names}
    made = {name: Path(name).read_text(encoding="utf-8") for name in names if Path(name).exists()}
    same = RECORD.exists() and json.loads(RECORD.read_text()) == here
    if same:
        faults = list(to_the_digit(committed, made))
    else:
        scores = [name for name in made if name.endswith("/scores.json")]
        pairs = [(json.loads(committed[name]), json.loads(made[name])) for name in scores]
        faults = [fault for pair in pairs for fault in within_tolerance(*pair)] if pairs else ["no scores were made"]
    how = "to the digit" if same else "within the tolerance for another kind of processor"
    print(*faults, f"{FOLDER}: {'differs' if faults else 'comes again'}, compared {how} ({here['name']})", sep="\n")
    return int(bool(faults))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


if __name__ == "__main__":
    sys.exit(main())
