"""Outdated features of local encoders: DVC compares their parameters, not their files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emofuse.core.layout import Layout
from emofuse.core.params import ROOT_FILE, Params
from emofuse.features.shards import FeatureError, metadata
from emofuse.plan import Plan, plans

__all__ = ["Outdated", "outdated"]

_SAYS_WHICH = ("id", "revision", "weights")
"""What of an encoder's identity its folder alone decides; DVC compares the rest, options and code."""


@dataclass(frozen=True)
class Outdated:
    """Features that their encoder's folder would not give any more.

    Attributes:
        folder: of the features
        model: folder of the encoder, as the parameters name it
        stage: that makes the features, as DVC names it
    """

    folder: Path
    model: str
    stage: str

    @property
    def mend(self) -> str:
        """The command that encodes anew; of a plain ``dvc repro`` the cached features come back."""
        graph, colon, _ = self.stage.rpartition(":")
        return f"`dvc repro -f -s {self.stage}`, then `dvc repro{f' {graph}' if colon else ''}`"

    def __str__(self) -> str:
        return f"{self.folder}: made before the files in {self.model} changed, which DVC does not notice"


def outdated(root: Path = Path()) -> Iterator[Outdated]:
    """Yield the features, of any corpus, of a local folder that holds other files now; files are hashed.

    Raises:
        ParamsError: the parameters are wrong
    """
    shared, layout = Params.load(root=root), Layout(root)
    options: dict[str, Any] = {
        name: entry.get("options") or {} for name, entry in shared.get("encoders", dict[str, dict[str, Any]]).items()
    }
    for plan in plans(root):
        for name, folder, stage in _extracted(plan, layout):
            model = options[name].get("model")
            if model is not None and (root / str(model)).is_dir() and _differs(root / str(model), folder):
                yield Outdated(folder, str(model), stage)


def _extracted(plan: Plan, layout: Layout) -> Iterator[tuple[str, Path, str]]:
    """Yield for all features of a corpus their encoder, their folder, and the stage that makes them."""
    file = Path(plan.file)
    graph = "" if file == ROOT_FILE else f"{file.with_name('dvc.yaml').as_posix()}:"
    run, conditions = plan.run, plan.run.conditions
    for modality, names, worse in (("audio", run.audio, conditions.audio), ("text", run.text, conditions.text)):
        for name in names:
            yield name, layout.features(plan.corpus, name), f"{graph}extract-{modality}@{name}"
            for condition in worse:
                folder = layout.corrupted(plan.corpus, condition, name)
                yield name, folder, f"{graph}corrupt-{modality}@{condition}-{name}"
            for condition in conditions.both:
                folder = layout.corrupted(plan.corpus, condition, name)
                yield name, folder, f"{graph}corrupt-both-{modality}@{condition}-{name}"


def _differs(model: Path, features: Path) -> bool:
    """Whether features are of other files; not of what cannot be read, which is reported where it is used."""
    # Imported here, since it imports torch, and few projects have such a folder.
    from emofuse.encoders import EncoderError
    from emofuse.encoders.sources import locate

    try:
        made, now = metadata(features), locate(str(model)).identity
    except (FeatureError, EncoderError):
        return False
    return any(made.get(key) != now[key] for key in _SAYS_WHICH)
