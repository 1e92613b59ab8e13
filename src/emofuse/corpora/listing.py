"""Owner, expected files and missing files of each corpus. Nothing is downloaded."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emofuse.core.names import readable
from emofuse.corpora.folder import AUDIO_ENDINGS, is_hidden, is_sound, linked_folders, strange_names

__all__ = ["KNOWN", "Known", "Part", "listing", "terms_of"]


@dataclass(frozen=True)
class Part:
    """Files that belong together.

    Attributes:
        what: what they are
        patterns: where they are, below the corpus's folder; each pattern is one way to have them
        files: how many there are in the full corpus, or None if that is not fixed
        optional: whether a corpus works without them
        gives: the audio features that it does not work without them for: computed from sound, or published
    """

    what: str
    patterns: tuple[str, ...]
    files: int | None = None
    optional: bool = False
    gives: Literal["sound", "published"] | None = None

    def needed(self, source: str) -> bool:
        """Whether a corpus whose audio features come from ``source`` needs them."""
        return not self.optional and self.gives in (None, source)


@dataclass(frozen=True)
class Known:
    """A corpus that there is a reader for.

    Attributes:
        title: its full name
        owner: who has it
        request: how it is asked for
        parts: its files
    """

    title: str
    owner: str
    request: str
    parts: tuple[Part, ...]


_ANY_SOUND = "**/*"
"""Stands for sound files of any ending in any folder."""

_SHOWN = 6
"""Endings, and names that are refused, of which there is a line."""

_SESSION = ("Session?/", "*/Session?/", "*/*/Session?/")

KNOWN = {
    "iemocap": Known(
        "IEMOCAP, the interactive emotional dyadic motion capture database",
        "SAIL, University of Southern California",
        "the IEMOCAP release form, https://sail.usc.edu/iemocap/iemocap_release.htm",
        (
            Part("labels and times", tuple(f"{each}dialog/EmoEvaluation/Ses*.txt" for each in _SESSION), 151),
            Part("transcripts", tuple(f"{each}dialog/transcriptions/Ses*.txt" for each in _SESSION), 151),
            Part("sound", tuple(f"{each}sentences/wav/*/*.wav" for each in _SESSION), 10_039),
        ),
    ),
    "meld": Known(
        "MELD, the multimodal EmotionLines dataset",
        "the MELD project, https://github.com/declare-lab/MELD",
        "no form; MELD.Raw.tar.gz is linked on the project's page",
        (
            Part("transcripts", ("*_sent_emo.csv", "*/*_sent_emo.csv", "*/*/*_sent_emo.csv", "MELD.Raw.tar.gz"), 3),
            Part(
                "clips",
                ("*/dia*_utt*.*", "*/*/dia*_utt*.*", "*/*/*/dia*_utt*.*", "*.tar.gz", "*/*.tar.gz"),
                gives="sound",
            ),
            Part("prosody that others published", ("meld_*_audio_features.csv",), 3, gives="published"),
        ),
    ),
    "mosi": Known(
        "CMU-MOSI, the multimodal corpus of sentiment intensity",
        "MultiComp Lab, Carnegie Mellon University",
        "no form known to us; the CMU multimodal SDK, http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
        (
            Part("labels", ("mosi_utterances.csv", "label.csv", "Raw/Labels/OpinionLevelSentiment.csv"), 1),
            Part(
                "transcripts of the owner's layout", ("Raw/Transcript/Segmented/*.annotprocessed",), 93, optional=True
            ),
            Part("sound", ("Raw/Audio/WAV_16000/Segmented/*.wav", "Raw/*/*.mp4"), 2_199, gives="sound"),
            Part("openSMILE values that others published", ("mosi_audio_opensmile73.csv",), 1, gives="published"),
        ),
    ),
    "own": Known(
        "a corpus of your own",
        "you",
        "docs/how-to/corpus.md says how to lay it out",
        (
            Part("table", ("utterances.csv", "utterances.parquet"), 1),
            Part("sound", (_ANY_SOUND,), optional=True),
        ),
    ),
}
"""By reader. The demo corpus makes its own sound and needs no files."""


def terms_of(reader: str) -> str:
    """Return whose terms a corpus of that reader falls under, and all that is made of it, as far as it is known."""
    if reader == "demo":
        return "this project's own, MIT"
    if reader == "own":
        return "those of the corpus's owner, whom corpus.terms can name"
    return f"{KNOWN[reader].owner}: {KNOWN[reader].request}"


def listing(entries: Sequence[Mapping[str, Any]], published: Collection[str], raw: Path = Path("data/raw")) -> str:
    """Say for each corpus what is expected where, what is there, and what is missing.

    Args:
        entries: the sections ``corpus`` of all corpora of the project
        published: names of the corpora whose audio features are values that others published
        raw: where a corpus without an entry is expected
    """
    blocks = []
    for reader in KNOWN:
        mine = [entry for entry in entries if entry.get("reader") == reader]
        for each in mine:
            name = str(each["name"])
            blocks.append(_corpus(name, reader, Path(str(each.get("source", raw / name))), each, name in published))
        if not mine:
            folder = raw / ("<your corpus>" if reader == "own" else reader)
            blocks.append(_corpus(reader, reader, folder, None, False))
    return "\n\n".join("\n".join(block) for block in blocks)


def _corpus(name: str, reader: str, folder: Path, entry: Mapping[str, Any] | None, published: bool) -> Iterator[str]:
    known = KNOWN[reader]
    there = folder.is_dir()
    source = "published" if published else "sound"
    yield f"{name}: {known.title}"
    yield f"  owner     {known.owner}"
    yield f"  request   {known.request}"
    yield f"  folder    {folder}{'' if there else '  (not there: put the corpus or a link to it here)'}"
    if entry is None:
        yield "  params    no corpus of this project is read so; `emofuse corpus new NAME FOLDER` makes one"
    else:
        yield f"  run       dvc repro corpora/{name}/dvc.yaml"
    if any(part.gives == "published" for part in known.parts):
        hint = "computed from its sound; docs/how-to/encoders.md says how to take those that others published"
        yield f"  features  audio features are {'values that others published' if published else hint}"
    for link in linked_folders(folder) if there else []:
        yield f"  REFUSED   {link}: a link to a folder, which DVC does not follow"
    for path in strange_names(folder)[:_SHOWN] if there else []:
        yield f"  REFUSED   {readable(path)}: a name that is no UTF-8, which DVC cannot track"
    for part in known.parts:
        if part.what == "table" and "names" in ((entry or {}).get("options") or {}):
            continue  # the files' names are the table
        needed = part.needed(source)
        yield f"  {_part(part, needed, folder) if there else _expected(part, needed)}"


def _expected(part: Part, needed: bool) -> str:
    return f"{'expected' if needed else 'optional':<8}  {part.what}: {_where(part)}"


def _part(part: Part, needed: bool, folder: Path) -> str:
    # What lies loose may be spread over all the ways; an archive counts where nothing does.
    counts = {pattern: _count(folder, pattern) for pattern in part.patterns}
    hits = [pattern for pattern, count in counts.items() if count]
    chosen = [each for each in hits if not _packed(each)] or hits
    if not chosen:
        return f"{'MISSING' if needed else 'absent':<8}  {part.what}: {_where(part)}"
    found = sum(counts[each] for each in chosen)
    whole = part.files is None or found >= part.files or _packed(chosen[0])
    count = f"{found:,} files" if part.files is None or whole else f"{found:,} of {part.files:,} files"
    where = "any folder" if chosen[0] == _ANY_SOUND else " and ".join(chosen)
    return f"{'there' if whole else 'PARTLY':<8}  {part.what}: {count if found > 1 else '1 file'}, {where}"


def _packed(pattern: str) -> bool:
    return pattern.endswith(".tar.gz")


def _count(folder: Path, pattern: str) -> int:
    paths = (path for path in folder.glob(pattern) if not is_hidden(path, folder))
    return sum(is_sound(path) for path in paths) if pattern == _ANY_SOUND else sum(1 for _ in paths)


def _where(part: Part) -> str:
    if part.patterns[0] == _ANY_SOUND:
        return f"in any folder, whatever the ending; such as {' '.join(AUDIO_ENDINGS[:_SHOWN])}"
    files = "" if part.files is None or part.files == 1 else f"{part.files:,} files "
    return files + " or ".join(part.patterns)
