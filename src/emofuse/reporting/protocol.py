"""The protocol of a result: its models, data and settings, and published results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emofuse.core.markdown import plain, table
from emofuse.core.percent import in_percent
from emofuse.models.registry import ENSEMBLE, in_order, is_ablation, sources
from emofuse.models.registry import model as find_model
from emofuse.scoring.literature import Published
from emofuse.scoring.names import METRIC
from emofuse.scoring.predictions import ScoringError

__all__ = [
    "PARAMETERS",
    "TIMES",
    "count",
    "cut_off",
    "losses",
    "model_sizes",
    "protocol_lines",
    "protocol_markdown",
    "repeat",
    "seen",
    "sizes_of_others",
    "times_markdown",
    "unranked",
]


PARAMETERS = (
    "Parameters: those trained in the model's own stage, and in total with the networks from earlier stages that it "
    "reads. Frozen encoders are not counted."
)
"""What the numbers of parameters count."""

TIMES = (
    "Training times are in the tracker, as the duration of each run: emofuse table --time and emofuse report show "
    "them beside the scores. Committed files contain no times, so that two runs give identical files."
)
"""Where to look for times."""


def repeat(protocol: Mapping[str, Any]) -> str:
    """Return the command that makes a task's results again."""
    corpus, names = protocol["corpus"], "-".join([protocol["task"], *protocol["encoders"].values()])
    stage = f"score@{names}"
    return f"dvc repro {stage}" if corpus == "demo" else f"dvc repro corpora/{corpus}/dvc.yaml:{stage}"


def model_sizes(
    records: Sequence[Mapping[str, Any]],
    configs: Sequence[Mapping[str, Any]],
    features: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Return by model: ``n_parameters``, ``n_parameters_in_all``, ``modalities``, ``labels_seen``.

    Parameters are those trained in the model's own stage, and in all with the networks that it reads from; those of
    the frozen encoders are in neither.

    Args:
        records: the ``record.json`` of all runs
        configs: the ``config.json`` of those that have one
        features: what made each modality's features

    Raises:
        ScoringError: a network that a model reads from is not among the runs
    """
    sizes = {record["model"]: record["n_parameters"] for record in records}
    read = {config["model"]: [each.name for each in sources(config).values()] for config in configs}
    sizes_of = {
        model: {
            "n_parameters": sizes[model],
            "n_parameters_in_all": sum(_sizes(model, sizes, read).values()),
            "modalities": list(find_model(model).modalities),
            "labels_seen": any(features[name]["labels_seen"] for name in find_model(model).modalities),
        }
        for model in in_order(list(sizes))
    }
    counts = Counter(record["model"] for record in records if record["fold"] == 0)
    ensembles = {
        f"{model}/{ENSEMBLE}": own
        | {name: counts[model] * own[name] for name in ("n_parameters", "n_parameters_in_all")}
        for model, own in sizes_of.items()
        if counts[model] > 1 and not is_ablation(model)
    }
    return sizes_of | ensembles


def cut_off(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return by model how many of its runs, such as ``2 of 5``, were best where their budget ended, if any was.

    Args:
        records: the ``record.json`` of all runs
    """
    counts = Counter(record["model"] for record in records)
    ended = Counter(record["model"] for record in records if record["cut_off"])
    return {model: f"{ended[model]} of {counts[model]}" for model in in_order(list(ended))}


def sizes_of_others(others: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what :func:`model_sizes` returns, of predictions of others, whose sizes are not known.

    Args:
        others: ``source, labels_seen, kind`` by name
    """
    unknown = {"n_parameters": None, "n_parameters_in_all": None, "modalities": ["unknown"]}
    return {name: unknown | {"labels_seen": own["labels_seen"]} for name, own in others.items()}


def unranked(protocol: Mapping[str, Any]) -> list[str]:
    """Return the predictions of others that may have seen the labels of test, which no table tells to be the best."""
    return [name for name, own in protocol.get("external", {}).items() if own["labels_seen"] is not False]


def losses(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return in words what the cross-entropy of a model is in its own stage, where it is not the plain one.

    Args:
        configs: the ``config.json`` of all runs that have one
    """
    found = {}
    for config in configs:
        fit = config["config"].get("fit", {})
        words = (
            [f"classes weighed by frequency ** -{fit['class_weight_power']:g}"] if fit.get("class_weight_power") else []
        )
        words += [f"focal loss with gamma {fit['focal_gamma']:g}"] if fit.get("focal_gamma") else []
        if words:
            found[config["model"]] = ", ".join(words)
    return found


def _sizes(model: str, sizes: Mapping[str, int], read: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Parameters of a model and of all networks that stand before it, each once."""
    if model not in sizes:
        raise ScoringError(f"no run of {model!r}, which another model reads from; its task has to train it too")
    found = {model: sizes[model]}
    for name in read.get(model, ()):
        found |= _sizes(name, sizes, read)
    return found


def protocol_markdown(protocol: Mapping[str, Any], published: Sequence[Published]) -> str:
    """The protocol as Markdown, to stand under the table of scores.

    Args:
        protocol: what :func:`emofuse.reporting.benchmark.protocol` gave
        published: what others have published for the task
    """
    lines = [f"- {plain(name)}: {plain(text)}" for name, text in protocol_lines(protocol)]
    parts = [_models(protocol["models"]), PARAMETERS, TIMES, "Protocol:\n\n" + "\n".join(lines)]
    if published:
        parts.append(_published(protocol["task"], published))
    parts.append(f"To repeat it: `{repeat(protocol)}`.")
    return "\n\n".join(parts) + "\n"


def protocol_lines(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The protocol in words, as pairs of name and text."""
    counts = [", ".join(f"{split} {n:,}" for split, n in fold.items()) for fold in _folds(protocol)]
    encoders = protocol["encoders"]
    lines = [
        ("Corpus", protocol["corpus"]),
        ("Classes", ", ".join(protocol["classes"])),
        ("Labelled utterances", "; ".join(counts)),
        ("Splits", protocol["splits"]),
        ("Speakers in several splits", {"shared": "yes", "disjoint": "no"}[protocol["speakers_across_splits"]]),
        ("Context", {"full": "the whole dialogue", "causal": "causal, only the turns before"}[protocol["context"]]),
        ("Turns without a label", {"keep": "kept as context", "drop": "left out"}[protocol["unlabelled_turns"]]),
        ("Transcript", protocol["transcript"]),
        ("Runs", f"{protocol['seeds']} seeds, {protocol['folds']} {'fold' if protocol['folds'] == 1 else 'folds'}"),
        ("Epoch chosen on", protocol["epoch_chosen_on"]),
        *((f"Features, {name}", f"{encoders[name]}: {_features(made)}") for name, made in protocol["features"].items()),
    ]
    if over := protocol.get("intervals_over"):
        lines.append(("Intervals and p over", f"{over['units']:,} {over['unit']}s of test, and runs"))
    if absent := protocol.get("modalities_absent"):
        lines.append(("Not in the corpus", " and ".join(absent)))
    for name, kinds in protocol.get("utterances_without_features", {}).items():
        lines += [(f"Utterances without features, {name}", _kinds(kinds))] if kinds else []
    for name, n in protocol.get("utterances_cut", {}).items():
        most = protocol["features"][name].get("max_tokens")
        lines.append((f"Utterances cut, {name}", f"{n:,}, longer than the {most} tokens that the encoder reads"))
    lines += [(f"Cross-entropy of {model}", text) for model, text in protocol.get("losses", {}).items()]
    lines += [(f"Made elsewhere, {name}", _of_others(own)) for name, own in protocol.get("external", {}).items()]
    ended = protocol.get("cut_off", {})
    if ended:
        listed = ", ".join(f"{model} {runs} runs" for model, runs in ended.items())
        lines.append(("Best at the end of the budget", f"{listed}; a larger budget might score higher"))
    untaken = protocol.get("labels_no_class_takes", {})
    if untaken:
        listed = ", ".join(f"{label} {n:,}" for label, n in untaken.items())
        lines.append(("Labels that belong to no class", listed))
    return lines + [("Differences from the full corpus", text) for text in protocol["unlike_a_full_corpus"]]


def times_markdown(written: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    """How long training took, beside the score that it bought, as Markdown.

    Args:
        written: a task's ``scores.json``
        seconds: of a run of each model that the tracker knows, in its own stage
    """
    models = [model for model in written["protocol"]["models"] if model in seconds]
    rows = [
        [
            model,
            in_percent(written["scores"][model][METRIC]["mean"]),
            f"{written['protocol']['models'][model]['n_parameters']:,}",
            f"{seconds[model]:.1f}",
        ]
        for model in models
    ]
    head = ["Model", "Weighted F1", "Parameters of its own stage", "Seconds to train a run of it, from the tracker"]
    return table(head, ["---", *["---:"] * 3], rows) + "\n"


def _folds(protocol: Mapping[str, Any]) -> list[dict[str, int]]:
    found: list[dict[str, int]] = protocol["labelled_utterances"]
    return found


def count(number: int | None) -> str:
    """Return a number of parameters as it is printed."""
    return "unknown" if number is None else f"{number:,}"


def seen(labels: bool | str) -> str:
    """Return whether labels have been seen, as it is printed."""
    return labels if isinstance(labels, str) else "yes" if labels else "no"


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _features(made: Mapping[str, Any]) -> str:
    layer = made.get("layer")
    where = f", layer {_words(layer)}" if layer is not None else ""
    labels = "seen" if made["labels_seen"] else "not seen"
    return f"{made.get('id', 'unknown')}, revision {made.get('revision', 'unknown')}{where}, emotion labels {labels}"


def _of_others(own: Mapping[str, Any]) -> str:
    labels = {
        True: "may have been seen, so it is not ranked",
        False: "not seen",
        "unknown": "possibly seen, so it is not ranked",
    }
    return f"{own['source'].rstrip('.')}; gives {own['kind']}; labels of test {labels[own['labels_seen']]}"


def _kinds(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in sorted(kinds.items()))


def _models(models: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            name,
            count(own["n_parameters"]),
            count(own["n_parameters_in_all"]),
            ", ".join(own["modalities"]) or "nothing",
            seen(own["labels_seen"]),
        ]
        for name, own in models.items()
    ]
    head = ["Model", "Parameters of its own stage", "In all", "Reads", "Features have seen labels"]
    return table(head, ["---", "---:", "---:", "---", "---"], rows)


def _published(task: str, published: Sequence[Published]) -> str:
    rows = [
        [each.model, str(each.published[task]), each.metric, each.modalities, each.encoders, each.epoch, each.source]
        for each in published
    ]
    head = ["Published", "Percent", "Of", "Reads", "Encoders", "Epoch", "Source"]
    listed = table(head, ["---", "---:", *["---"] * 5], rows)
    return f"Published results, under their own protocols; `literature.yaml` has the source of each figure:\n\n{listed}"
