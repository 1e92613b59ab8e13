"""Features under a condition: noise, word errors, found turns, or a missing modality.

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

**Found** turns and words stand in place of the corpus's own; see :mod:`emofuse.robustness.found_turns`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from torchaudio.functional import edit_distance

from emofuse.audio.clips import Clip, prepare
from emofuse.audio.sound import Sound
from emofuse.core import schema
from emofuse.core.files import write_json, write_table
from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.corpora.base import CorpusError
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.features.extract import ExtractConfig, Extracted, extract
from emofuse.plan import Plan
from emofuse.robustness.conditions import MEASURED, Change, Found, Noise, WordErrors, read_condition
from emofuse.robustness.found_turns import word_error_rate
from emofuse.robustness.listening import audio_shards, listen, measure, read_clips, spread

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
    change = read_condition(params, condition, "both" if condition in plan.run.conditions.both else modality)
    config = params.get(f"encoders.{encoder}", EncoderConfig)
    if change != "missing" and config.family == "published":
        raise CorpusError(f"condition {condition}: {encoder} has published values; they can only be missing")
    how, shards = params.get("extract", ExtractConfig), params.get("corpus.shards", int)
    with TemporaryDirectory(prefix="emofuse-") as folder:
        corpus = Path(folder)
        measured = corrupt(layout.corpus(plan.corpus), change, corpus, store, modality)
        out = layout.corrupted(plan.corpus, condition, encoder)
        extracted = extract(encoder, config, how, shards, corpus, out, store, modality)
        if measured:
            write_json(out / MEASURED, measured)
        return extracted


def corrupt(corpus: Path, change: Change, out: Path, store: Store, modality: str) -> dict[str, float | None]:
    """Write the test split of a corpus under a condition; all of a corpus that has no splits of its own.

    Args:
        corpus: the corpus's folder
        change: what is done to it
        out: empty folder for ``utterances.parquet``, ``audio/`` and ``tables/``
        store: where found words are kept
        modality: that is wanted of it, where both are changed

    Returns:
        what was measured of changed words

    Raises:
        CorpusError: the corpus has nothing that could be changed so
    """
    table = pq.read_table(corpus / "utterances.parquet")
    whole = pl.DataFrame(table)
    has_splits = "test" in set(whole["split"])
    chosen = whole.filter(pl.col("split") == "test") if has_splits else whole
    if isinstance(change, WordErrors | Found):
        chosen = spread(chosen, change.dialogues)
    bare = chosen.with_columns(text=pl.lit(None, pl.String), audio_sha256=pl.lit(None, pl.String), n_samples=None)
    measured: dict[str, float | None] = {}
    if isinstance(change, Noise):
        rows = _with_noise(corpus, bare, change, out / "audio")
    elif isinstance(change, WordErrors):
        words = whole.filter(pl.col("split") == "train") if has_splits else whole
        rows = bare.with_columns(text=_changed(corpus, chosen["text"].to_list(), words["text"], change))
        measured = {"word_error_rate": word_error_rate(chosen["text"].to_list(), rows["text"].to_list())}
    elif isinstance(change, Found):
        heard = listen(corpus, chosen, change, store, words=modality == "text")
        if modality == "audio":
            rows = _with_clips(bare, [_write(out / "audio" / each.file, each.sounds()) for each in heard])
        else:
            texts = {name: text for each in heard for name, text in each.texts().items()}
            rows = bare.with_columns(
                text=pl.Series([texts.get(name) for name in bare["utterance_id"]], dtype=pl.String)
            )
            measured = measure(chosen, heard)
    else:
        rows = bare
        for path in (corpus / "tables").glob("*.parquet"):
            write_table(out / "tables" / path.name, pq.read_table(path).slice(0, 0))
    described = schema.conform(rows.to_arrow(), schema.UTTERANCES, str(corpus))
    write_table(out / "utterances.parquet", described.replace_schema_metadata(table.schema.metadata))
    return measured


def _with_noise(corpus: Path, bare: pl.DataFrame, change: Noise, out: Path) -> pl.DataFrame:
    own = set(bare["utterance_id"])
    spectrum = long_term_spectrum(samples for name, samples in _clips(corpus) if name not in own)
    if not spectrum.any():
        spectrum = long_term_spectrum(samples for _, samples in _clips(corpus))
    if not spectrum.any():
        raise CorpusError(f"{corpus}: no sound in it that noise could be added to")

    def noisy(name: str, samples: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng([change.seed, *hashlib.sha256(name.encode()).digest()])
        return add_noise(samples, shaped_noise(len(samples), spectrum, generator), change.noise_db)

    clips = [
        _write(out / path.name, {n: noisy(n, each) for n, each in read_clips(path) if n in own})
        for path in audio_shards(corpus)
    ]
    return _with_clips(bare, clips)


def _write(path: Path, sounds: Mapping[str, np.ndarray]) -> dict[str, Clip]:
    """Write a shard of sound, and return its clips."""
    clips = {
        name: prepare(Sound(name, samples[None], schema.SAMPLE_RATE), len(samples) / schema.SAMPLE_RATE + 1)
        for name, samples in sounds.items()
    }
    rows = [
        {"utterance_id": name, "audio": {"bytes": clip.data, "path": f"{name}.flac"}} for name, clip in clips.items()
    ]
    write_table(path, pa.Table.from_pylist(rows, schema.AUDIO), compression="none")
    return clips


def _with_clips(bare: pl.DataFrame, shards: Iterable[Mapping[str, Clip]]) -> pl.DataFrame:
    rows = [(name, clip.sha256, clip.n_samples) for clips in shards for name, clip in clips.items()]
    stored = pl.DataFrame(
        rows, {"utterance_id": pl.String, "audio_sha256": pl.String, "n_samples": pl.Int64}, orient="row"
    )
    return bare.drop("audio_sha256", "n_samples").join(stored, on="utterance_id", how="left", maintain_order="left")


def _clips(corpus: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in audio_shards(corpus):
        yield from read_clips(path)


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
