"""A corpus's sound, dialogue by dialogue, with the turns that are found in it and the words of these."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from tqdm import tqdm

from emofuse.audio.flac import decode
from emofuse.core.files import digest, file_digest, write_json
from emofuse.core.process import quiet
from emofuse.core.store import Store
from emofuse.corpora.base import CorpusError
from emofuse.inference.transcripts import recogniser
from emofuse.inference.voice_activity import Span
from emofuse.robustness.conditions import Found
from emofuse.robustness.found_turns import Aligned, Dialogue, align, find, identity, join, word_error_rate, write_down

__all__ = ["Listened", "audio_shards", "listen", "measure", "read_clips", "spread"]


@dataclass(frozen=True)
class Listened:
    """What was found in the dialogues of a shard.

    Attributes:
        file: name of the shard
        dialogues: joined from its clips
        turns: of each dialogue
        words: of each turn of each dialogue, where they were asked for
    """

    file: str
    dialogues: list[Dialogue]
    turns: list[list[Span]]
    words: list[list[str]]

    def aligned(self) -> Iterator[tuple[int, str, Aligned]]:
        """Yield for each utterance in which somebody was heard the number of its dialogue, its id, and its turns."""
        for number, (dialogue, turns) in enumerate(zip(self.dialogues, self.turns, strict=True)):
            for name, found in align(dialogue.places, turns).items():
                yield number, name, found

    def texts(self) -> dict[str, str | None]:
        """Return what utterances have in place of their words."""
        return {
            name: " ".join(filter(None, (self.words[number][turn] for turn in found.turns))) or None
            for number, name, found in self.aligned()
        }

    def sounds(self) -> dict[str, np.ndarray]:
        """Return what utterances have in place of their sound, float32 ``[n_samples]`` at 16 kHz."""
        sounds = {}
        for number, name, found in self.aligned():
            first, last = self.turns[number][found.turns[0]], self.turns[number][found.turns[-1]]
            sounds[name] = self.dialogues[number].samples[first.start : last.end]
        return sounds


def listen(corpus: Path, utterances: pl.DataFrame, change: Found, store: Store, words: bool) -> list[Listened]:
    """Find turns in the sound of dialogues, shard by shard.

    Args:
        corpus: the corpus's folder
        utterances: of these dialogues, as in :data:`emofuse.core.schema.UTTERANCES`
        change: which recogniser, and the pause between clips
        store: where the words of each shard are kept
        words: whether words are asked for, too

    Raises:
        CorpusError: there is no sound of them
        EncoderError: the recogniser is not there
    """
    times = {name: (start, end) for name, start, end in utterances.select("utterance_id", "start_s", "end_s").rows()}
    groups = [each["utterance_id"].to_list() for _, each in utterances.group_by("dialogue_id", maintain_order=True)]
    write = _Writer(change.recogniser, store) if words else None
    found = []
    for path in tqdm(audio_shards(corpus), desc="listen", unit="shard", disable=quiet()):
        clips = {name: samples for name, samples in read_clips(path) if name in times}
        names = [present for group in groups if (present := [name for name in group if name in clips])]
        dialogues = [join({name: clips[name] for name in group}, times, change.pause_s) for group in names]
        turns = [find(each) for each in dialogues]
        found.append(Listened(path.name, dialogues, turns, write(path, dialogues, turns) if write else []))
    if not any(each.dialogues for each in found):
        raise CorpusError(f"{corpus}: no sound in it in which turns could be found")
    return found


class _Writer:
    """Writes down the words of a shard's turns, and keeps them in the store."""

    def __init__(self, name: str, store: Store) -> None:
        self._identity, self._store = identity(name), store
        self._recogniser = cache(partial(recogniser, name))  # not loaded where all is kept already

    def __call__(self, shard: Path, dialogues: Sequence[Dialogue], turns: Sequence[Sequence[Span]]) -> list[list[str]]:
        def make(folder: Path) -> None:
            pairs = list(zip(dialogues, turns, strict=True))
            write_json(folder / "words.json", write_down(pairs, lambda clips: self._recogniser()(clips)))

        places = [{name: asdict(span) for name, span in each.places.items()} for each in dialogues]
        found = [[asdict(span) for span in each] for each in turns]
        key = digest({"recogniser": self._identity, "shard": file_digest(shard), "places": places, "turns": found})
        kept = self._store.ensure("recognised", key, make).path / "words.json"
        words: list[list[str]] = json.loads(kept.read_text(encoding="utf-8"))
        return words


def measure(utterances: pl.DataFrame, heard: Sequence[Listened]) -> dict[str, float | None]:
    """Return the word error rate, and the numbers of dialogues, turns, found turns, and turns with some of their own.

    Args:
        utterances: with the words of the corpus
        heard: with words
    """
    own = dict(utterances.select("utterance_id", "text").rows())
    joined = [(dialogue, words) for each in heard for dialogue, words in zip(each.dialogues, each.words, strict=True)]
    truth = [" ".join(own[name] or "" for name in dialogue.places) for dialogue, _ in joined]
    return {
        "word_error_rate": word_error_rate(truth, [" ".join(words) for _, words in joined]),
        "dialogues": len(joined),
        "turns": sum(len(dialogue.places) for dialogue, _ in joined),
        "found": sum(len(words) for _, words in joined),
        "own": sum(not found.shared for each in heard for _, _, found in each.aligned()),
    }


def spread(utterances: pl.DataFrame, count: int | None) -> pl.DataFrame:
    """Return the utterances of so many dialogues, spread evenly over all of them; of all without a number."""
    names = utterances["dialogue_id"].unique(maintain_order=True)
    if count is None or count >= len(names):
        return utterances
    kept = [names[index * len(names) // count] for index in range(count)]
    return utterances.filter(pl.col("dialogue_id").is_in(kept))


def audio_shards(corpus: Path) -> list[Path]:
    """Return the files with a corpus's sound."""
    return sorted((corpus / "audio").glob("*.parquet"))


def read_clips(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the id and the samples of each clip of an audio shard, float32 ``[n_samples]`` at 16 kHz."""
    for batch in pq.ParquetFile(path).iter_batches(64):
        for row in batch.to_pylist():
            yield row["utterance_id"], decode(row["audio"]["bytes"])
