"""MELD, the multimodal EmotionLines dataset: scenes of the series Friends (Poria et al. 2019, ACL, P19-1050).

Owner: the MELD project (https://github.com/declare-lab/MELD), GPL-3.0; no form, `MELD.Raw.tar.gz` is public. Read here
from the source, or from folders inside it such as `MELD.Raw` or `train`::

    {train,dev,test}_sent_emo.csv          columns Utterance, Speaker, Emotion, Sentiment, Dialogue_ID, Utterance_ID,
                                           StartTime, EndTime (HH:MM:SS,mmm), and Season, Episode where they are given;
                                           official splits
    train_splits/dia{D}_utt{U}.mp4         the clips, of any ending, of several copies wav, flac or mp4; without any of
    dev_splits_complete/                   the three folders the corpus has no sound
    output_repeated_splits_test/
    meld_{train,dev,test}_audio_features.csv   optional: prosody published for the clips, keyed by `filename`
                                           (`dia{D}_utt{U}.wav`); becomes the table `prosody`
    MELD.Raw.tar.gz, {train,dev,test}.tar.gz   read in place of the folders that are not there; see
                                           :mod:`emofuse.corpora.archives`

* Dialogue and utterance numbers repeat from split to split, so the split stands in front of every id:
  ``train_dia0_utt0``. Turns are numbered by position, since the utterance numbers of some dialogues have gaps.
* The session is the episode, such as ``s03e19``.
* The test folder has clips named `final_videos_test…`, second versions of clips that are also there under their plain
  name; the plain ones are read. These and clips that no transcript names are counted in a note.
* Known bad clips: cut minutes too long (test dia38_utt4, 305 s; test dia220_utt0, 235 s; train dia309_utt0, 41 s),
  unreadable (train dia125_utt3, dev dia110_utt7), and a few under 0.1 s. None is left out: the first are cut at the
  limit, the second have no sound, the last are kept; each has its defect.
* Text that was UTF-8 and read as Windows-1252 (`â€™`) is repaired. Copies of the transcripts with stripped apostrophes
  (`dont`) are not, since `were` and `its` cannot be; a note counts them.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from emofuse.audio.sound import AudioFile
from emofuse.core.schema import SPLITS
from emofuse.corpora.archives import unpack
from emofuse.corpora.base import Corpus, CorpusError, Utterance, required, shown
from emofuse.corpora.folder import is_sound
from emofuse.corpora.options import NoOptions as Config
from emofuse.corpora.rows import read_rows
from emofuse.corpora.tables import numbers

__all__ = ["Config", "read"]

CLIPS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
SENTIMENTS = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}
_PROSODY = "meld_{}_audio_features.csv"
_ROW = re.compile(r"dia(\d+)_utt(\d+)\.wav")
_CLIP = re.compile(r"(?P<id>dia\d+_utt\d+)\.(?P<ending>[^.]+)")
_ENDINGS = ("wav", "flac", "mp4")
"""Which of several copies of a clip is read; of other endings the first by name."""
_SECOND_VERSION = "final_videos_test"
_PACKED = ("*_sent_emo.csv", "dia*_utt*.*", "*.tar.gz")
_TIME = re.compile(r"([0-9]{1,4}):([0-9]{1,4}):([0-9]{1,4}),([0-9]{1,9})")
_NUMBER = re.compile(r"[0-9]{1,9}")
_BYTES = {sign: code for code in range(0x80, 0x100) for sign in (bytes([code]).decode("cp1252", "ignore"), chr(code))}
# Windows-1252 punctuation that was stored as control characters.
_CONTROLS = {code: bytes([code]).decode("cp1252", errors="ignore") or " " for code in range(0x80, 0xA0)}
# UTF-8 of accented letters and punctuation that was read as Windows-1252 or Latin-1. No other letters, so that nothing
# real is touched.
_HIGH = "".join(re.escape(sign) for sign, code in _BYTES.items() if 0x80 <= code < 0xC0)
_MOJIBAKE = re.compile(f"[ÂÃ][{_HIGH}]|â[€‚„\x80\x82\x84][{_HIGH}]")
_STRIPPED = re.compile(r"\b(dont|didnt|doesnt|isnt|wasnt|youre|theyre|thats|whats|im|ive)\b", re.IGNORECASE)


def read(source: Path, _config: Config) -> Corpus:
    """Read the transcripts and, where they are, the clips and the published prosody.

    Args:
        source: the folder that holds the files of the module's docstring

    Raises:
        CorpusError: a transcript is missing or has other columns or values than expected, or an archive is not safe
    """
    folders = _folders(source)
    notes: list[str] = []
    utterances = [each for split in SPLITS for each in _transcript(folders, split, notes)]
    utterances = _with_clips(utterances, folders, notes)
    tables = {}
    if all(_find(folders, _PROSODY.format(split)) for split in SPLITS):
        tables["prosody"] = _prosody(folders)
    else:
        notes.append("no published prosody: meld_{train,dev,test}_audio_features.csv are not all there")
    return Corpus(utterances, tables, notes, "official: MELD's own")


def _folders(source: Path) -> list[Path]:
    """Return where to look: the source, and unpacked what stands in for clips that are not in it."""
    folders = [source]
    for name, splits in (*((split, (split,)) for split in SPLITS), ("MELD.Raw", SPLITS)):
        archive = _find([source], f"{name}.tar.gz")
        if archive and not all(_find(folders, CLIPS[split]) for split in splits):
            folders.append(unpack(archive, _PACKED))
    return folders


def _find(folders: Sequence[Path], name: str) -> Path | None:
    """Return the first file or folder of that name in the folders, or up to two levels below."""
    for folder in folders:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            found = sorted(path for path in folder.glob(pattern) if "__MACOSX" not in path.parts)
            if found:
                return found[0]
    return None


def _with_clips(utterances: list[Utterance], folders: Sequence[Path], notes: list[str]) -> list[Utterance]:
    clips: dict[str, Path] = {}
    second = 0
    for split, name in CLIPS.items():
        folder = _find(folders, name)
        files = sorted(folder.iterdir()) if folder else []
        second += sum(path.name.startswith(_SECOND_VERSION) for path in files)
        found = [(match, path) for path in files if (match := _CLIP.fullmatch(path.name)) and is_sound(path)]
        for match, path in sorted(found, key=lambda each: _rank(each[0]["ending"])):
            clips.setdefault(f"{split}_{match['id']}", path)
    if not clips:
        notes.append(f"no sound: no clips in folders named {', '.join(CLIPS.values())}")
        return utterances
    extra = clips.keys() - {each.utterance_id for each in utterances}
    if extra:
        notes.append(f"clips of no utterance: {len(extra)}, such as {min(extra)}")
    if second:
        notes.append(f"second versions of clips, named {_SECOND_VERSION}…, which are not read: {second}")
    return [replace(each, audio=AudioFile(_clip(each, clips, folders[0]))) for each in utterances]


def _rank(ending: str) -> tuple[int, str]:
    return (_ENDINGS.index(ending) if ending in _ENDINGS else len(_ENDINGS)), ending


def _clip(utterance: Utterance, clips: dict[str, Path], source: Path) -> Path:
    """Return the utterance's clip, or where it would be, for the message that it is missing."""
    split, _, name = utterance.utterance_id.partition("_")
    return clips.get(utterance.utterance_id, source / CLIPS[split] / f"{name}.mp4")


def _transcript(folders: Sequence[Path], split: str, notes: list[str]) -> list[Utterance]:
    name = f"{split}_sent_emo.csv"
    path = _find(folders, name) or required(folders[0] / name, "MELD's transcript of this split")
    rows = read_rows(path).to_dicts()
    needed = {"Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime"}
    if not rows or not needed <= rows[0].keys():
        raise CorpusError(f"{path}: expected rows with the columns {sorted(needed)}")
    for number, row in enumerate(rows, start=1):
        for column in ("Dialogue_ID", "Utterance_ID"):
            if not _NUMBER.fullmatch(row[column] or ""):
                raise CorpusError(f"{path}: row {number}: {column} is {shown(row[column])}; expected a whole number")
    rows.sort(key=lambda row: (int(row["Dialogue_ID"]), int(row["Utterance_ID"])))
    result: list[Utterance] = []
    for row in rows:
        dialogue = f"{split}_dia{row['Dialogue_ID']}"
        turn = result[-1].turn + 1 if result and result[-1].dialogue_id == dialogue else 0
        result.append(_utterance(row, dialogue, turn, split, path))
    _note_text(name, [row["Utterance"] or "" for row in rows], notes)
    return result


def _note_text(name: str, texts: Sequence[str], notes: list[str]) -> None:
    repaired = sum(bool(_MOJIBAKE.search(text)) for text in texts)
    if repaired:
        notes.append(f"{name}: texts with UTF-8 read as Windows-1252, which were repaired: {repaired}")
    stripped = [match[0] for text in texts if (match := _STRIPPED.search(text))]
    if stripped:
        notes.append(f"{name}: texts with stripped apostrophes, left so: {len(stripped)}, such as {stripped[0]!r}")


def _utterance(row: dict[str, str | None], dialogue: str, turn: int, split: str, path: Path) -> Utterance:
    where = f"{path}: {dialogue}_utt{row['Utterance_ID']}"
    sentiment = SENTIMENTS.get(row["Sentiment"] or "")
    if sentiment is None:
        raise CorpusError(f"{where}: Sentiment is {shown(row['Sentiment'])}; expected one of {sorted(SENTIMENTS)}")
    text = repair(row["Utterance"] or "")
    start, end = _seconds(row["StartTime"] or ""), _seconds(row["EndTime"] or "")
    defects = [] if text else ["text_empty"]
    if start is None or end is None or end < start:
        start, end, defects = None, None, [*defects, "time_invalid"]
    return Utterance(
        utterance_id=f"{dialogue}_utt{row['Utterance_ID']}",
        dialogue_id=dialogue,
        turn=turn,
        speaker=repair(row["Speaker"] or "") or None,
        text=text or None,
        label=row["Emotion"],
        sentiment=sentiment,
        split=split,
        session=_episode(row),
        start_s=start,
        end_s=end,
        defects=tuple(defects),
    )


def repair(text: str) -> str:
    """Undo what wrong decoders did to a text, and close up white space.

    UTF-8 that was read as Windows-1252 or Latin-1 becomes what it was, and so does Windows-1252 punctuation that was
    stored as control characters.

    >>> repair("I donâ€™t  know")
    'I don’t know'
    """
    while (better := _MOJIBAKE.sub(_decode, text).translate(_CONTROLS)) != text:  # some texts went through it twice
        text = better
    return " ".join(text.split())


def _decode(match: re.Match[str]) -> str:
    return bytes(_BYTES[sign] for sign in match[0]).decode("utf-8")


def _episode(row: dict[str, str | None]) -> str | None:
    season, episode = (row.get("Season") or "").strip(), (row.get("Episode") or "").strip()
    return f"s{season:0>2}e{episode:0>2}" if season and episode else None


def _seconds(time: str) -> float | None:
    match = _TIME.fullmatch(time.strip())
    if not match:
        return None
    hours, minutes, seconds, thousandths = (int(part) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds + thousandths / 1000


def _prosody(folders: Sequence[Path]) -> pl.DataFrame:
    tables: list[pl.DataFrame] = []
    for split in SPLITS:
        path = _find(folders, _PROSODY.format(split)) or folders[0] / _PROSODY.format(split)
        table = _values(path, split)
        if tables and table.columns != tables[0].columns:
            raise CorpusError(f"{path}: columns {table.columns[1:]}; expected {tables[0].columns[1:]}, as in train")
        tables.append(table)
    return pl.concat(tables)


def _values(path: Path, split: str) -> pl.DataFrame:
    table = read_rows(path)
    if "filename" not in table.columns:
        raise CorpusError(f"{path}: expected a column 'filename'")
    ids = []
    for name in table["filename"]:
        match = _ROW.fullmatch(name or "")
        if not match:
            raise CorpusError(f"{path}: filename {shown(name)}; expected dia<D>_utt<U>.wav")
        ids.append(f"{split}_dia{match[1]}_utt{match[2]}")
    values = numbers(table.drop("filename"), str(path))
    return values.insert_column(0, pl.Series("utterance_id", ids))
