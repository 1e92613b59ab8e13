"""MELD, the multimodal EmotionLines dataset: scenes of the series Friends (Poria et al. 2019, ACL, P19-1050).

Owner: the MELD project (declare-lab), transcripts under GPL-3.0. Layout read here::

    {train,dev,test}_sent_emo.csv          columns Utterance, Speaker, Emotion, Sentiment, Dialogue_ID, Utterance_ID,
                                           StartTime, EndTime (HH:MM:SS,mmm); official splits
    meld_{train,dev,test}_audio_features.csv   optional: prosody published for the clips, keyed by `filename`
                                           (`dia{D}_utt{U}.wav`); becomes the table `prosody`

Dialogue and utterance numbers repeat from split to split, so the split stands in front of every id:
``train_dia0_utt0``. Turns are numbered by position, since the utterance numbers of some dialogues have gaps.
"""

import re
from pathlib import Path

import polars as pl
from pydantic.dataclasses import dataclass

from emofuse.corpora.base import Corpus, CorpusError, Utterance, required
from emofuse.params import STRICT

__all__ = ["Config", "read"]

SPLITS = ("train", "dev", "test")
SENTIMENTS = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}
_CLIP = re.compile(r"dia(\d+)_utt(\d+)\.wav")
_TIME = re.compile(r"(\d+):(\d+):(\d+),(\d+)")
# Windows-1252 punctuation that was stored as control characters.
_CONTROLS = {code: bytes([code]).decode("cp1252", errors="ignore") or " " for code in range(0x80, 0xA0)}


@dataclass(frozen=True, config=STRICT)
class Config:
    """MELD has no options."""


def read(source: Path, config: Config) -> Corpus:
    """Read the transcripts and, where they are, the published prosody.

    Args:
        source: the folder that holds the files of the module's docstring
        config: no options

    Raises:
        CorpusError: a transcript is missing or has other columns or values than expected
    """
    del config
    utterances = [each for split in SPLITS for each in _transcript(source, split)]
    tables, notes = {}, []
    if all(_prosody_file(source, split).exists() for split in SPLITS):
        tables["prosody"] = pl.concat([_prosody(source, split) for split in SPLITS])
    else:
        notes.append("no published prosody: meld_{train,dev,test}_audio_features.csv are not all there")
    return Corpus(utterances, tables, notes)


def _transcript(source: Path, split: str) -> list[Utterance]:
    path = required(source / f"{split}_sent_emo.csv", "MELD's transcript of this split")
    rows = pl.read_csv(path, infer_schema=False).to_dicts()
    needed = {"Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime"}
    if not rows or not needed <= rows[0].keys():
        raise CorpusError(f"{path}: expected rows with the columns {sorted(needed)}")
    rows.sort(key=lambda row: (int(row["Dialogue_ID"]), int(row["Utterance_ID"])))
    result: list[Utterance] = []
    for row in rows:
        dialogue = f"{split}_dia{row['Dialogue_ID']}"
        turn = result[-1].turn + 1 if result and result[-1].dialogue_id == dialogue else 0
        result.append(_utterance(row, dialogue, turn, split, path))
    return result


def _utterance(row: dict[str, str], dialogue: str, turn: int, split: str, path: Path) -> Utterance:
    where = f"{path}: {dialogue}_utt{row['Utterance_ID']}"
    if row["Sentiment"] not in SENTIMENTS:
        raise CorpusError(f"{where}: Sentiment is {row['Sentiment']!r}; expected one of {sorted(SENTIMENTS)}")
    text = repair(row["Utterance"] or "")
    start, end = _seconds(row["StartTime"]), _seconds(row["EndTime"])
    defects = [] if text else ["text_empty"]
    if start is None or end is None or end < start:
        start, end, defects = None, None, [*defects, "time_invalid"]
    return Utterance(
        utterance_id=f"{dialogue}_utt{row['Utterance_ID']}",
        dialogue_id=dialogue,
        turn=turn,
        speaker=repair(row["Speaker"]),
        text=text or None,
        label=row["Emotion"],
        sentiment=SENTIMENTS[row["Sentiment"]],
        split=split,
        start_s=start,
        end_s=end,
        defects=tuple(defects),
    )


def repair(text: str) -> str:
    """Turn Windows-1252 punctuation that was stored as control characters into itself, and close up white space."""
    return " ".join(text.translate(_CONTROLS).split())


def _seconds(time: str) -> float | None:
    match = _TIME.fullmatch(time.strip())
    if not match:
        return None
    hours, minutes, seconds, thousandths = (int(part) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds + thousandths / 1000


def _prosody_file(source: Path, split: str) -> Path:
    return source / f"meld_{split}_audio_features.csv"


def _prosody(source: Path, split: str) -> pl.DataFrame:
    path = _prosody_file(source, split)
    table = pl.read_csv(path, infer_schema_length=None)
    if "filename" not in table.columns:
        raise CorpusError(f"{path}: expected a column 'filename'")
    ids = []
    for name in table["filename"]:
        match = _CLIP.fullmatch(name)
        if not match:
            raise CorpusError(f"{path}: filename {name!r}; expected dia<D>_utt<U>.wav")
        ids.append(f"{split}_dia{match[1]}_utt{match[2]}")
    values = table.drop("filename").cast(pl.Float64)
    return values.insert_column(0, pl.Series("utterance_id", ids))
