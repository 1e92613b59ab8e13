"""The model card of a bundle: what the model is, what it was measured on, and how it is used."""

from collections.abc import Iterable, Mapping
from typing import Any

from emofuse.core.markdown import plain, table
from emofuse.core.schema import TERMS
from emofuse.inference.manifest import Manifest
from emofuse.inference.provenance import trained_on
from emofuse.models.registry import model as find_model

__all__ = ["model_card"]

_CARD = """# {task}/{model}

Emotion recognition in conversation: for each turn, probabilities of {classes}. Made with emofuse.

{choice}

## Use

```console
$ emofuse predict CONVERSATION --model THIS_FOLDER
```

```python
import emofuse
model = emofuse.load("THIS_FOLDER")
print(model.predict("CONVERSATION"))
```

A conversation is a recording, a folder of sound files, or a JSON or CSV file with `audio`, `text` and `speaker` for
each turn.
{fallbacks}

## Features

{features}

## Protocol

{protocol}

## Test scores

{scores}

## Limits

The model was {trained_on}.
Its numbers hold for that corpus's speakers, language, recordings and labels. It names what raters would call an
utterance, not what a person feels. Do not use it to judge people.

## Terms

The weights are derived from the corpus, so its terms apply to them: {terms}.
"""


def model_card(manifest: Manifest) -> str:
    """Return the card, Markdown."""
    weighted_f1 = f"weighted F1 {100 * manifest.dev['weighted_f1']:.1f} there"
    return _CARD.format(
        task=plain(manifest.task),
        model=plain(manifest.model),
        classes=plain(", ".join(manifest.classes)),
        trained_on=plain(trained_on(manifest)),
        fallbacks=_fallbacks(manifest),
        terms=plain("; ".join(sorted({_terms(each.identity) for each in manifest.features.values()}))),
        choice=f"Seed {manifest.seed}, fold {manifest.fold}: of {manifest.runs} runs the best on dev ({weighted_f1}).",
        features=_table(("modality", "encoder", "options"), map(_encoder, manifest.features.items())),
        protocol=_protocol(manifest.protocol),
        scores=_scores(manifest.scores),
    )


def _fallbacks(manifest: Manifest) -> str:
    """What answers where something is missing, as :class:`emofuse.inference.model.Model` has it."""
    reads = find_model(manifest.model).modalities
    computed = [each for each in reads if manifest.features[each].family != "published"]  # type: ignore[index]
    sentences = [
        f"Its {each} features are values that others published, which cannot be computed from a recording."
        for each in reads
        if each not in computed
    ]
    if len(computed) == 2:
        sentences.append(
            "Where no turn has a transcript, the audio network answers alone, and says so; where none has sound, the "
            "text network does."
        )
    elif computed and len(reads) == 2:
        sentences.append(
            f"So the {computed[0]} network answers alone, and says so; without {_NEEDS[computed[0]]} none can."
        )
    elif computed:
        sentences.append(f"The model reads {_NEEDS[computed[0]]} alone, and cannot answer without.")
    else:
        sentences.append("So it cannot answer for new recordings.")
    return " ".join(sentences)


_NEEDS = {"audio": "sound", "text": "transcripts"}


def _terms(identity: Mapping[str, Any]) -> str:
    return str(identity.get(TERMS) or "those of its owner, which the features do not name")


def _encoder(item: tuple[str, Any]) -> tuple[str, str, str]:
    modality, features = item
    identity = features.identity
    labels = "has seen emotion labels" if identity.get("labels_seen") else "has seen no emotion labels"
    options = ", ".join(f"{name} {value}" for name, value in features.options.items())
    return modality, f"{identity.get('id')} at revision {identity.get('revision')}, {labels}", options


def _protocol(protocol: Mapping[str, Any] | None) -> str:
    if protocol is None:
        return "Not known: the model was not scored when this bundle was written."
    shown = {
        name: value
        for name, value in protocol.items()
        if name not in ("features", "models", "utterances_without_features")
    }
    rows = ((name.replace("_", " "), _plain(value)) for name, value in shown.items())
    return _table(("", ""), rows)


def _scores(scores: Mapping[str, Mapping[str, Any]] | None) -> str:
    if scores is None:
        return "None: the model was not scored when this bundle was written."
    rows = [
        (
            name.replace("_", " ").replace("f1", "F1"),
            *(_percent(each[key]) for key in ("mean", "sd", "low", "high")),
            f"{each['n_runs']:g}",
        )
        for name, each in scores.items()
    ]
    listed = _table(("metric", "mean", "sd", "low", "high", "runs"), rows)
    return f"Percent, over all runs of the model and not this one alone; low and high bound the interval.\n\n{listed}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return (", ".join(map(_plain, value)) or "nothing") if isinstance(value, list) else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return table(header, ["---"] * len(header), rows)
