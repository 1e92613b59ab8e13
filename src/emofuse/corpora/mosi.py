"""CMU-MOSI, the multimodal corpus of sentiment intensity: reviews spoken to a camera (Zadeh et al. 2016, 1606.06259).

Owner: MultiComp Lab, Carnegie Mellon University; for research, by way of the CMU multimodal SDK's page
(http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/). 2,199 segments of 93 videos. Three layouts are read, and the
first of these files that is there tells which::

    mosi_utterances.csv                         columns utterance_id, video_id, split, sentiment, text (others are not
                                                read); shared by zeroQiaoba/GCNet
    mosi_audio_opensmile73.csv                  optional: 73 openSMILE values a segment, keyed by `utterance_id`;
                                                becomes the table `opensmile73`; shared by declare-lab, MIT

    label.csv                                   columns video_id, clip_id, text, label, mode (others are not read); the
                                                layout of THUIAR's MMSA
    Raw/<video>/<clip>.mp4

    Raw/Labels/OpinionLevelSentiment.csv        the owner's: start and end in seconds, video, segment, sentiment; no
                                                header
    Raw/Transcript/Segmented/<video>.annotprocessed     `1_DELIM_HERE_TEXT`, one line a segment
    Raw/Audio/WAV_16000/Segmented/<video>_<segment>.wav

* A dialogue is a video, a turn one of its segments, in the order of their numbers; the id is `<video>_<segment>`.
* The sentiment, a mean from -3 to 3, goes into the column `sentiment`. The corpus has no classes, so `label` is null.
* The split is the file's; the owner's layout gets the standard folds, 52 / 10 / 31 videos, given below.
* Every video counts as a speaker of its own. The 93 videos are by 89 people; who made two is not published.
* The text is upper case, with its slips, as it is shared.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from emofuse.audio.sound import AudioFile
from emofuse.corpora.base import Corpus, CorpusError, Utterance, required, shown
from emofuse.corpora.folder import inside
from emofuse.corpora.options import NoOptions as Config
from emofuse.corpora.rows import read_lines, read_rows
from emofuse.corpora.tables import TableConfig, read_table

__all__ = ["Config", "read"]

SPLITS = {"train": "train", "valid": "dev", "validation": "dev", "dev": "dev", "test": "test"}
_LIMIT = 3.0
_NUMBER = re.compile(r"[0-9]{1,9}")
_COUNTS = "2,199 segments of 93 videos"
_LINE = re.compile(r"(?P<segment>\d+)_DELIM_(?:HERE_)?(?P<text>.*)")
# The standard folds, as published in CMU-MultimodalSDK (cmu_mosi_std_folds); read off the table of zeroQiaoba/GCNet.
_FOLDS = {
    "train": """
        03bSnISJMiM 0h-zjBukYpk 1DmNV9C1hbY 1iG0909rllw 2WGyTLYerpo 2iD-tVS8NPw 5W7Z1C_fDaE 6Egk_28TtTM 6_0THN4chvY
        73jzhE8R1TQ 7JsX8y1ysxY 8OtFthrtaJM 8d-gEyoeBzc 8qrpnFRGt2A 9J25DZhivz8 9T9Hf74oK10 9c67fiY0wGQ 9qR7uwkblbs
        Af8D0E4ZXaw BI97DNYfe5I BXuRRbG0Ugk Bfr499ggo-0 BioHAh1qJAQ BvYR0L6f2Ig Ci-AH39fi3Y Clx4VXItLTE Dg_0XKD0Mf4
        G-xst2euQUc G6GlGvlkxAQ GWuJjcEuzt8 HEsqda8_d0Q I5y0__X72p0 Iu2PFX3z_1s IumbAb8q2dM Jkswaaud0hk LSi-o-IrDMs
        MLal-t_vJPM Njd1F0vZSm4 Nzq88NnDkEk OQvJTdtJ2H4 OtBXNcAL_lE Oz06ZWiO20M POKffnXeBds PZ-lDQFboO8 QN9ZIUWUXsY
        Qr1Ca94K55A Sqr0AcuoNnk TvyZBvOMOTc VCslbP0mgZI VbQk4H8hgr0 Vj1wYRQjB-o W8NXH0Djyww
    """,
    "dev": """
        WKA5OygbEKI X3j2zQgwYgE ZAIRrfG22O0 ZUXBRvtny7o _dI--eQ6qVU aiEXnCPZubE atnd_PF-Lbs bOL9jKpeJRs bvLlb-M3UXU
        c5xsKMxpXnc
    """,
    "test": """
        c7UH_rxdZv4 cM3Yna7AavY cW1FSBF59ik cXypl4FnoZo d3_k5Xpfmik d6hH302o4v8 dq3Nf_lMPnE etzxEpPuc6I f9O3YtZ2VfI
        f_pcplsH_V0 fvVhgmXxadc iiK8YX8oH1E jUzDDGyPkXU k5Y_838nuGo lXPQBPVc5Cw nbWiPyCm4g0 nzpVDcQ0ywM ob23OKe5a9Q
        pLTX3ipuDJI phBUpBr1hSo rnaNMUZpvvg tIrG4oNLFzE tStelxIAHjw tmZoasNr4rU v0zCBqDeKcE vvZ4IcEtiZc vyB00TXsimI
        wMbj6ajWbic yDtzw_Y-7RU yvsjCA6Y5Fc zhpQhgha_KU
    """,
}


@dataclass(frozen=True)
class _Segment:
    video: str
    number: int
    text: str
    sentiment: float
    split: str | None
    sound: Path | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class _Row:
    """A row of a table, and where it stands, for messages."""

    values: dict[str, str | None]
    where: str

    def text(self, column: str) -> str:
        return (self.values[column] or "").strip()

    def number(self, column: str) -> float:
        try:
            number = float(self.text(column))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.error(column, "a finite number")
        return number

    def whole(self, column: str) -> int:
        if not _NUMBER.fullmatch(self.text(column)):
            raise self.error(column, "a whole number")
        return int(self.text(column))

    def sentiment(self, column: str) -> float:
        value = self.number(column)
        if not -_LIMIT <= value <= _LIMIT:
            raise self.error(column, "a sentiment from -3 to 3")
        return value

    def split(self, column: str) -> str:
        if self.text(column) not in SPLITS:
            raise self.error(column, f"one of {sorted(SPLITS)}")
        return SPLITS[self.text(column)]

    def error(self, column: str, expected: str) -> CorpusError:
        return CorpusError(f"{self.where}: {column} is {shown(self.values[column])}; expected {expected}")


def read(source: Path, _config: Config) -> Corpus:
    """Read whichever of the three layouts lies in the folder.

    Args:
        source: the folder that holds the files of the module's docstring

    Raises:
        CorpusError: none of the layouts is there, or a row is not as expected
    """
    layouts: dict[str, Callable[[Path, list[str]], list[_Segment]]] = {
        "mosi_utterances.csv": _from_utterances,
        "label.csv": _from_labels,
        "Raw/Labels/OpinionLevelSentiment.csv": _from_owner,
    }
    for file, layout in layouts.items():
        if (source / file).exists():
            notes: list[str] = []
            segments = layout(source, notes)
            return Corpus(_utterances(segments, notes), _tables(source), notes, _split_source(segments, file))
    raise CorpusError(f"{source}: no CMU-MOSI in it; expected one of the files {', '.join(layouts)}")


def _from_utterances(source: Path, notes: list[str]) -> list[_Segment]:
    del notes
    columns = ("utterance_id", "video_id", "split", "sentiment", "text")
    segments = []
    for row in _rows(source / "mosi_utterances.csv", columns):
        video, _, number = row.text("utterance_id").rpartition("_")
        if video != row.text("video_id") or not _NUMBER.fullmatch(number):
            raise row.error("utterance_id", f"{row.text('video_id')}_<number of the segment>")
        sentiment, split = row.sentiment("sentiment"), row.split("split")
        segments.append(_Segment(video, int(number), row.text("text"), sentiment, split))
    return segments


def _from_labels(source: Path, notes: list[str]) -> list[_Segment]:
    clips = source / "Raw"
    if not clips.is_dir():
        notes.append("no sound: there is no folder Raw beside label.csv")
    segments = []
    for row in _rows(source / "label.csv", ("video_id", "clip_id", "text", "label", "mode")):
        video, number = row.text("video_id"), row.whole("clip_id")
        sound = _sound(clips, f"{video}/{row.text('clip_id')}.mp4", row, "video_id")
        sentiment, split = row.sentiment("label"), row.split("mode")
        segments.append(_Segment(video, number, row.text("text"), sentiment, split, sound))
    return segments


def _from_owner(source: Path, notes: list[str]) -> list[_Segment]:
    sounds = source / "Raw/Audio/WAV_16000/Segmented"
    if not sounds.is_dir():
        notes.append(f"no sound: there is no folder {sounds.relative_to(source)}")
    texts = _annotations(source / "Raw/Transcript/Segmented")
    folds = _folds()
    segments = []
    columns = ("start", "end", "video", "segment", "sentiment")
    for row in _rows(source / "Raw/Labels/OpinionLevelSentiment.csv", columns, header=False):
        video, number = row.text("video"), row.whole("segment")
        segments.append(
            _Segment(
                video,
                number,
                texts.pop((video, number), ""),
                row.sentiment("sentiment"),
                folds.get(video),
                _sound(sounds, f"{video}_{number}.wav", row, "video"),
                row.number("start"),
                row.number("end"),
            )
        )
    if texts:
        notes.append(f"transcribed segments without a sentiment, which are no utterances: {len(texts)}")
    unknown = sorted({each.video for each in segments} - folds.keys())
    if unknown:
        notes.append(f"videos in no standard fold: {len(unknown)}, such as {unknown[0]}")
    return segments


def _sound(folder: Path, name: str, row: _Row, column: str) -> Path | None:
    """The sound file of a segment, or None if the corpus has none."""
    if not folder.is_dir():
        return None
    try:
        return inside(folder, name)
    except ValueError:
        raise row.error(column, f"a name for a file below {folder}") from None


def _annotations(folder: Path) -> dict[tuple[str, int], str]:
    """Return the owner's transcripts by video and segment."""
    texts = {}
    for path in sorted(required(folder, "the transcripts <video>.annotprocessed").glob("[!.]*.annotprocessed")):
        for number, line in enumerate(read_lines(path), start=1):
            match = _LINE.fullmatch(line.strip())
            if match:
                texts[path.stem, int(match["segment"])] = match["text"].strip()
            elif line.strip():
                raise CorpusError(f"{path}: line {number}: {shown(line)}; expected <segment>_DELIM_HERE_<text>")
    return texts


def _folds() -> dict[str, str]:
    return {video: split for split, videos in _FOLDS.items() for video in videos.split()}


def _split_source(segments: list[_Segment], file: str) -> str:
    folds = _folds()
    if all(each.split == folds.get(each.video) for each in segments):
        return "official: the standard folds of CMU-MOSI, 52 / 10 / 31 videos"
    return f"read from {file}, which differs from the standard folds of CMU-MOSI; their origin is unknown"


def _utterances(segments: list[_Segment], notes: list[str]) -> list[Utterance]:
    segments = sorted(segments, key=lambda each: (each.video, each.number))
    utterances: list[Utterance] = []
    for each in segments:
        follows = bool(utterances) and utterances[-1].dialogue_id == each.video
        valid = each.start is None or each.end is None or each.start <= each.end
        utterances.append(
            Utterance(
                utterance_id=f"{each.video}_{each.number}",
                dialogue_id=each.video,
                turn=utterances[-1].turn + 1 if follows else 0,
                speaker=each.video,
                text=each.text or None,
                label=None,
                split=each.split,
                start_s=each.start if valid else None,
                end_s=each.end if valid else None,
                sentiment=each.sentiment,
                defects=(*(() if each.text else ("text_empty",)), *(() if valid else ("time_invalid",))),
                audio=AudioFile(each.sound) if each.sound else None,
            )
        )
    counts = f"{len(segments):,} segments of {len({each.video for each in segments})} videos"
    if counts != _COUNTS:
        notes.append(f"{counts}; the whole corpus has {_COUNTS}")
    return utterances


def _tables(source: Path) -> dict[str, pl.DataFrame]:
    path = source / "mosi_audio_opensmile73.csv"
    if not path.exists():
        return {}
    return {"opensmile73": read_table(source, TableConfig(path=path.name))}


def _rows(path: Path, columns: tuple[str, ...], header: bool = True) -> list[_Row]:
    table = read_rows(path, header=header)
    if not header and table.width == len(columns):
        table.columns = list(columns)
    missing = [column for column in columns if column not in table.columns]
    if missing or not table.height:
        raise CorpusError(f"{path}: expected rows with the columns {', '.join(columns)}; found {shown(table.columns)}")
    return [_Row(row, f"{path}: row {number}") for number, row in enumerate(table.to_dicts(), start=1)]
