"""IEMOCAP, the interactive emotional dyadic motion capture database (Busso et al. 2008, LREV 42, 335-359).

Owner: SAIL, University of Southern California; free for research under its licence, by the release form at
https://sail.usc.edu/iemocap/iemocap_release.htm. The full release and the one without video have this layout::

    IEMOCAP_full_release/Session{1..5}/
        dialog/EmoEvaluation/<dialogue>.txt     what counts as an utterance, its time, label and ratings:
                                                `[6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5, 2.5, 2.5]`
                                                with each annotator's own judgement in the lines below it
        dialog/transcriptions/<dialogue>.txt    `Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.`
        sentences/wav/<dialogue>/<utterance>.wav

The source may be that folder, or one up to two levels above it such as `IEMOCAP_full_release_withoutVideos`.
10,039 utterances in 151 dialogues of ten speakers.

* Labels are the majority's, unmapped: ang, dis, exc, fea, fru, hap, neu, oth, sad, sur, and xxx where the annotators
  did not agree. A task's label map leaves out what it does not want; those turns remain as context.
* The speaker is the session and the letter at the end of the utterance's id. The letter in the dialogue's name tells
  who wears the motion capture markers, and both speak in every dialogue.
* Turns are in the order of their start times; turns that overlap in time are both kept, with the times as they are.
* Transcripts have lines beyond the evaluated utterances: turns with an id in XX (such as `Ses01F_impro01_FXX0`) and
  overlapping speech without id or time (`M: [LAUGHTER]`). They have no sound of their own and no label, so they are
  no utterances; a note counts them.
* Valence, activation and dominance, the annotators' means from 1 to 5, become the table `vad`. They are labels.
* Other files, and macOS's `._` copies, are skipped. There is no official split.
"""

import re
from collections import Counter
from pathlib import Path

import polars as pl

from emofuse.audio.sound import AudioFile
from emofuse.corpora.base import Corpus, CorpusError, Utterance, required, shown
from emofuse.corpora.options import NoOptions as Config
from emofuse.corpora.rows import read_lines

__all__ = ["Config", "read"]

SESSIONS = ("1", "2", "3", "4", "5")
RATINGS = ("valence", "activation", "dominance")
_SCALE = (1.0, 5.0)
_COUNTS = "10,039 utterances, 151 dialogues and 10 speakers"
_DIALOGUE = re.compile(r"Ses\d\d[FM]_\w+\.txt")
_EVALUATION = re.compile(
    r"\[(?P<start>\d+\.?\d*) - (?P<end>\d+\.?\d*)\]\s+(?P<id>(?P<dialogue>Ses\d\d[FM]_\w+)_(?P<gender>[FM])\d+)\s+"
    r"(?P<label>[a-z]+)\s+\[(?P<valence>[^,\]]+),(?P<activation>[^,\]]+),(?P<dominance>[^,\]]+)\]"
)
_TRANSCRIPT = re.compile(r"(?P<id>Ses\w+) +\[\d+\.?\d*-\d+\.?\d*\]: *(?P<text>.*)")


def read(source: Path, _config: Config) -> Corpus:
    """Read every session that is there.

    Args:
        source: ``IEMOCAP_full_release``, or a folder up to two levels above it

    Raises:
        CorpusError: there is no session, a session has no evaluations, or a line of one is not as expected
    """
    root = _root(source)
    sessions = [session for session in SESSIONS if _folder(root, session).is_dir()]
    if not sessions:
        raise CorpusError(f"{root}: no folder Session1 to Session5; expected the full release of IEMOCAP, unpacked")
    has_sound = any((_folder(root, session) / "sentences/wav").is_dir() for session in sessions)
    utterances: list[Utterance] = []
    ratings: list[dict[str, str | float | None]] = []
    beyond: Counter[str] = Counter()
    for session in sessions:
        folder = _folder(root, session)
        for path in _evaluation_files(folder):
            evaluated = _evaluations(path)
            texts = _transcript(folder / "dialog/transcriptions" / path.name, beyond)
            beyond["transcript lines without an evaluation"] += len(texts.keys() - {each["id"] for each in evaluated})
            for turn, each in enumerate(evaluated):
                sound = AudioFile(folder / "sentences/wav" / path.stem / f"{each['id']}.wav") if has_sound else None
                utterances.append(_utterance(each, turn, session, texts.get(each["id"]), sound))
                ratings.append({"utterance_id": each["id"], **{name: _rating(each[name]) for name in RATINGS}})
    vad = pl.DataFrame(ratings, schema={"utterance_id": pl.String, **dict.fromkeys(RATINGS, pl.Float64)})
    return Corpus(utterances, {"vad": vad}, _notes(utterances, sessions, beyond, has_sound))


def _root(source: Path) -> Path:
    """Return the folder that holds the sessions, or the source itself if none does."""
    for pattern in ("Session[1-5]/dialog", "*/Session[1-5]/dialog", "*/*/Session[1-5]/dialog"):
        found = sorted(path for path in source.glob(pattern) if "__MACOSX" not in path.parts)
        if found:
            return found[0].parents[1]
    return source


def _folder(root: Path, session: str) -> Path:
    return root / f"Session{session}"


def _evaluation_files(folder: Path) -> list[Path]:
    evaluations = required(folder / "dialog/EmoEvaluation", "IEMOCAP's evaluations of this session")
    return sorted(path for path in evaluations.iterdir() if _DIALOGUE.fullmatch(path.name))


def _evaluations(path: Path) -> list[dict[str, str]]:
    """Return the utterances of one dialogue in the order of their start times."""
    found = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.startswith("["):  # the heading, an annotator's own judgement, or blank
            continue
        match = _EVALUATION.fullmatch(line)
        if not match or match["dialogue"] != path.stem:
            expected = f"[start - end], an id of {path.stem}, a label and [valence, activation, dominance]"
            raise CorpusError(f"{path}: line {number}: {shown(line)}; expected {expected}")
        found.append(match.groupdict())
    return sorted(found, key=lambda each: float(each["start"]))


def _transcript(path: Path, beyond: Counter[str]) -> dict[str, str]:
    """Return the texts by id, and count the lines that have none."""
    if not path.exists():
        beyond["dialogues without a transcript"] += 1
        return {}
    texts: dict[str, str] = {}
    for line in _lines(path):
        match = _TRANSCRIPT.fullmatch(line)
        if match:
            texts[match["id"]] = match["text"]
        elif line:
            beyond["transcript lines without an id and a time"] += 1
    return texts


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_lines(path)]


def _utterance(row: dict[str, str], turn: int, session: str, text: str | None, sound: AudioFile | None) -> Utterance:
    start, end = float(row["start"]), float(row["end"])
    defects = [] if text else ["text_empty"]
    if end < start:
        defects.append("time_invalid")
    return Utterance(
        utterance_id=row["id"],
        dialogue_id=row["dialogue"],
        turn=turn,
        speaker=f"{row['id'][:5]}_{row['gender']}",
        text=text or None,
        label=row["label"],
        session=session,
        start_s=None if end < start else start,
        end_s=None if end < start else end,
        defects=tuple(defects),
        audio=sound,
    )


def _rating(value: str) -> float | None:
    """Read a mean rating; what is off the scale stands for a rating that was not given."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if _SCALE[0] <= number <= _SCALE[1] else None


def _notes(utterances: list[Utterance], sessions: list[str], beyond: Counter[str], has_sound: bool) -> list[str]:
    notes = [f"{what}: {count}" for what, count in sorted(beyond.items()) if count]
    if not has_sound:
        notes.append("no sound: no session has a folder sentences/wav")
    if len(sessions) < len(SESSIONS):
        notes.append(f"no folder of session {', '.join(sorted(set(SESSIONS) - set(sessions)))}")
    dialogues = len({each.dialogue_id for each in utterances})
    speakers = len({each.speaker for each in utterances})
    counts = f"{len(utterances):,} utterances, {dialogues} dialogues and {speakers} speakers"
    if counts != _COUNTS:
        notes.append(f"{counts}; the full release has {_COUNTS}")
    return notes
