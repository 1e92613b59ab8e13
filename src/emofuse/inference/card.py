"""The model card of a bundle, in the form of Hugging Face."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from emofuse.core.markdown import plain, table
from emofuse.core.percent import in_percent
from emofuse.core.schema import TERMS
from emofuse.inference.manifest import Manifest
from emofuse.inference.provenance import SYNTHETIC, corpus_of, trained_on
from emofuse.models.registry import base_name
from emofuse.models.registry import model as find_model
from emofuse.scoring.literature import paper

__all__ = ["model_card"]

_CARD = """---
{front}
---

# {task}/{model}

Emotion recognition in conversation: for each turn, probabilities of {classes}. {system}. Made with emofuse.

{choice}

## How to use

```console
$ emofuse predict CONVERSATION --model THIS_FOLDER
```

```python
import emofuse

model = emofuse.load("THIS_FOLDER")
for turn in model.predict("CONVERSATION").turns:
    print(turn.emotion, turn.probabilities)
```

A conversation is a recording, a folder of sound files, or a JSON or CSV file with `audio`, `text` and `speaker` for
each turn.
{fallbacks}

## Training data

{data}

{features}

## Training

{protocol}

## Evaluation

{scores}

## Intended use

Research on emotion recognition in conversation, and comparison with other models on the same corpus and protocol.

## Limits

The model was {trained_on}.
Its scores hold for the speakers, language, recordings and labels of that corpus. It predicts how raters would label an
utterance, not what a person feels. Do not use it to judge people.

Emotion recognition is regulated in some places. In the European Union, Article 5(1)(f) of the Artificial
Intelligence Act (Regulation (EU) 2024/1689) prohibits AI systems that infer the emotions of people at the workplace and
in education institutions, except for medical or safety reasons; other uses may be high-risk or have to be disclosed.
This is a pointer, not legal advice.

## Terms

The weights are derived from the corpus, so its terms apply to them: {terms}.

## Citation

{citation}
"""

_CODES = {
    **{"Arabic": "ar", "Chinese": "zh", "Dutch": "nl", "English": "en", "French": "fr", "German": "de", "Greek": "el"},
    **{"Hindi": "hi", "Italian": "it", "Japanese": "ja", "Korean": "ko", "Mandarin": "zh", "Persian": "fa"},
    **{"Polish": "pl", "Portuguese": "pt", "Russian": "ru", "Spanish": "es", "Turkish": "tr", "Urdu": "ur"},
}
"""Of languages, as the hub names them; others are left out of the front matter."""

_LICENSES = {"demo": "mit"}
"""Of models by their corpus, as the hub calls them; of others the terms say what holds."""

_TAGS = ("emotion-recognition", "emotion-recognition-in-conversation")

_METRICS = {
    "weighted_f1": ("f1", "Weighted F1", {"average": "weighted"}),
    "macro_f1": ("f1", "Macro F1", {"average": "macro"}),
    "accuracy": ("accuracy", "Accuracy", None),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy", None),
}
"""What the front matter has of the test scores: type, name and arguments by metric."""

_HUB = re.compile(r"[\w.-]+/[\w.-]+")
"""A model of the hub, by its owner and name."""


def model_card(manifest: Manifest) -> str:
    """Return the card, Markdown with YAML in front."""
    weighted_f1 = f"weighted F1 {in_percent(manifest.dev['weighted_f1'])} there"
    return _CARD.format(
        front=_front(manifest),
        task=plain(manifest.task),
        model=plain(manifest.model),
        system=_system(manifest.model),
        classes=plain(", ".join(manifest.classes)),
        trained_on=plain(trained_on(manifest)),
        fallbacks=_fallbacks(manifest),
        terms=plain("; ".join(_all_terms(manifest))),
        choice=f"Seed {manifest.seed}, fold {manifest.fold}: of {manifest.runs} runs the best on dev ({weighted_f1}).",
        data=_data(manifest),
        features=_table(("modality", "encoder", "options"), map(_encoder, manifest.features.items())),
        protocol=_protocol(manifest.protocol),
        scores=_scores(manifest.scores),
        citation=_citation(manifest.model),
    )


def _front(manifest: Manifest) -> str:
    """What the hub reads of a model, YAML."""
    from huggingface_hub import ModelCardData

    corpus = corpus_of(manifest)
    name = corpus or manifest.task
    license_ = _LICENSES.get(name, "other")
    encoders = (str(each.identity.get("id")) for each in manifest.features.values())
    data = ModelCardData(
        language=_CODES.get(manifest.language or ""),
        license=license_,
        license_name=None if license_ != "other" else "terms-of-the-corpus",
        library_name="emofuse",
        tags=[*_TAGS, *_modality_tags(manifest), base_name(manifest.model)],
        pipeline_tag=_pipeline(manifest),
        datasets=None if corpus is None else [corpus],
        base_model=[each for each in encoders if _HUB.fullmatch(each)] or None,
        model_name=f"{manifest.task}/{manifest.model}",
        eval_results=_results(manifest, name) or None,
    )
    return data.to_yaml()


def _results(manifest: Manifest, corpus: str) -> list[Any]:
    """The scores on test, means over the model's runs."""
    from huggingface_hub import EvalResult

    scores = manifest.scores or {}
    return [
        EvalResult(
            task_type=_pipeline(manifest),
            task_name="Emotion recognition in conversation",
            dataset_type=corpus,
            dataset_name=f"{corpus}, {manifest.task}",
            dataset_split="test",
            metric_type=kind,
            metric_name=f"{title}, mean of {scores[metric]['n_runs']:g} runs",
            metric_value=scores[metric]["mean"],
            metric_args=arguments,
        )
        for metric, (kind, title, arguments) in _METRICS.items()
        if metric in scores
    ]


def _pipeline(manifest: Manifest) -> str:
    return "text-classification" if find_model(manifest.model).modalities == ("text",) else "audio-classification"


def _modality_tags(manifest: Manifest) -> list[str]:
    found = list(find_model(manifest.model).modalities)
    return [*found, "multimodal"] if len(found) > 1 else found


def _system(model: str) -> str:
    title = find_model(model).title
    without = f", without a part: the ablation {plain(model.partition('/')[2])}" if "/" in model else ""
    return f"{title[0].upper()}{title[1:]}{without}"


def _data(manifest: Manifest) -> str:
    """Which corpus the model has learned from, and how much of it."""
    from emofuse.corpora.listing import KNOWN

    corpus = corpus_of(manifest)
    if corpus is None:
        return "Unknown: the model had not been scored when this bundle was written."
    title = f"{corpus}, {KNOWN[corpus].title}" if corpus in KNOWN else corpus
    made = ". A synthesizer speaks scripted conversations; no person was recorded" if corpus in SYNTHETIC else ""
    labelled = (manifest.protocol or {}).get("labelled_utterances")
    folds = labelled if isinstance(labelled, list) and labelled else [{}]
    own = folds[min(manifest.fold, len(folds) - 1)]
    counts = ", ".join(f"{split} {count}" for split, count in own.items()) if isinstance(own, Mapping) else ""
    words = f"{title}{made}. Labelled utterances: {counts or 'not known'}."
    return f"{plain(words)} The encoders' own training data is theirs to name; they were not tuned:"


def _citation(model: str) -> str:
    found = paper(base_name(model))
    own = "emofuse, emotion recognition in conversation as a pipeline of cached, reproducible data stages, MIT."
    return f"The system: [{found[0]}]({found[1]}).\n\nThis implementation: {own}" if found else own


def _fallbacks(manifest: Manifest) -> str:
    """What answers where something is missing, as :class:`emofuse.inference.model.Model` has it."""
    reads = find_model(manifest.model).modalities
    unread = {each: reason for each in reads if (reason := manifest.unread(each))}
    computed = [each for each in reads if each not in unread]
    sentences = [f"{reason[0].upper()}{reason[1:]}." for reason in unread.values()]
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
        sentences.append(f"The model only reads {_NEEDS[computed[0]]} and cannot predict without.")
    else:
        sentences.append("So it cannot answer for new recordings.")
    return " ".join(sentences)


_NEEDS = {"audio": "sound", "text": "transcripts"}


def _all_terms(manifest: Manifest) -> list[str]:
    return sorted({_terms(each.identity) for each in manifest.features.values()})


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
        return "Unknown: the model had not been scored when this bundle was written."
    shown = {
        name: value
        for name, value in protocol.items()
        if name not in ("features", "models", "utterances_without_features")
    }
    rows = ((name.replace("_", " "), _plain(value)) for name, value in shown.items())
    return _table(("", ""), rows)


def _scores(scores: Mapping[str, Mapping[str, Any]] | None) -> str:
    if scores is None:
        return "None: the model had not been scored when this bundle was written."
    rows = [
        (
            name.replace("_", " ").replace("f1", "F1"),
            *("" if each[key] is None else in_percent(each[key]) for key in ("mean", "sd", "low", "high")),
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


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return table(header, ["---"] * len(header), rows)
