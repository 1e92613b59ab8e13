"""The model card of a bundle: what the model is, what it was measured on, and how it is used."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emofuse.inference.bundle import Manifest

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

A conversation is a folder of sound files, or a JSON or CSV file with `audio`, `text` and `speaker` for each turn. Where
no turn has a transcript, the audio network answers alone, and says so; where none has sound, the text network does.

## Features

{features}

## Protocol

{protocol}

## Test scores

{scores}

## Limits

The model was trained on one corpus, and its numbers hold for that corpus's speakers, language, recordings and labels;
on others they have to be measured again. It names what raters would call an utterance, not what a person feels. Do not
use it to judge people. The weights are derived from the corpus, whose owner's terms apply to them.
"""


def model_card(manifest: "Manifest") -> str:
    """Return the card, Markdown."""
    weighted_f1 = f"weighted F1 {100 * manifest.dev['weighted_f1']:.1f} there"
    return _CARD.format(
        task=manifest.task,
        model=manifest.model,
        classes=", ".join(manifest.classes),
        choice=f"Seed {manifest.seed}, fold {manifest.fold}: of {manifest.runs} runs the best on dev ({weighted_f1}).",
        features=_table(("modality", "encoder", "options"), map(_encoder, manifest.features.items())),
        protocol=_protocol(manifest.protocol),
        scores=_scores(manifest.scores),
    )


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
    table = _table(("metric", "mean", "sd", "low", "high", "runs"), rows)
    return f"Percent, over all runs of the model and not this one alone; low and high bound the interval.\n\n{table}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return (", ".join(map(_plain, value)) or "nothing") if isinstance(value, list) else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
