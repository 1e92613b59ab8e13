"""The fit loop: which epoch is kept, what the seed decides, and that only train is learned from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch import Tensor, nn

from emofuse.core.schema import IGNORE, SPLITS
from emofuse.models.parts.base import Batch, Network, Output, Unit
from emofuse.models.unimodal import ContextNetwork, UtteranceNetwork
from emofuse.tasks import Fold
from emofuse.training.data import Sequences, collate, examples, single_frames
from emofuse.training.fit import (
    PURPOSES,
    FitConfig,
    Fitted,
    Learner,
    Purpose,
    Seeds,
    class_weights,
    dev_scores,
    fit,
    infer,
    learning_rate_factor,
    standardize,
)
from networks import config_of

MakeFold = Callable[..., Fold]
NUMBERS = [3331289292249281567, 4372149708339362832, 7506238365132170657]
"""Of :data:`PURPOSES` of one run: results that are committed stand on them."""

ROWS = 8
"""Utterances of each split in the scripted folds."""


def schedule(**changes: Any) -> FitConfig:
    values = {
        "epochs": 4,
        "patience": 4,
        "batch_size": 8,
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
    }
    return FitConfig(**{**values, "max_grad_norm": 1.0, **changes})  # type: ignore[arg-type]


def seeds(number: int) -> Seeds:
    return Seeds("any", number, 0)


class Scripted(Network):
    """A network whose answers are fixed beforehand: in epoch e so many of each split's utterances are right.

    It reads frames of (target, split, rank), and takes one batch an epoch. In epoch e its logits differ by ``sure[e]``.
    """

    unit: ClassVar[Unit] = "utterance"

    def __init__(self, right: list[dict[str, int]], sure: list[float] | None = None) -> None:
        super().__init__()
        self.sure = torch.tensor(sure or [3.0] * len(right))
        self.right = torch.tensor([[epoch.get(split, 0) for split in SPLITS] for epoch in right])
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("epoch", torch.tensor(0))
        self.epoch: Tensor

    def forward(self, batch: Batch) -> Output:
        if self.training:
            self.epoch += 1
        target_U, split_U, rank_U = batch.frames["audio"][:, 0].long().unbind(dim=1)
        right_U = rank_U < self.right[self.epoch - 1, split_U]
        said_U = torch.where(right_U, target_U, 1 - target_U)
        return Output(nn.functional.one_hot(said_U, 2) * self.sure[self.epoch - 1] + 0 * self.weight)


def scripted(make_fold: MakeFold) -> tuple[Fold, dict[str, Sequences], np.ndarray]:
    """A fold for :class:`Scripted`, its inputs, and the targets of all, those of test too."""
    targets = np.array([[row % 2 for row in range(ROWS)]] * 3)
    fold = make_fold(targets, SPLITS)
    frames = [(target, split, rank) for split in range(3) for rank, target in enumerate(targets[split])]
    return fold, {"audio": single_frames(torch.tensor(frames))}, targets.reshape(-1)


def run_script(
    make_fold: MakeFold, right: list[dict[str, int]], sure: list[float] | None = None, **changes: float
) -> Fitted:
    fold, inputs, _ = scripted(make_fold)
    config = schedule(**{"epochs": len(right), "patience": 100, "batch_size": ROWS, **changes})
    return fit(Scripted(right, sure), inputs, fold, config, seeds(0))


def test_kept_epochs_are_those_of_test_and_change_nothing_else(make_fold: MakeFold) -> None:
    """In epoch 2 dev is best; test is best in epoch 3, which is kept beside and chosen by nobody."""
    fold, inputs, targets = scripted(make_fold)
    right = [{"dev": 2, "test": 1}, {"dev": 7, "test": 3}, {"dev": 5, "test": 8}]
    configs = [schedule(epochs=3, batch_size=ROWS, keep_epochs=kept) for kept in (False, True)]
    plain, kept = (fit(Scripted(right), inputs, fold, config, seeds(0)) for config in configs)
    assert plain.epochs == []
    np.testing.assert_array_equal(plain.probabilities, kept.probabilities)
    assert plain.best_epoch == kept.best_epoch == 2
    test = fold.splits == SPLITS.index("test")
    assert [int((each[test].argmax(axis=1) == targets[test]).sum()) for each in kept.epochs] == [1, 3, 8]
    assert all(np.isnan(each[~test]).all() for each in kept.epochs)


def said_right(fitted: Fitted, fold: Fold, targets: np.ndarray, split: str) -> int:
    own = fold.splits == SPLITS.index(split)  # type: ignore[arg-type]
    return int((fitted.probabilities[own].argmax(axis=1) == targets[own]).sum())


@settings(max_examples=40, deadline=None)
@given(dev=st.lists(st.integers(0, ROWS), min_size=1, max_size=10), patience=st.integers(1, 5))
def test_the_best_dev_epoch_is_kept_the_first_of_equals(make_fold: MakeFold, dev: list[int], patience: int) -> None:
    """Equal in all: what is as good by F1 and less often right is less likely, as all answers are equally sure."""
    fitted = run_script(make_fold, [{"dev": right} for right in dev], patience=patience)
    true = np.arange(ROWS) % 2
    f1 = [f1_score(true, np.where(np.arange(ROWS) < right, true, 1 - true), average="weighted") for right in dev]
    best, last = 0, len(f1) - 1
    ranks = [(round(score, 9), right) for score, right in zip(f1, dev, strict=True)]
    for epoch, rank in enumerate(ranks):
        if rank > ranks[best]:
            best = epoch
        elif epoch - best >= patience:
            last = epoch
            break
    assert fitted.best_epoch == best + 1
    assert [epoch["epoch"] for epoch in fitted.history] == list(range(1, last + 2))
    assert [epoch["dev_weighted_f1"] for epoch in fitted.history] == pytest.approx(f1[: last + 1])
    fold, _, targets = scripted(make_fold)
    assert said_right(fitted, fold, targets, "dev") == dev[best]
    assert fitted.network.state_dict()["epoch"] == best + 1


def test_good_on_dev_and_bad_on_test_wins_over_its_opposite(make_fold: MakeFold) -> None:
    good_on_dev, good_on_test = {"dev": ROWS - 1, "test": 0}, {"dev": 1, "test": ROWS}
    fold, _, targets = scripted(make_fold)
    for right in ([good_on_dev, good_on_test], [good_on_test, good_on_dev]):
        fitted = run_script(make_fold, right)
        assert fitted.best_epoch == right.index(good_on_dev) + 1
        assert said_right(fitted, fold, targets, "dev") == ROWS - 1
        assert said_right(fitted, fold, targets, "test") == 0


UTTERANCE = config_of("utterance", input_projection=3, hidden=4, layers=2, dropout=0.3, input_dropout=0.2)
CONTEXT = config_of("context", hidden=4, dropout=0.3, contrastive=0.1)


def noisy(make_fold: MakeFold, seed: int = 0) -> tuple[Fold, dict[str, Sequences]]:
    """Twelve dialogues of five turns; a third of the turns has no label."""
    rng = np.random.default_rng(seed)
    fold = make_fold(rng.integers(-1, 2, (12, 5)), ["train"] * 6 + ["dev"] * 3 + ["test"] * 3)
    lengths = rng.integers(1, 6, 60)
    values = torch.from_numpy(rng.normal(size=(lengths.sum(), 3))).float()
    return fold, {"audio": Sequences(values, torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])))}


def train(fold: Fold, inputs: dict[str, Sequences], kind: str = "utterance", seed: int = 0, **changes: float) -> Fitted:
    torch.manual_seed(seed)
    sequences = inputs["audio"]
    network: UtteranceNetwork | ContextNetwork
    if kind == "utterance":
        network = UtteranceNetwork(UTTERANCE, sequences.dim, len(fold.classes))
    else:
        network = ContextNetwork(CONTEXT, sequences.dim, len(fold.classes), fold.context == "causal")
    standardize(network, {"audio": sequences}, fold)
    return fit(network, inputs, fold, schedule(**changes), seeds(seed))


def same(one: Fitted, other: Fitted) -> bool:
    states = one.network.state_dict(), other.network.state_dict()
    weights = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    vectors = all(torch.equal(one.vectors[name], other.vectors[name]) for name in one.vectors)
    return weights and vectors and one.probabilities.tobytes() == other.probabilities.tobytes()


@pytest.mark.parametrize("kind", ["utterance", "context"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(make_fold: MakeFold, kind: str) -> None:
    fold, inputs = noisy(make_fold)
    first = train(fold, inputs, kind)
    torch.rand(17)  # Whatever happened in the process before.
    again = train(fold, inputs, kind)
    assert same(first, again)
    assert first.history == again.history
    assert not same(first, train(fold, inputs, kind, seed=1))


@dataclass(frozen=True)
class Chosen(Seeds):
    """Seeds of which one purpose's are those of another run."""

    purpose: Purpose = "batches"
    other: int = 0

    def sequence(self, purpose: Purpose) -> np.random.SeedSequence:
        return seeds(self.other).sequence(purpose) if purpose == self.purpose else super().sequence(purpose)


def answers_of(make_fold: MakeFold, dropout: float, drawn: Seeds) -> np.ndarray:
    """What a network says that always starts from the same weights."""
    fold, inputs = noisy(make_fold)
    torch.manual_seed(0)
    network = UtteranceNetwork(replace(UTTERANCE, dropout=dropout, input_dropout=0.0), 3, 2)
    return fit(network, inputs, fold, schedule(), drawn).probabilities


def test_batches_and_dropout_each_follow_a_seed_of_their_own(make_fold: MakeFold) -> None:
    def differs(dropout: float, purpose: Purpose) -> bool:
        one, again, other = (answers_of(make_fold, dropout, Chosen("any", 0, 0, purpose, at)) for at in (5, 5, 6))
        assert np.array_equal(one, again)
        return not np.array_equal(one, other)

    assert differs(0.0, "batches")
    assert differs(0.5, "dropout")
    assert not differs(0.0, "dropout")
    assert not differs(0.5, "initialization"), "that is over when training begins"


def test_no_two_runs_or_purposes_draw_the_same() -> None:
    runs = [Seeds(*each) for each in product(("hcam", "hcam/no-gate", "audio-context"), range(5), range(5))]
    numbers = {run.number(purpose) for run in runs for purpose in PURPOSES}
    assert len(numbers) == len(runs) * len(PURPOSES)
    drawn = {np.random.default_rng(run.sequence(purpose)).random() for run in runs for purpose in PURPOSES}
    assert len(drawn) == len(numbers)


def test_a_run_draws_the_same_numbers_for_ever() -> None:
    assert [Seeds("hcam", 3, 1).number(purpose) for purpose in PURPOSES] == NUMBERS


def test_of_equal_epochs_the_likeliest_on_dev_is_kept(make_fold: MakeFold) -> None:
    """Six of eight are right, for which a difference of logits of log 3 is likeliest; test would have the last."""
    right = [{"dev": 6, "test": 0}] * 3 + [{"dev": 6, "test": 8}, {"dev": 5, "test": 8}]
    fitted = run_script(make_fold, right, [3.0, 1.1, 2.0, 0.1, 1.1])
    assert fitted.best_epoch == 2
    p = np.exp(1.1) / (1 + np.exp(1.1))
    expected = 0.75 * np.log(p) + 0.25 * np.log(1 - p)
    assert fitted.history[1]["dev_log_likelihood"] == pytest.approx(expected, abs=1e-6)


def test_f1_comes_before_likelihood(make_fold: MakeFold) -> None:
    fitted = run_script(make_fold, [{"dev": 6}, {"dev": 7}], [1.1, 30.0])
    assert fitted.history[0]["dev_log_likelihood"] > fitted.history[1]["dev_log_likelihood"]
    assert fitted.best_epoch == 2


@pytest.mark.parametrize(("kind", "batch"), [("utterance", 4), ("utterance", 100), ("context", 2), ("context", 12)])
def test_a_floor_of_steps_makes_the_budget_longer(
    make_fold: MakeFold, monkeypatch: pytest.MonkeyPatch, kind: str, batch: int
) -> None:
    """The learning rate falls over the whole of it; dialogues have five turns each."""
    fold, inputs = noisy(make_fold)
    taken = spy_on_steps(monkeypatch)
    fitted = train(fold, inputs, kind, epochs=2, patience=1000, batch_size=batch, min_steps=50)
    assert 50 <= len(taken) < 150
    rates = [rate for rate, _, _ in taken]
    assert 0.02 < np.argmax(rates) / len(rates) < 0.2
    assert rates[-1] < 0.05 * max(rates)
    assert len(fitted.history) > 2


def test_patience_counts_once_the_floor_is_reached(make_fold: MakeFold) -> None:
    right = [{"dev": 8}, *[{"dev": 4}] * 9]
    lengths = {
        (floor, patience): len(run_script(make_fold, right, min_steps=floor, patience=patience).history)
        for floor, patience in ((0, 2), (5, 2), (5, 7), (2, 2))
    }
    assert lengths == {(0, 2): 3, (5, 2): 5, (5, 7): 8, (2, 2): 3}


def test_a_floor_below_the_epochs_changes_nothing(make_fold: MakeFold) -> None:
    fold, inputs = noisy(make_fold)
    plain, floored = train(fold, inputs, epochs=4), train(fold, inputs, epochs=4, min_steps=3)
    assert same(plain, floored)
    assert plain.history == floored.history


def test_a_best_epoch_at_the_end_of_the_budget_is_told(make_fold: MakeFold) -> None:
    rising = [{"dev": right} for right in (4, 5, 6, 7)]
    assert run_script(make_fold, rising).cut_off
    assert not run_script(make_fold, [*rising, {"dev": 5}]).cut_off
    assert not run_script(make_fold, [{"dev": 6}, {"dev": 4}, {"dev": 4}], patience=1).cut_off
    longer = run_script(make_fold, [*rising, {"dev": 5}], epochs=4, min_steps=5)
    assert not longer.cut_off, "the budget is five epochs"


class Losses(Network):
    """Constant logits of three heads, the first of which predicts, and two auxiliary losses."""

    unit: ClassVar[Unit] = "utterance"

    def __init__(self) -> None:
        super().__init__()
        self.main_C, self.second_C, self.third_C = (nn.Parameter(torch.tensor(each)) for each in LOGITS)
        self.aside = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch: Batch) -> Output:
        main_UC, second_UC, third_UC = (
            each.expand(len(batch.targets_U), -1) for each in (self.main_C, self.second_C, self.third_C)
        )
        heads = {"second": (0.5, second_UC), "third": (0.2, third_UC)}
        losses = {"aside": self.aside.square(), "more": 3 * self.aside}
        return Output(main_UC, auxiliary_heads=heads, auxiliary_losses=losses)


LOGITS = ([1.0, -1.0], [0.0, 2.0], [3.0, 0.5])


def test_the_loss_is_the_heads_by_their_weights_and_all_auxiliary_losses(make_fold: MakeFold) -> None:
    fold, inputs = noisy(make_fold)
    _, batch = collate(examples(fold, "utterance", "train"), inputs, fold)
    network = Losses()
    loss = Learner(network, schedule(max_grad_norm=1e9), torch.ones(2)).step(batch, 0.5)
    share = (batch.targets_U == 0).float().mean().item()
    entropies = []
    for logits in LOGITS:
        probabilities = np.exp(logits) / np.exp(logits).sum()
        entropies.append(-share * np.log(probabilities[0]) - (1 - share) * np.log(probabilities[1]))
    assert loss == pytest.approx(entropies[0] + 0.5 * entropies[1] + 0.2 * entropies[2] + 2.0**2 + 3 * 2.0, rel=1e-5)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert gradients["aside"] == pytest.approx(2 * 2.0 + 3)
    for name, weight, logits in zip(("main_C", "second_C", "third_C"), (1.0, 0.5, 0.2), LOGITS, strict=True):
        expected = weight * (np.exp(logits) / np.exp(logits).sum() - [share, 1 - share])
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["utterance", "context"])
def test_features_of_dev_and_test_do_not_reach_the_weights(make_fold: MakeFold, kind: str) -> None:
    """With one epoch there is nothing to choose, so that weights and statistics come from train alone."""
    fold, inputs = noisy(make_fold)
    before = train(fold, inputs, kind, epochs=1)
    changed = Sequences(inputs["audio"].values.clone(), inputs["audio"].offsets)
    unseen = torch.from_numpy(fold.splits != SPLITS.index("train")).repeat_interleave(changed.lengths)
    changed.values[unseen] = changed.values[unseen] * 50 + 7
    after = train(fold, {"audio": changed}, kind, epochs=1)
    for name, value in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], value), name
    changed.values[~unseen] += torch.rand_like(changed.values[~unseen])
    assert not torch.equal(
        train(fold, {"audio": changed}, kind, epochs=1).network.state_dict()["standardize.mean_D"],
        before.network.state_dict()["standardize.mean_D"],
    )


def test_all_utterances_get_an_answer_and_vectors(make_fold: MakeFold) -> None:
    fold, inputs = noisy(make_fold)
    for kind, name, size in (("utterance", "utterance", 4), ("context", "context", 4)):
        fitted = train(fold, inputs, kind)
        assert fitted.probabilities.shape == (60, 2)
        np.testing.assert_allclose(fitted.probabilities.sum(axis=1), 1, rtol=1e-5)
        assert fitted.vectors[name].shape == (60, size)
        assert fitted.vectors[name].isfinite().all()


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_what_is_inferred_does_not_depend_on_the_batches(make_fold: MakeFold, batch: int) -> None:
    fold, inputs = noisy(make_fold)
    network = train(fold, inputs).network
    items = examples(fold, "utterance")
    expected, _ = infer(network, inputs, fold, items, 7)
    got, vectors = infer(network, inputs, fold, items[:20], batch)
    np.testing.assert_allclose(got[:20], expected[:20], atol=1e-6)
    assert np.isnan(got[20:]).all()
    assert vectors["utterance"][20:].isnan().all()


def test_dev_scores_are_those_of_sklearn_on_labelled_dev(make_fold: MakeFold) -> None:
    rng = np.random.default_rng(3)
    fold = make_fold(rng.integers(-1, 3, (9, 10)), ["train", "dev", "test"] * 3, "abc")
    probabilities = rng.dirichlet(np.ones(3), 90)
    rows = (fold.splits == SPLITS.index("dev")) & (fold.targets != IGNORE)
    true, predicted = fold.targets[rows], probabilities[rows].argmax(axis=1)
    got = dev_scores(probabilities, fold)
    assert got == pytest.approx(
        {
            "accuracy": accuracy_score(true, predicted),
            "balanced_accuracy": balanced_accuracy_score(true, predicted),
            "weighted_f1": f1_score(true, predicted, average="weighted"),
            "macro_f1": f1_score(true, predicted, average="macro"),
        }
    )


def spy_on_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, list[Tensor]]]:
    """A list that fills with learning rate, norm of the gradient and new weights of each step."""
    taken: list[tuple[float, float, list[Tensor]]] = []
    step = torch.optim.AdamW.step

    def spy(optimizer: torch.optim.AdamW, *rest: object) -> None:
        (group,) = optimizer.param_groups
        rate, norm = group["lr"], torch.stack([each.grad.norm() for each in group["params"]]).norm().item()
        step(optimizer)
        taken.append((rate, norm, [each.detach().clone() for each in group["params"]]))

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    return taken


def test_the_learning_rate_rises_and_falls_and_the_gradient_is_clipped(
    make_fold: MakeFold, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, inputs = noisy(make_fold)
    taken = spy_on_steps(monkeypatch)
    train(fold, inputs, epochs=20, patience=20, batch_size=4, max_grad_norm=0.01)
    rates = np.array([rate for rate, _, _ in taken])
    labelled = (fold.scored & (fold.splits == SPLITS.index("train"))).sum()
    assert len(rates) == 20 * -(-labelled // 4)
    peak = rates.argmax()
    assert 0 < peak / len(rates) < 0.15
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert 0.009 < rates.max() <= 0.01
    assert rates[0] < 0.002
    assert 0 <= rates[-1] < 0.0001
    assert max(norm for _, norm, _ in taken) <= 0.01 * 1.001


def test_the_learning_rate_stays_where_its_schedule_is_constant() -> None:
    assert learning_rate_factor(0.0, "constant") < 0.02
    assert all(learning_rate_factor(progress, "constant") == 1.0 for progress in (0.1, 0.5, 1.0))
    assert learning_rate_factor(0.5, "cosine") == pytest.approx(0.5)


def test_adam_pulls_weights_by_its_gradient_and_adamw_beside_it(make_fold: MakeFold) -> None:
    """One step from the same weights: AdamW shrinks each by rate times decay; to Adam it is part of the gradient."""
    fold, inputs = noisy(make_fold)
    _, batch = collate(examples(fold, "utterance", "train"), inputs, fold)
    moved = {}
    for optimizer, decay in product(("adam", "adamw"), (0.0, 0.5)):
        torch.manual_seed(0)
        network = UtteranceNetwork(UTTERANCE, 3, 2)
        config = schedule(optimizer=optimizer, weight_decay=decay, schedule="constant")
        Learner(network, config, torch.ones(2)).step(batch, 0.5)
        moved[optimizer, decay] = nn.utils.parameters_to_vector(network.parameters()).detach()
    torch.manual_seed(0)
    start = nn.utils.parameters_to_vector(UtteranceNetwork(UTTERANCE, 3, 2).parameters()).detach()
    assert torch.equal(moved["adam", 0.0], moved["adamw", 0.0])
    torch.testing.assert_close(moved["adamw", 0.5], moved["adamw", 0.0] - 0.01 * 0.5 * start, atol=1e-6, rtol=1e-5)
    assert ((moved["adam", 0.5] - start).abs() <= 0.0101).all(), "a first step of Adam is the learning rate at most"
    assert not torch.equal(moved["adam", 0.5], moved["adam", 0.0])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_of_the_weights_is_what_is_kept(
    make_fold: MakeFold, monkeypatch: pytest.MonkeyPatch, decay: float
) -> None:
    fold, inputs = noisy(make_fold)
    taken = spy_on_steps(monkeypatch)
    fitted = train(fold, inputs, epochs=1, batch_size=2, ema_decay=decay)
    torch.manual_seed(0)
    expected = [each.detach().clone() for each in UtteranceNetwork(UTTERANCE, 3, 2).parameters()]
    for count, (_, _, weights) in enumerate(taken, start=1):
        keep = min(decay, (1 + count) / (10 + count)) if decay else 0.0
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, weights, strict=True)]
    for kept, own in zip(fitted.network.parameters(), expected, strict=True):
        torch.testing.assert_close(kept.detach(), own, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("patience", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -0.1),
        ("max_grad_norm", 0.0),
        ("ema_decay", 1.0),
        ("class_weight_power", -0.1),
        ("focal_gamma", -0.1),
        ("min_steps", -1),
    ],
)
def test_bad_schedules_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        schedule(**{key: value})


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights_follow_the_frequencies_of_train(make_fold: MakeFold, power: float) -> None:
    fold = make_fold([[0, 0, 1], [0, -1, 2], [1, 1, 1], [2, 2, 2]], ["train", "train", "dev", "test"], ("a", "b", "c"))
    raw = np.array([3 / 5, 1 / 5, 1 / 5]) ** -power
    np.testing.assert_allclose(class_weights(fold, power).numpy(), raw / raw.mean(), rtol=1e-6)


@pytest.mark.parametrize("change", [{"class_weight_power": 1.0}, {"focal_gamma": 2.0}, {"precision": "bfloat16"}])
def test_options_of_the_loss_reach_the_weights(make_fold: MakeFold, change: dict[str, float]) -> None:
    fold, inputs = noisy(make_fold)
    plain, other = train(fold, inputs, epochs=2), train(fold, inputs, epochs=2, **change)
    assert np.isfinite(other.probabilities).all()
    assert not np.array_equal(plain.probabilities, other.probabilities)
    if "precision" in change:
        np.testing.assert_allclose(other.probabilities, plain.probabilities, atol=0.05)
