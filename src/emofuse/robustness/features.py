"""A corpus under worse conditions: noise in its sound, errors in its words, found words, or nothing of either.

What comes out is a corpus again, for the extraction to encode as it encodes any other. It has the utterances of one
split, the changed modality and nothing else, so that whatever is encoded of it is under the condition.

**Noise** is Gaussian, in the long-term average spectrum of the corpus's speech, as in tests of hearing: no band of the
speech is spared, as white noise would spare the low ones, and it says nothing itself, as babble would. The spectrum is
of the speech in other splits, where the corpus has any. The ratio holds over the whole clip, pauses and all; a sum that
would not fit into 16 bits is turned down as a whole, which leaves the ratio as it is. A clip's noise depends on its id
and the seed, so it is the same at every ratio.

**Word errors** are the edit distance between the words, set apart by spaces, over the number of words, both of all
transcripts that are changed. Wrong and added words are drawn from the transcripts of train, or from all where the whole
corpus is changed, so that frequent words come often. An utterance may lose all its words.

**Found** words are what a recogniser writes down of each utterance's own sound; see :mod:`emofuse.robustness.found`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from torchaudio.functional import edit_distance
from tqdm import tqdm

from emofuse.audio.clips import Clip, prepare
from emofuse.audio.flac import decode
from emofuse.audio.source import Sound
from emofuse.core import schema
from emofuse.core.files import digest, file_digest, write_json, write_table
from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.corpora.base import CorpusError
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.features.extract import ExtractConfig, Extracted, extract
from emofuse.inference.transcripts import Recogniser
from emofuse.plan import Plan
from emofuse.robustness.conditions import MEASURED, Change, Found, Noise, WordErrors, read_condition
from emofuse.robustness.found import identity, word_error_rate, write_down

__all__ = ["add_noise", "corrupt", "extract_corrupted", "long_term_spectrum", "shaped_noise", "with_word_errors"]

_FRAME = 1024
"""Samples that a spectrum is taken over: 64 ms, long enough to tell the lowest voices from what is under them."""

_FULL_SCALE = 32_767 / 32_768


def extract_corrupted(
    plan: Plan, params: Params, condition: str, encoder: str, layout: Layout, store: Store
) -> Extracted:
    """Encode the test split of a corpus under a condition; the corpus under it is not kept.

    Args:
        plan: what is run of the corpus
        params: the corpus's
        condition: its name
        encoder: the encoder's name
        layout: the project's folders
        store: where finished shards are kept

    Raises:
        CorpusError: the condition does not fit the encoder or the corpus
        EncoderError, ExecutorError, FeatureError: as in :func:`~emofuse.features.extract.extract`
    """
    modality = plan.modality(encoder)
    change = read_condition(params, condition, modality)
    config = params.get(f"encoders.{encoder}", EncoderConfig)
    if change != "missing" and config.family == "published":
        raise CorpusError(f"condition {condition}: {encoder} has published values; they can only be missing")
    how, shards = params.get("extract", ExtractConfig), params.get("corpus.shards", int)
    with TemporaryDirectory(prefix="emofuse-") as folder:
        corpus = Path(folder)
        corrupt(layout.corpus(plan.corpus), change, corpus, store)
        out = layout.corrupted(plan.corpus, condition, encoder)
        extracted = extract(encoder, config, how, shards, corpus, out, store, modality)
        if isinstance(change, WordErrors | Found):
            write_json(out / MEASURED, {"word_error_rate": _measured(layout.corpus(plan.corpus), corpus)})
        return extracted


def _measured(corpus: Path, changed: Path) -> float | None:
    before, after = (pl.DataFrame(pq.read_table(each / "utterances.parquet")) for each in (corpus, changed))
    transcripts = after.select("utterance_id", transcript="text")
    texts = transcripts.join(before, on="utterance_id", how="left", maintain_order="left")
    rate = word_error_rate(texts["text"].to_list(), texts["transcript"].to_list())
    return None if rate is None else round(rate, 6)


def corrupt(corpus: Path, change: Change, out: Path, store: Store) -> None:
    """Write the test split of a corpus under a condition; all of a corpus that has no splits of its own.

    Args:
        corpus: the corpus's folder
        change: what is done to it
        out: empty folder for ``utterances.parquet``, ``audio/`` and ``tables/``
        store: where found words are kept

    Raises:
        CorpusError: the corpus has nothing that could be changed so
    """
    table = pq.read_table(corpus / "utterances.parquet")
    whole = pl.DataFrame(table)
    has_splits = "test" in set(whole["split"])
    chosen = whole.filter(pl.col("split") == "test") if has_splits else whole
    bare = chosen.with_columns(text=pl.lit(None, pl.String), audio_sha256=pl.lit(None, pl.String), n_samples=None)
    if isinstance(change, Noise):
        rows = _with_noise(corpus, bare, change, out / "audio")
    elif isinstance(change, WordErrors):
        words = whole.filter(pl.col("split") == "train") if has_splits else whole
        rows = bare.with_columns(text=_changed(corpus, chosen["text"].to_list(), words["text"], change))
    elif isinstance(change, Found):
        rows = bare.with_columns(text=_found(corpus, chosen["utterance_id"].to_list(), change, store))
    else:
        rows = bare
        for path in (corpus / "tables").glob("*.parquet"):
            write_table(out / "tables" / path.name, pq.read_table(path).slice(0, 0))
    described = schema.conform(rows.to_arrow(), schema.UTTERANCES, str(corpus))
    write_table(out / "utterances.parquet", described.replace_schema_metadata(table.schema.metadata))


def _with_noise(corpus: Path, bare: pl.DataFrame, change: Noise, out: Path) -> pl.DataFrame:
    own = set(bare["utterance_id"])
    spectrum = long_term_spectrum(samples for name, samples in _clips(corpus) if name not in own)
    if not spectrum.any():
        spectrum = long_term_spectrum(samples for _, samples in _clips(corpus))
    if not spectrum.any():
        raise CorpusError(f"{corpus}: no sound in it that noise could be added to")
    clips: dict[str, Clip] = {}
    for path in _shards(corpus):
        stored = []
        for name, samples in _read(path):
            if name in own:
                generator = np.random.default_rng([change.seed, *hashlib.sha256(name.encode()).digest()])
                noisy = add_noise(samples, shaped_noise(len(samples), spectrum, generator), change.noise_db)
                sound = Sound(name, noisy[None], schema.SAMPLE_RATE)
                clips[name] = prepare(sound, max_seconds=len(noisy) / schema.SAMPLE_RATE + 1)
                stored.append({"utterance_id": name, "audio": {"bytes": clips[name].data, "path": f"{name}.flac"}})
        write_table(out / path.name, pa.Table.from_pylist(stored, schema.AUDIO), compression="none")
    rows = [(name, clip.sha256, clip.n_samples) for name, clip in clips.items()]
    heard = pl.DataFrame(rows, schema=["utterance_id", "audio_sha256", "n_samples"], orient="row")
    return bare.drop("audio_sha256", "n_samples").join(heard, on="utterance_id", how="left", maintain_order="left")


def _found(corpus: Path, ids: Sequence[str], change: Found, store: Store) -> pl.Series:
    """What is found in the sound of utterances, shard by shard, each of which is kept."""
    heard_by, own = identity(change.recogniser), set(ids)
    recogniser = cache(partial(Recogniser, change.recogniser))  # not loaded where all is kept already
    transcripts: dict[str, str | None] = {}
    for path in tqdm(_shards(corpus), desc="recognise", unit="shard", disable=None):
        clips = ((name, samples) for name, samples in _read(path) if name in own)

        def make(folder: Path, clips: Iterator[tuple[str, np.ndarray]] = clips) -> None:
            write_json(folder / "transcripts.json", write_down(clips, lambda heard: recogniser()(heard)))

        key = digest({"recogniser": heard_by, "shard": file_digest(path), "ids": sorted(own)})
        kept = store.ensure("recognised", key, make).path / "transcripts.json"
        transcripts |= json.loads(kept.read_text(encoding="utf-8"))
    if not transcripts:
        raise CorpusError(f"{corpus}: no sound in it whose words could be found")
    return pl.Series([transcripts.get(each) for each in ids], dtype=pl.String)


def _clips(corpus: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in _shards(corpus):
        yield from _read(path)


def _shards(corpus: Path) -> list[Path]:
    return sorted((corpus / "audio").glob("*.parquet"))


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the id and the samples of each clip of an audio shard."""
    for batch in pq.ParquetFile(path).iter_batches(64):
        for row in batch.to_pylist():
            yield row["utterance_id"], decode(row["audio"]["bytes"])


def long_term_spectrum(clips: Iterable[np.ndarray]) -> np.ndarray:
    """Return the power of clips by frequency, summed over frames: ``[513]`` from 0 to 8 kHz; zeros without clips.

    Args:
        clips: samples at 16 kHz
    """
    power = np.zeros(_FRAME // 2 + 1)
    for samples in clips:
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        power += (np.abs(np.fft.rfft(frames * np.hanning(_FRAME))) ** 2).sum(axis=0)
    return power


def shaped_noise(length: int, power: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise ``[length]`` in a spectrum, of any loudness.

    Args:
        length: samples
        power: by frequency, from 0 to half the sample rate
        generator: of the noise
    """
    spectrum = np.fft.rfft(generator.standard_normal(length))
    places = np.linspace(0, len(power) - 1, len(spectrum))
    return np.fft.irfft(spectrum * np.sqrt(np.interp(places, np.arange(len(power)), power)), length)


def add_noise(speech: np.ndarray, noise: np.ndarray, db: float) -> np.ndarray:
    """Return speech with noise so many dB under it, turned down as a whole where that would not fit into [-1, 1].

    Args:
        speech: ``[n]``; what is silent stays so, since no noise is under it
        noise: ``[n]``
        db: mean power of the speech over that of the noise
    """
    level = np.mean(np.square(speech, dtype=np.float64)) / max(np.mean(np.square(noise)), np.finfo(float).tiny)
    mixed = speech + noise * np.sqrt(level / 10 ** (db / 10))
    loudest = np.abs(mixed).max(initial=0.0)
    result: np.ndarray = (mixed * min(1.0, _FULL_SCALE / max(loudest, _FULL_SCALE))).astype(np.float32)
    return result


def _changed(corpus: Path, texts: Sequence[str | None], words: pl.Series, change: WordErrors) -> pl.Series:
    drawn_from = [word for text in words.drop_nulls() for word in text.split()]
    if not drawn_from:
        raise CorpusError(f"{corpus}: no transcripts in train that wrong words could be drawn from")
    changed = with_word_errors(texts, change.word_errors, drawn_from, np.random.default_rng(change.seed))
    return pl.Series(changed, dtype=pl.String)


def with_word_errors(
    texts: Sequence[str | None], rate: float, words: Sequence[str], generator: np.random.Generator
) -> list[str | None]:
    """Return texts with word errors, as many as the rate asks for; what loses all its words is None.

    Edits in one place can cancel each other, so they are made until the distance that is measured is the one asked for.

    Args:
        texts: None for one that is not there
        rate: edit distance over the number of words, both of all texts together
        words: that wrong and added ones are drawn from, each as often as it stands there
        generator: of places and words
    """
    truth = [(text or "").split() for text in texts]
    transcripts = [list(each) for each in truth]
    ends = np.cumsum([len(each) for each in truth])
    distances = np.zeros(len(truth), np.int64)
    total = sum(map(len, truth))
    wanted = round(rate * total)
    kinds = cycle((_substitute, _delete, _insert))
    # No edit changes a distance by more than one, so that this many more are never too many.
    while missing := wanted - int(distances.sum()):
        rows = np.searchsorted(ends, generator.integers(total, size=missing), side="right")
        for row, edit in zip(rows.tolist(), islice(kinds, missing), strict=True):
            edit(transcripts[row], words[int(generator.integers(len(words)))], generator)
        for row in set(rows.tolist()):
            distances[row] = edit_distance(truth[row], transcripts[row])
    changed = (distances > 0).tolist()
    triples = zip(texts, transcripts, changed, strict=True)
    return [" ".join(words) or None if is_new else text for text, words, is_new in triples]


def _substitute(words: list[str], new: str, generator: np.random.Generator) -> None:
    if words:
        words[generator.integers(len(words))] = new


def _delete(words: list[str], new: str, generator: np.random.Generator) -> None:
    if words:
        del words[generator.integers(len(words))]


def _insert(words: list[str], new: str, generator: np.random.Generator) -> None:
    words.insert(int(generator.integers(len(words) + 1)), new)
