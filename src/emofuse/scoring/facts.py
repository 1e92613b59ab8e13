"""What stands beside the scores: what each model is, what the numbers rest on, and what others have published."""

from collections.abc import Mapping, Sequence
from typing import Any

from emofuse.scoring.literature import Published
from emofuse.scoring.scores import in_order

__all__ = ["facts_markdown", "modalities", "model_facts", "protocol_lines"]


def modalities(model: str) -> tuple[str, ...]:
    """Return what a model reads, which its name tells: ``audio-…`` audio alone, the majority nothing, all others both.

    >>> modalities("text-context"), modalities("hcam/no-contrastive")
    (('text',), ('audio', 'text'))
    """
    own = model.partition("-")[0]
    if own == "majority":
        return ()
    return (own,) if own in ("audio", "text") else ("audio", "text")


def model_facts(
    records: Sequence[Mapping[str, Any]], features: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return by model: ``n_parameters``, ``modalities``, ``labels_seen``.

    Args:
        records: the ``record.json`` of all runs
        features: what made each modality's features
    """
    sizes = {record["model"]: record["n_parameters"] for record in records}
    return {
        model: {
            "n_parameters": sizes[model],
            "modalities": list(modalities(model)),
            "labels_seen": any(features[name]["labels_seen"] for name in modalities(model)),
        }
        for model in in_order(list(sizes))
    }


def facts_markdown(protocol: Mapping[str, Any], published: Sequence[Published]) -> str:
    """The facts as Markdown, to stand under the table of scores.

    Args:
        protocol: what :func:`emofuse.scoring.benchmark.protocol` gave
        published: what others have published for the task
    """
    lines = [f"- {name}: {text}" for name, text in protocol_lines(protocol)]
    parts = [_models(protocol["models"]), "Protocol:\n\n" + "\n".join(lines)]
    if published:
        parts.append(_published(protocol["task"], published))
    return "\n\n".join(parts) + "\n"


def protocol_lines(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The protocol in words, as pairs of name and text."""
    counts = [", ".join(f"{split} {count:,}" for split, count in fold.items()) for fold in _folds(protocol)]
    splits = protocol["splits"]
    lines = [
        ("Corpus", protocol["corpus"]),
        ("Classes", ", ".join(protocol["classes"])),
        ("Labelled utterances", "; ".join(counts)),
        ("Splits", splits if isinstance(splits, str) else ", ".join(f"{key} {_words(splits[key])}" for key in splits)),
        ("Speakers in several splits", {"shared": "yes", "disjoint": "no"}[protocol["speakers_across_splits"]]),
        ("Context", {"both": "both directions of a dialogue", "past": "the past alone"}[protocol["context"]]),
        ("Turns without a label", {"keep": "kept as context", "drop": "left out"}[protocol["unlabelled_turns"]]),
        ("Transcript", protocol["transcript"]),
        ("Runs", f"{protocol['seeds']} seeds, {protocol['folds']} {'fold' if protocol['folds'] == 1 else 'folds'}"),
        ("Epoch chosen on", protocol["epoch_chosen_on"]),
        *((f"Features, {name}", _features(made)) for name, made in protocol["features"].items()),
    ]
    lines += [(f"Condition {name}", text) for name, text in protocol.get("conditions", {}).items()]
    return lines + [("Unlike a full corpus", text) for text in protocol["unlike_a_full_corpus"]]


def _folds(protocol: Mapping[str, Any]) -> list[dict[str, int]]:
    found: list[dict[str, int]] = protocol["labelled_utterances"]
    return found


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _features(made: Mapping[str, Any]) -> str:
    layer = made.get("layer")
    where = f", layer {_words(layer)}" if layer is not None else ""
    seen = "seen" if made["labels_seen"] else "not seen"
    return f"{made.get('id', 'unknown')}, revision {made.get('revision', 'unknown')}{where}, emotion labels {seen}"


def _models(models: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            name,
            f"{own['n_parameters']:,}",
            ", ".join(own["modalities"]) or "nothing",
            "yes" if own["labels_seen"] else "no",
        ]
        for name, own in models.items()
    ]
    head = ["Model", "Parameters of its own stage", "Reads", "Features have seen labels"]
    return _table(head, ["---", "---:", "---", "---"], rows)


def _published(task: str, published: Sequence[Published]) -> str:
    rows = [
        [each.model, str(each.published[task]), each.metric, each.modalities, each.encoders, each.epoch, each.source]
        for each in published
    ]
    head = ["Published", "Percent", "Of", "Reads", "Encoders", "Epoch", "Source"]
    table = _table(head, ["---", "---:", *["---"] * 5], rows)
    return f"Others, under protocols of their own; `literature.yaml` says where each figure was seen:\n\n{table}"


def _table(head: list[str], rule: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])
