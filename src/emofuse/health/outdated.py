"""Encoders whose local folder has changed without DVC noticing, since it is not where DVC watches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emofuse.core.layout import Layout
from emofuse.core.params import ROOT_FILE, Params
from emofuse.encoders.local import FOLDER, folder_digest, is_watched, local_folder, read_digest
from emofuse.plan import plans

__all__ = ["Outdated", "outdated"]


@dataclass(frozen=True)
class Outdated:
    """An encoder whose features were made from other files than its folder now holds.

    Attributes:
        folder: of the weights
        encoder: name of the encoder in the catalogue
        corpus: whose features these are
        stage: that digests the folder, as DVC names it
    """

    folder: Path
    encoder: str
    corpus: str
    stage: str

    @property
    def mend(self) -> str:
        """The commands that encode anew; ``dvc repro`` alone sees no change."""
        graph, colon, _ = self.stage.rpartition(":")
        return f"`dvc repro -f -s {self.stage}`, then `dvc repro{f' {graph}' if colon else ''}`"

    def __str__(self) -> str:
        return (
            f"{self.folder} has changed since {self.corpus} was encoded with {self.encoder}, which DVC does not notice "
            f"outside {FOLDER}"
        )


def outdated(root: Path = Path()) -> Iterator[Outdated]:
    """Yield the encoders, of any corpus, whose folder DVC does not watch and has other files now; files are hashed.

    Raises:
        ParamsError: the parameters are wrong
    """
    for plan in plans(root):
        params, file = Params.load(plan.file, root), Path(plan.file)
        graph = "" if file == ROOT_FILE else f"{file.with_name('dvc.yaml').as_posix()}:"
        for name in (*plan.run.audio, *plan.run.text):
            folder, made = local_folder(params, name), read_digest(Layout(root).digest(plan.corpus, name))
            if folder is None or made is None or is_watched(folder, params.shared.parent):
                continue
            if folder_digest(folder, made) != made:
                yield Outdated(folder, name, plan.corpus, f"{graph}weights-{plan.modality(name)}@{name}")
