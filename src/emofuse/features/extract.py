"""Extraction: a corpus through a frozen encoder, shard by shard, each shard once."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from emofuse import encoders
from emofuse.core.files import digest, readable_size
from emofuse.core.params import STRICT
from emofuse.core.process import quiet
from emofuse.core.store import Entry, Store, link
from emofuse.encoders import Encoder, EncoderError
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.features.contents import Shard, list_shards, terms
from emofuse.features.executors import Executor, ExecutorError, Recipe, local, on_ray, version
from emofuse.features.shards import defects, write_cut
from emofuse.features.storage import Storage

__all__ = ["ExtractConfig", "Extracted", "extract"]

_KIND = "features"

_SHOWN = 5
"""Defective utterances that the summary names of each kind; the scores say how many there are."""


@dataclass(frozen=True, config=STRICT)
class ExtractConfig:
    """How the work of all extractions is spread; no part of what makes a feature.

    Attributes:
        executor: this machine, or a Ray cluster
        threads: processor threads of one encoder; the last bits of a sum depend on their number
        workers: encoders side by side on this machine; 0 for as many as its GPUs or cores can take
        storage: folder or URL where the machines of a cluster leave finished shards; null without a cluster
    """

    executor: Literal["local", "ray"] = "local"
    threads: Annotated[int, Field(ge=1)] = 2
    workers: Annotated[int, Field(ge=0)] = 0
    storage: str | None = None


@plain_dataclass(frozen=True)
class Extracted:
    """What an extraction did.

    Attributes:
        encoded: number of utterances in shards that it encoded
        reused: number of utterances in shards that were finished before
        defects: ids of the utterances among both that have no features, by what is wrong with them; see
            :func:`emofuse.features.shards.defects`
        cut: ids of the utterances among both whose text is longer than the encoder reads
        seconds: wall-clock seconds
        bytes: size of all shards
        cost: what a type smaller than float32 changed in the features, as a share of their size, where it was measured:
            on the first contents of each process that encoded; the most of them
    """

    encoded: int
    reused: int
    defects: dict[str, list[str]]
    cut: list[str]
    seconds: float
    bytes: int
    cost: float | None = None

    @property
    def masked(self) -> int:
        """Number of utterances that have no features."""
        return sum(map(len, self.defects.values()))

    def __str__(self) -> str:
        counts = f"{self.encoded} utterances encoded, {self.reused} reused, {self.masked} defective and masked"
        cost = "" if self.cost is None else f"; the smaller type changed features by {self.cost:.2%} of their size"
        by_kind = self.defects | ({"cut": self.cut} if self.cut else {})
        listed = [f"\n{kind}: {len(ids)}, such as {', '.join(ids[:_SHOWN])}" for kind, ids in by_kind.items()]
        return f"{counts}, {self.seconds:.1f} s, {readable_size(self.bytes)}{cost}{''.join(listed)}"


@plain_dataclass(frozen=True)
class _Done:
    """A shard with its entry in the store, whether this call encoded it, and what its encoder says of its ``cost``."""

    shard: Shard
    entry: Entry
    is_new: bool = False
    cost: float | None = None


def extract(
    name: str,
    config: EncoderConfig,
    how: ExtractConfig,
    shards: int,
    corpus: Path,
    out: Path,
    store: Store,
    modality: str | None = None,
) -> Extracted:
    """Encode what the store does not have yet and link all shards into ``out``.

    Args:
        name: of the encoder in the catalogue
        config: its entry there
        how: where to encode it
        shards: number of shards, as the corpus was ingested
        corpus: the corpus's folder
        out: folder for the shards
        store: where finished shards are kept
        modality: what the features are to stand for; None for whatever the encoder reads

    Raises:
        EncoderError: the encoder cannot be loaded, or is of the other modality
        ExecutorError: a worker or the cluster is lost
        FeatureError: what the encoder yields does not fit a shard
    """
    start = time.perf_counter()
    where = f"encoders.{name}.options"
    encoder = encoders.load(config.family, config.options, where)
    if modality not in (None, encoder.modality):
        raise EncoderError(
            f"{name} encodes {encoder.modality}; name it under run.{encoder.modality}, not run.{modality}"
        )
    owners = terms(corpus)
    recipe = Recipe(config.family, config.options, where, owners, version(encoder, owners), how.threads)
    planned = list_shards(encoder.reads, corpus, shards)
    out.mkdir(parents=True, exist_ok=True)
    for stale in {each.name for each in out.glob("shard-*.parquet")} - {each.file for each in planned}:
        (out / stale).unlink()
    encoded, costs = 0, []
    for done in _entries(name, planned, recipe, encoder, how, store):
        link(done.entry, out)
        encoded += done.is_new * len(done.shard.ids)
        costs += [done.cost] if done.cost is not None else []
    cut = _cut(encoder, planned)
    write_cut(out, cut)
    files = [out / each.file for each in planned]
    size = sum(each.stat().st_size for each in files)
    utterances = sum(len(each.ids) for each in planned)
    seconds = time.perf_counter() - start
    return Extracted(encoded, utterances - encoded, defects(out), cut, seconds, size, max(costs, default=None))


def _entries(
    name: str, planned: Sequence[Shard], recipe: Recipe, encoder: Encoder, how: ExtractConfig, store: Store
) -> Iterator[_Done]:
    """Yield what was done of each shard: the finished ones, then others."""
    missing: list[tuple[str, Shard]] = []
    for shard in planned:
        key = digest([recipe.version, shard.file, shard.ids, shard.digests])
        found = store.find(_KIND, key)
        if found:
            yield _Done(shard, found)
        else:
            missing.append((key, shard))
    if not missing:
        return
    with (
        _progress(name, planned, [shard for _, shard in missing]) as progress,
        _executor(recipe, encoder, how) as executor,
        ThreadPoolExecutor(executor.width) as threads,
    ):
        futures = [threads.submit(_ensure, store, executor, key, shard) for key, shard in missing]
        try:
            for future in as_completed(futures):
                done = future.result()
                progress(done.shard)
                yield done
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # What is in work is finished and kept.
            raise


def _cut(encoder: Encoder, planned: Sequence[Shard]) -> list[str]:
    """Return the ids of texts that are longer than the encoder reads, those of shards that were finished before too."""
    most = encoder.identity.get("max_tokens")
    if most is None:
        return []
    return [
        each
        for shard in planned
        for each, text in zip(shard.present, shard.contents(), strict=True)
        if encoder.count_tokens(text) > most  # type: ignore[attr-defined]  # of those that say ``max_tokens``
    ]


def _ensure(store: Store, executor: Executor, key: str, shard: Shard) -> _Done:
    is_new, cost = False, None

    def make(folder: Path) -> None:
        nonlocal is_new, cost
        data = executor.finished(key)
        if data is None:
            encoded = executor.encode(key, shard)
            data, is_new, cost = encoded.data, True, encoded.cost
        (folder / shard.file).write_bytes(data)

    return _Done(shard, store.ensure(_KIND, key, make), is_new, cost)


def _executor(recipe: Recipe, encoder: Encoder, how: ExtractConfig) -> AbstractContextManager[Executor]:
    if how.executor == "local":
        return local(recipe, encoder, how.workers)
    if how.storage is None:
        raise ExecutorError("extract.storage: null; ray needs a folder that all its machines share, or a URL")
    return on_ray(recipe, Storage(how.storage))


@contextmanager
def _progress(name: str, planned: Sequence[Shard], missing: Sequence[Shard]) -> Iterator[Any]:
    """Show clips, hours, rate and time left; yields what is called with each shard that was missing."""
    clips = sum(len(each.ids) for each in planned)
    known = clips - sum(len(each.ids) for each in missing)
    hours = sum(each.seconds for each in planned) / 3600
    done = hours - sum(each.seconds for each in missing) / 3600
    # The average rate, since clips arrive by the shard.
    with tqdm(desc=name, total=clips, initial=known, unit="clip", smoothing=0, disable=quiet()) as bar:

        def advance(shard: Shard) -> None:
            nonlocal done
            done += shard.seconds / 3600
            bar.set_postfix_str(f"{done:.2f} of {hours:.2f} h", refresh=False)
            bar.update(len(shard.ids))

        yield advance
