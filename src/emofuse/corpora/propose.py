"""A first parameter file for a corpus of your own, made from its table or file names."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from emofuse.core.files import write_text
from emofuse.core.params import validate
from emofuse.core.schema import SPLITS
from emofuse.corpora import own
from emofuse.corpora.base import Corpus, CorpusError, Utterance
from emofuse.corpora.naming import Scheme, guess, split_values

__all__ = ["Proposal", "propose", "write_corpus"]

_LEAST_PER_CLASS = 10
"""Labels that stand less often are left to the owner to group or to leave out."""

_SHARE = 0.2
"""Of the speakers that dev and test get each, at least one."""

_FEW = 50
"""With fewer speakers a fifth of them is too few for an interval over speakers: each is tested once, in folds."""

_FOLDS = 5

_TRIES = 200


@dataclass(frozen=True)
class Proposal:
    """What a corpus's files tell.

    Attributes:
        name: of the corpus
        source: its folder, from the project's root folder
        scheme: of its files' names; None where a table says what they are
        options: of its reader, without splits
        corpus: as its reader gives it with these options
        splits: the section ``splits`` of its task, or of the reader's options where groups are dialogues
        rare: labels that no class takes, since they stand too seldom, with their counts
        remarks: what was decided and could be decided otherwise, one sentence each
    """

    name: str
    source: str
    scheme: Scheme | None
    options: Mapping[str, Any]
    corpus: Corpus
    splits: Mapping[str, Any] | str
    rare: Mapping[str, int]
    remarks: Sequence[str]


def propose(name: str, folder: Path, *, names: str | None = None, folds: int | None = None) -> Proposal:
    """Read a folder and propose how to read, label and split it.

    Args:
        name: of the corpus
        folder: the corpus's, anywhere
        names: pattern of the files' paths, where it is known; see :mod:`emofuse.corpora.own`
        folds: into how many each speaker is test once, or 1 for some once and for all; by default 1 for many speakers
            and five for few

    Raises:
        CorpusError: there is no folder, no sound, or no table and no pattern that is known or can be guessed
        ParamsError: the given pattern is no regular expression, or names what is no column
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one with utterances.csv or sound files")
    scheme = None
    if names is not None:
        scheme = Scheme("as given", names)
    elif not any((folder / table).exists() for table in ("utterances.csv", "utterances.parquet")):
        sounds = own.sound_names(folder)
        if not sounds:
            raise CorpusError(f"{folder}: no utterances.csv, utterances.parquet or sound files in it")
        scheme = guess(sounds)
        if scheme is None:
            raise CorpusError(
                f"{folder}: no utterances.csv, and no known pattern fits the file names; give one with --names, "
                "such as '(?P<label>[^/]+)/.*' for a folder per label, see docs/how-to/corpus.md, or write the table"
            )
    options: dict[str, Any]
    if scheme is not None:
        options = {"names": scheme.pattern, "values": {key: dict(each) for key, each in scheme.values.items()}}
    else:
        options = _options_of(own.table(folder)[1])
    corpus = own.read(folder, validate(options, own.Config, "--names" if names else "corpus.options"))
    counts = Counter(each.label for each in corpus.utterances if each.label)
    if len(counts) < 2:
        raise CorpusError(f"{folder}: {len(counts)} labels; expected at least two, in a column or group `label`")
    rare = {label: count for label, count in sorted(counts.items()) if count < _LEAST_PER_CLASS}
    if len(counts) - len(rare) < 2:
        listed = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
        raise CorpusError(f"{folder}: expected {_LEAST_PER_CLASS} utterances of two labels at least; found {listed}")
    kept = [each for each in corpus.utterances if each.label and each.label not in rare]
    splits, remark = _splits(kept, corpus.utterances, folds)
    if folds not in (None, 1) and (isinstance(splits, str) or splits["test"] != "each"):
        raise CorpusError(f"{folder}: no folds can be made, since {remark}; leave out --folds")
    remarks = [remark]
    if ignored := options.get("ignore"):
        remarks.append(f"columns of other names are not read: {', '.join(each or '(no name)' for each in ignored)}")
    if rare:
        listed = ", ".join(f"{label} {count}" for label, count in rare.items())
        remarks.append(f"labels with fewer than {_LEAST_PER_CLASS} utterances are left out: {listed}")
    if not any(each.audio for each in corpus.utterances):
        remarks.append("there is no sound yet, without which features cannot be extracted; it belongs in audio/")
    if not any(each.text for each in corpus.utterances):
        remarks.append("there is no text, so models that read text alone predict the same for every utterance")
    return Proposal(name, f"data/raw/{name}", scheme, options, corpus, splits, rare, tuple(remarks))


def _options_of(table: pl.DataFrame) -> dict[str, Any]:
    """The options that a table is read with: columns to skip, and the meaning of other words for splits."""
    options: dict[str, Any] = {}
    other = [each for each in table.columns if each not in own.COLUMNS]
    # Without the columns that a corpus needs, others may be these, misspelt.
    if other and "label" in table.columns and {"utterance_id", "audio"} & set(table.columns):
        options["ignore"] = other
    if "split" in table.columns:
        meanings = split_values([str(each or "") for each in table["split"]])
        if not set(meanings) <= set(SPLITS) and None not in meanings.values():
            options["values"] = {"split": meanings}
    return options


def write_corpus(proposal: Proposal, folder: Path, root: Path = Path()) -> Path:
    """Write ``corpora/<name>/``, the parameter file and a copy of the graph, and link the corpus into ``data/raw``.

    Args:
        proposal: what :func:`propose` gave
        folder: the corpus's
        root: the project's root folder

    Returns:
        the parameter file

    Raises:
        CorpusError: there is a corpus of that name already, or something else lies where its link belongs
    """
    place, raw = root / "corpora" / proposal.name, root / proposal.source
    if place.exists():
        raise CorpusError(f"{place}: there is a corpus of that name; choose another, or remove that folder")
    if raw.exists() or raw.is_symlink():
        if raw.resolve() != folder.resolve():
            raise CorpusError(f"{raw}: already exists and is not {folder}; choose another name")
    else:
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.symlink_to(folder.resolve(), target_is_directory=True)
    place.mkdir(parents=True)
    shutil.copyfile(root / "dvc.yaml", place / "dvc.yaml")
    write_text(place / "params.yaml", "\n".join(_lines(proposal)) + "\n")
    return place / "params.yaml"


def _splits(
    kept: Sequence[Utterance], everything: Sequence[Utterance], folds: int | None
) -> tuple[Mapping[str, Any] | str, str]:
    if all(each.split for each in everything):
        found = {each.split for each in everything}
        if missing := [name for name in SPLITS if name not in found]:
            raise CorpusError(
                f"no utterance's split is {' or '.join(missing)}; move some there, whole speakers or dialogues if they "
                "are known; without splits in the table or the pattern (--names) they are drawn"
            )
        return "official", "splits are the corpus's own"
    reason = "no three speakers or sessions are known"
    for by in ("speaker", "session"):
        groups = sorted({str(getattr(each, by)) for each in everything if getattr(each, by)})
        lacking = sum(not getattr(each, by) for each in everything)
        if len(groups) < 3:
            continue
        if lacking:
            reason = f"{lacking} of {len(everything)} utterances have no {by}"
            continue
        if _crossed(everything, by):
            reason = "dialogues share speakers and sessions"
            continue
        number = folds or (_FOLDS if len(groups) < _FEW else 1)
        return _in_folds(kept, by, groups, number) if number > 1 else _once(kept, by, groups)
    splits, whole = _by_dialogue(kept, everything)
    n_test = int(_SHARE * len({each.dialogue_id for each in everything}))
    few = "; with one test dialogue there are no intervals" if n_test < 2 else ""
    return splits, (
        f"{reason}, so whole dialogues are drawn for dev and test; a speaker may be in several splits"
        f"{few}{_lacking(whole)}"
    )


def _by_dialogue(kept: Sequence[Utterance], everything: Sequence[Utterance]) -> tuple[Mapping[str, Any], bool]:
    """Draw dialogues until every class is in every split, and say whether it is."""
    dialogues = sorted({each.dialogue_id for each in everything})
    wanted = {(split, each.label) for split in SPLITS for each in kept}
    shares: dict[str, Any] = {"by": "dialogue", "dev": _SHARE / 2, "test": _SHARE}
    if len(dialogues) < len(SPLITS):
        return shares, False
    for draw in range(_TRIES):
        splits = shares | {"draw": draw}
        chosen = own.assign(dialogues, own.Splits(**splits), "")
        if wanted == {(chosen[each.dialogue_id], each.label) for each in kept}:
            return splits, True
    return shares, False


def _crossed(utterances: Sequence[Utterance], by: str) -> bool:
    """Whether a dialogue is of several groups, so that splits by these would tear it."""
    return len({(each.dialogue_id, getattr(each, by)) for each in utterances}) > len(
        {each.dialogue_id for each in utterances}
    )


def _once(kept: Sequence[Utterance], by: str, groups: Sequence[str]) -> tuple[Mapping[str, Any], str]:
    size = max(1, int(_SHARE * len(groups)))
    (dev, test, _), whole = _drawn(
        kept, by, groups, lambda order: (order[:size], order[size : 2 * size], order[2 * size :])
    )
    chosen = f"{by}s {', '.join(dev)} are dev and {', '.join(test)} test, so that no {by} is in two splits"
    return {"by": by, "dev": dev, "test": test}, chosen + _lacking(whole)


def _in_folds(kept: Sequence[Utterance], by: str, groups: Sequence[str], folds: int) -> tuple[Mapping[str, Any], str]:
    number = min(folds, len(groups))
    parts, whole = _drawn(kept, by, groups, lambda order: [order[place::number] for place in range(number)])
    rule = f"each {by} is tested once, in {number} folds, and no {by} is in two splits"
    together = {"together": sorted(parts)} if number < len(groups) else {}
    return {"by": by, "dev": "next", "test": "each"} | together, rule + _lacking(whole)


def _lacking(whole: bool) -> str:
    return "" if whole else "; some class is missing in dev or test, so choose other groups or fewer classes"


def _drawn(
    kept: Sequence[Utterance], by: str, groups: Sequence[str], deal: Callable[[list[str]], Sequence[list[str]]]
) -> tuple[list[list[str]], bool]:
    """Deal groups many times, keep the parts whose rarest class is the least rare, and say whether none is missing."""
    classes = {each.label for each in kept}
    counts = {group: Counter(each.label for each in kept if str(getattr(each, by)) == group) for group in groups}
    best: tuple[int, Sequence[list[str]]] = (-1, [])
    for draw in range(_TRIES):
        parts = deal(sorted(groups, key=lambda group: hashlib.sha256(f"{draw} {group}".encode()).digest()))
        totals = [sum((counts[group] for group in part), Counter()) for part in parts]
        rarest = min(total[name] for total in totals for name in classes)
        if rarest > best[0]:
            best = (rarest, parts)
    return [sorted(part) for part in best[1]], best[0] > 0


def _lines(proposal: Proposal) -> Iterator[str]:
    """The parameter file, line by line: block style and a comment a key, so that a sweep leaves it as it is."""
    name, corpus = proposal.name, proposal.corpus
    labels = Counter(each.label for each in corpus.utterances if each.label)
    yield f"# {name}: the corpus, its tasks, and what is run. The root's params.yaml has what all corpora share."
    yield f"# `emofuse corpus check {name}` shows the effect of a change before anything is encoded."
    yield from ("", "root: ../..", f"file: corpora/{name}/params.yaml", "")
    yield from ("corpus:", f"  name: {name}", "  reader: own", f"  source: {proposal.source}")
    language = proposal.scheme.language if proposal.scheme else None
    yield f"  language: {_value(language)}  # what is spoken, which predictions and model cards name; null for unknown"
    yield "  shards: 4  # files for audio and features; one per half hour of sound is a good number"
    yield "  max_seconds: 40.0  # longer clips are cut there and listed"
    yield "  max_defective: 0.01  # share of utterances with a defect above which the first stage fails"
    yield "  terms: those of its owner  # terms of use, written into every file that is made from the corpus"
    yield from _options(proposal)
    yield from (
        "",
        "tasks:",
        f"  {name}:",
        "    classes:  # class: its labels; other labels count as unlabelled",
    )
    for label in sorted(set(labels) - set(proposal.rare)):
        yield from (f"      {_key(label)}:  # {labels[label]:,} utterances", f"      - {_key(label)}")
    speakers = "disjoint" if not isinstance(proposal.splits, str) and proposal.splits["by"] == "speaker" else "shared"
    in_folds = not isinstance(proposal.splits, str) and proposal.splits.get("test") == "each"
    yield "    seeds: 3  # runs of each model in each fold" if in_folds else "    seeds: 5  # runs of each model"
    yield "    context: full  # the whole dialogue, or causal: only the turns before"
    yield "    unlabelled: keep  # keep turns without a label as context, or drop them"
    yield f"    speakers: {speakers}  # disjoint: a speaker in two splits is an error; shared: it is not"
    yield "    transcript: unknown  # where the words come from, for the protocol"
    yield from _task_splits(proposal)
    yield from ("", f"run:  # what `dvc repro corpora/{name}/dvc.yaml` runs, all by name")
    yield from ("  tasks:", f"  - {name}", "  audio:  # encoders; `emofuse encoders` lists them", "  - whisper-tiny")
    yield from ("  text:", "  - minilm", "  models:", "    features:", "    - majority", "    - linear", "    - cma")
    yield from ("    networks:", "    - concat", "    - late", "    - hcam", "    - hbaf", "    ablations: []")
    yield from ("  conditions:", "    audio: []", "    text: []", "    both: []", "  external: []")


def _options(proposal: Proposal) -> Iterator[str]:
    by_dialogue = not isinstance(proposal.splits, str) and proposal.splits["by"] == "dialogue"
    options = proposal.options
    if not options and not by_dialogue:
        return
    yield "  options:"
    if "ignore" in options:
        yield "    ignore:  # columns that are not read"
        yield from (f"    - {_quoted(each)}" for each in options["ignore"])
    if proposal.scheme is not None:
        yield f"    names: {_quoted(options['names'])}  # {proposal.scheme.title}"
    if options.get("values"):
        yield "    values:  # what the codes mean; null for unknown"
        for column, meanings in options["values"].items():
            yield f"      {column}:"
            yield from (f"        {_key(code)}: {_value(meaning)}" for code, meaning in meanings.items())
    if by_dialogue:
        yield "    splits:  # shares of all dialogues; each number as `draw` draws others"
        yield from (f"      {key}: {value}" for key, value in dict(proposal.splits).items())  # type: ignore[arg-type]


def _task_splits(proposal: Proposal) -> Iterator[str]:
    splits = proposal.splits
    if isinstance(splits, str) or splits["by"] == "dialogue":
        yield "    splits: official  # the corpus's own"
        return
    yield from ("    splits:", f"      by: {splits['by']}")
    for part in ("dev", "test"):
        if isinstance(splits[part], str):
            yield f"      {part}: {splits[part]}"
        else:
            yield from (f"      {part}:", *(f"      - {_quoted(each)}" for each in splits[part]))
    if "together" in splits:
        yield f"      together:  # {splits['by']}s that are tested in one fold, and are dev in the fold before"
    for part in splits.get("together", ()):
        yield from (f"      {'  ' if place else '- '}- {_quoted(each)}" for place, each in enumerate(part))


def _key(text: str) -> str:
    """A key of YAML: as it is where nothing could misread it, else in quotes."""
    return text if text.isidentifier() and isinstance(yaml.safe_load(text), str) else _quoted(text)


def _value(text: str | None) -> str:
    return "null" if text is None else _key(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
