"""The one training loop: every network, epochs chosen on dev, test labels out of reach."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.core.params import STRICT
from emofuse.core.schema import IGNORE, SPLITS
from emofuse.models.parts.base import Batch, Network
from emofuse.models.parts.layers import Standardize
from emofuse.models.parts.losses import cross_entropy
from emofuse.scoring.metrics import SUMMARY, confusion_counts, measure_confusion, negative_log_likelihood
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, batches, collate, examples, longest, shuffled_batches

__all__ = [
    "PURPOSES",
    "FitConfig",
    "Fitted",
    "Learner",
    "Purpose",
    "Seeds",
    "class_weights",
    "dev_rank",
    "dev_scores",
    "fit",
    "infer",
    "learning_rate_factor",
    "standardize",
]

Purpose = Literal["initialization", "dropout", "batches"]
PURPOSES: tuple[Purpose, ...] = ("initialization", "dropout", "batches")
"""What a run draws at random; a new one goes to the end, or the others would draw anew."""

_TIE = 9
"""Decimals that a dev score is compared by: equal scores may differ in their last bits."""

_WARM_UP = 0.1
_START = 0.01
"""Of the learning rate, so that the first step is one."""


@dataclass(frozen=True, config=STRICT)
class FitConfig:
    """How a network is trained.

    Attributes:
        epochs: maximum number of passes over the training split, unless ``min_steps`` needs more
        patience: number of epochs without improvement after which training stops, but not before ``min_steps``
        batch_size: utterances a step at most; in whole dialogues, one at least, for a network that reads context
        learning_rate: of the optimizer, after a linear warm-up over the first tenth of the steps
        weight_decay: of AdamW, or the L2 penalty of Adam
        max_grad_norm: largest norm of the gradient
        ema_decay: decay of the exponential moving average of the weights that dev and all later use sees; 0 for none
        class_weight_power: classes weigh ``frequency ** -class_weight_power`` in the cross-entropy; 0 for equal
            weights, 1 for equal classes
        focal_gamma: gamma of the focal loss; 0 for plain cross-entropy
        precision: of the forward pass in training; weights, losses, gradients and predictions are float32
        keep_epochs: keep the predictions for test after every epoch, for a column of the results
        optimizer: AdamW (Loshchilov and Hutter 2019), or Adam (Kingma and Ba 2015)
        schedule: after the warm-up the learning rate falls along a half cosine over all passes, or stays
        min_steps: minimum number of optimizer steps, whatever the number of epochs, so that a small corpus is trained
            for as long as a large one; 0 for no floor
    """

    epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weight_power: Annotated[float, Field(ge=0, le=1)] = 0.0
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    keep_epochs: bool = False
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    min_steps: Annotated[int, Field(ge=0)] = 0


@plain_dataclass(frozen=True)
class Seeds:
    """The random numbers of a run, drawn apart for each purpose and from those of every other run.

    Attributes:
        model: name in the results table
        seed: number of the run among those of its model
        fold: of the task's splits
    """

    model: str
    seed: int
    fold: int

    def sequence(self, purpose: Purpose) -> np.random.SeedSequence:
        """Return what a numpy generator starts from."""
        run = [self.seed, self.fold, *self.model.encode()]
        return np.random.SeedSequence(run, spawn_key=(PURPOSES.index(purpose),))

    def number(self, purpose: Purpose) -> int:
        """Return what torch starts from, 64 bits."""
        return int(self.sequence(purpose).generate_state(1, np.uint64)[0])


@plain_dataclass(frozen=True)
class Fitted:
    """A trained network and its predictions for every utterance.

    Attributes:
        probabilities: float32 ``[n, C]``
        vectors: for each name, float32 ``[n, H]``
        best_epoch: the epoch kept, 1-based
        cut_off: whether that is the last that the budget allows, so that a larger one might have found a better
        history: loss, and accuracy, weighted F1 and mean log-likelihood (nats) on dev, by epoch
        epochs: by epoch, float32 ``[n, C]`` of test, NaN elsewhere; empty unless they were to be kept
    """

    network: Network
    probabilities: np.ndarray
    vectors: dict[str, Tensor]
    best_epoch: int
    cut_off: bool
    history: list[dict[str, float]]
    epochs: list[np.ndarray]


def fit(
    network: Network,
    inputs: Inputs,
    fold: Fold,
    config: FitConfig,
    seeds: Seeds,
    watch: Callable[[Mapping[str, float]], object] | None = None,
) -> Fitted:
    """Train a network and keep the epoch with the best dev weighted F1; of equals the likeliest on dev, then the first.

    Args:
        network: freshly initialised, its standardization fitted
        inputs: the modalities that it reads
        fold: dialogues, splits and the targets of train and dev
        config: the schedule
        seeds: of the order of the batches and of dropout
        watch: called after each epoch with its entry of the history
    """
    torch.manual_seed(seeds.number("dropout"))
    generator = np.random.default_rng(seeds.sequence("batches"))
    device = _device(seeds.seed)
    network.to(device)
    train, dev, test = (examples(fold, network.unit, split) for split in SPLITS)
    lengths = longest(inputs)
    learner = Learner(network, config, class_weights(fold, config.class_weight_power).to(device))
    budget, steps = _budget(train, config), 0
    best, best_epoch, best_state = (-1.0, -math.inf), 0, copy.deepcopy(network.state_dict())
    history: list[dict[str, float]] = []
    epochs: list[np.ndarray] = []
    for epoch in range(1, budget + 1):
        losses, seen = [], 0
        for items in shuffled_batches(train, lengths, config.batch_size, generator):
            progress = (epoch - 1 + seen / len(train)) / budget
            losses.append(learner.step(_to(collate(items, inputs, fold)[1], device), progress))
            seen += len(items)
        probabilities, _ = infer(learner.averaged, inputs, fold, dev, config.batch_size)
        history.append({"epoch": epoch, "loss": float(np.mean(losses)), **_on_dev(probabilities, fold)})
        if watch:
            watch(history[-1])
        steps += len(losses)
        if config.keep_epochs:
            epochs.append(infer(learner.averaged, inputs, fold, test, config.batch_size)[0])
        found = dev_rank(probabilities, fold)
        if found > best:
            best, best_epoch, best_state = found, epoch, copy.deepcopy(learner.averaged.state_dict())
        elif epoch - best_epoch >= config.patience and steps >= config.min_steps:
            break
    network.load_state_dict(best_state)
    probabilities, vectors = infer(network, inputs, fold, examples(fold, network.unit), config.batch_size)
    return Fitted(network.cpu(), probabilities, vectors, best_epoch, best_epoch == budget, history, epochs)


def class_weights(fold: Fold, power: float) -> Tensor:
    """Return the weight of each class, ``[C]``: its frequency in train to the power of ``-power``, 1 on average."""
    train = fold.targets[(fold.splits == SPLITS.index("train")) & (fold.targets != IGNORE)]
    counts_C = torch.from_numpy(np.bincount(train, minlength=len(fold.classes))).clamp(min=1)
    weights_C = (counts_C / counts_C.sum()).pow(-power)
    return weights_C / weights_C.mean()


def standardize(network: Network, inputs: Inputs, fold: Fold) -> None:
    """Fit a network's standardization to the frames of the training split, for each modality that it reads."""
    rows = np.flatnonzero(fold.splits == SPLITS.index("train"))
    for name, sequences in inputs.items():
        layers = cast("Standardize | nn.ModuleDict", network.standardize)  # one of each, where it reads several
        layer = layers[name] if isinstance(layers, nn.ModuleDict) else layers
        cast("Standardize", layer).fit(sequences.chunks(rows))


@torch.inference_mode()
def infer(
    network: Network, inputs: Inputs, fold: Fold, items: Sequence[np.ndarray], batch_size: int
) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Return probabilities ``[n, C]`` and vectors ``[n, H]`` of some examples; NaN elsewhere."""
    network.eval()
    device = next(network.parameters()).device
    count = len(fold.utterance_ids)
    probabilities = torch.full((count, len(fold.classes)), torch.nan)
    vectors: dict[str, Tensor] = {}
    for rows, batch in batches(items, inputs, fold, 4 * batch_size):
        output = network(_to(batch, device))
        probabilities[rows] = output.logits_UC.softmax(dim=1).cpu()
        for name, values_UH in output.vectors.items():
            store = vectors.setdefault(name, torch.full((count, values_UH.shape[1]), torch.nan))
            store[rows] = values_UH.cpu()
    return probabilities.numpy(), vectors


def dev_scores(probabilities: np.ndarray, fold: Fold) -> dict[str, float]:
    """Return accuracy and F1 scores of probabilities ``[n, C]`` on the fold's dev split."""
    rows = _labelled_dev(fold)
    predicted, classes = probabilities[rows].argmax(axis=1), len(fold.classes)
    confusion = confusion_counts(np.zeros_like(predicted), fold.targets[rows], predicted, n_cells=1, n_classes=classes)
    return dict(zip(SUMMARY, measure_confusion(confusion[0]).tolist(), strict=False))


def learning_rate_factor(progress: float, schedule: Literal["cosine", "constant"] = "cosine") -> float:
    """Return the share of the learning rate after a share of all passes: a linear warm-up, then the schedule."""
    height = (1 + math.cos(math.pi * progress)) / 2 if schedule == "cosine" else 1.0
    return min(1.0, _START + progress / _WARM_UP) * height


class Learner:
    """Losses, optimizer, schedule and moving average of the weights of one network.

    Attributes:
        averaged: the network that dev sees: with the moving average of the weights, or the network itself
    """

    def __init__(self, network: Network, config: FitConfig, weights_C: Tensor) -> None:
        self._network, self._config, self._weights_C = network, config, weights_C
        optimizer = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer]
        self._optimizer = optimizer(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.averaged = copy.deepcopy(network) if config.ema_decay else network
        self._taken = 0

    def step(self, batch: Batch, progress: float) -> float:
        """Take one step and return the loss.

        Args:
            batch: examples of train
            progress: share of all passes that is done
        """
        self._network.train()
        loss = self._loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._config.max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * learning_rate_factor(progress, self._config.schedule)
        self._optimizer.step()
        if self._config.ema_decay:
            self._update_ema()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.targets_U.device.type, torch.bfloat16, self._config.precision == "bfloat16"):
            output = self._network(batch)
        total = sum(output.auxiliary_losses.values(), torch.zeros(()))
        for weight, logits_UC in [(1.0, output.logits_UC), *output.auxiliary_heads.values()]:
            loss = cross_entropy(logits_UC.float(), batch.targets_U, self._weights_C, self._config.focal_gamma)
            total = total + weight * loss
        return total

    @torch.no_grad()
    def _update_ema(self) -> None:
        self._taken += 1
        # Young averages forget faster, or the random start would weigh for hundreds of steps.
        decay = min(self._config.ema_decay, (1 + self._taken) / (10 + self._taken))
        for averaged, current in zip(self.averaged.parameters(), self._network.parameters(), strict=True):
            averaged.lerp_(current, 1 - decay)


def dev_rank(probabilities: np.ndarray, fold: Fold) -> tuple[float, float]:
    """Return what epochs and settings are ranked by on dev: weighted F1, and of equals the mean log-likelihood."""
    return round(dev_scores(probabilities, fold)["weighted_f1"], _TIE), _dev_log_likelihood(probabilities, fold)


def _budget(train: Sequence[np.ndarray], config: FitConfig) -> int:
    """Passes over train at most: as many as were asked for, or as the floor of the steps needs.

    A batch holds ``config.batch_size`` utterances at most, or one example that is longer, so an epoch has at least so
    many batches as are counted here.
    """
    sizes = [len(each) for each in train]
    steps_an_epoch = math.ceil(sum(sizes) / max(config.batch_size, *sizes))
    return max(config.epochs, math.ceil(config.min_steps / steps_an_epoch))


def _labelled_dev(fold: Fold) -> np.ndarray:
    rows: np.ndarray = (fold.splits == SPLITS.index("dev")) & (fold.targets != IGNORE)
    return rows


def _dev_log_likelihood(probabilities: np.ndarray, fold: Fold) -> float:
    rows = _labelled_dev(fold)
    return -negative_log_likelihood(probabilities[rows], fold.targets[rows])


def _on_dev(probabilities: np.ndarray, fold: Fold) -> dict[str, float]:
    """What the history says of an epoch on dev."""
    scores = {f"dev_{name}": value for name, value in dev_scores(probabilities, fold).items()}
    likelihood = _dev_log_likelihood(probabilities, fold)
    return {name: scores[name] for name in ("dev_accuracy", "dev_weighted_f1")} | {"dev_log_likelihood": likelihood}


def _device(seed: int) -> torch.device:
    """The seeds of a task are spread over the GPUs of a machine."""
    count = torch.cuda.device_count()
    return torch.device("cuda", seed % count) if count else torch.device("cpu")


def _to(batch: Any, device: torch.device) -> Any:
    if device.type == "cpu":
        return batch
    return type(batch)(
        frames={name: each.to(device) for name, each in batch.frames.items()},
        lengths=batch.lengths,
        places_BL=batch.places_BL.to(device),
        speakers_U=batch.speakers_U.to(device),
        targets_U=batch.targets_U.to(device),
    )
