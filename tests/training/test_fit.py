"""The fit loop: which epoch is kept, what the seed decides, and that only train is learned from."""

from collections.abc import Callable
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

from emofuse.models.parts.base import Batch, Network, Output, Unit
from emofuse.models.unimodal import ContextConfig, ContextNetwork, UtteranceConfig, UtteranceNetwork
from emofuse.tasks import IGNORE, SPLITS, Fold
from emofuse.training.data import Sequences, collate, examples, single_frames
from emofuse.training.fit import FitConfig, Fitted, Learner, class_weights, dev_scores, fit, infer, rate, standardize

MakeFold = Callable[..., Fold]
ROWS = 8
"""Utterances of each split in the scripted folds."""


def schedule(**changes: Any) -> FitConfig:
    values = {"epochs": 4, "patience": 4, "batch": 8, "learning_rate": 0.01, "weight_decay": 0.01, "clip": 1.0}
    return FitConfig(**{**values, **changes})  # type: ignore[arg-type]


class Scripted(Network):
    """A network whose answers are fixed beforehand: in epoch e so many of each split's utterances are right.

    It reads frames of (target, split, rank), and takes one batch an epoch.
    """

    unit: ClassVar[Unit] = "utterance"

    def __init__(self, right: list[dict[str, int]]) -> None:
        super().__init__()
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
        return Output(nn.functional.one_hot(said_U, 2) * 3.0 + 0 * self.weight)


def scripted(make_fold: MakeFold) -> tuple[Fold, dict[str, Sequences], np.ndarray]:
    """A fold for :class:`Scripted`, its inputs, and the targets of all, those of test too."""
    targets = np.array([[row % 2 for row in range(ROWS)]] * 3)
    fold = make_fold(targets, SPLITS)
    frames = [(target, split, rank) for split in range(3) for rank, target in enumerate(targets[split])]
    return fold, {"audio": single_frames(torch.tensor(frames))}, targets.reshape(-1)


def run_script(make_fold: MakeFold, right: list[dict[str, int]], patience: int = 100) -> Fitted:
    fold, inputs, _ = scripted(make_fold)
    return fit(Scripted(right), inputs, fold, schedule(epochs=len(right), patience=patience, batch=ROWS), 0)


def test_kept_epochs_are_those_of_test_and_change_nothing_else(make_fold: MakeFold) -> None:
    """In epoch 2 dev is best; test is best in epoch 3, which is kept beside and chosen by nobody."""
    fold, inputs, targets = scripted(make_fold)
    right = [{"dev": 2, "test": 1}, {"dev": 7, "test": 3}, {"dev": 5, "test": 8}]
    configs = [schedule(epochs=3, batch=ROWS, keep_epochs=kept) for kept in (False, True)]
    plain, kept = (fit(Scripted(right), inputs, fold, config, 0) for config in configs)
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
    fitted = run_script(make_fold, [{"dev": right} for right in dev], patience)
    true = np.arange(ROWS) % 2
    f1 = [f1_score(true, np.where(np.arange(ROWS) < right, true, 1 - true), average="weighted") for right in dev]
    best, last = 0, len(f1) - 1
    for epoch, score in enumerate(f1):
        if score > f1[best]:
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


UTTERANCE = UtteranceConfig(project=3, hidden=4, layers=2, dropout=0.3, input_dropout=0.2)
CONTEXT = ContextConfig(hidden=4, layers=1, heads=2, dropout=0.3, contrastive=0.1, temperature=0.1)


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
        network = ContextNetwork(CONTEXT, sequences.dim, len(fold.classes), fold.context == "past")
    standardize(network.standardize, sequences, fold)
    return fit(network, inputs, fold, schedule(**changes), seed)


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


def test_the_seed_of_fit_decides_batches_and_dropout(make_fold: MakeFold) -> None:
    fold, inputs = noisy(make_fold)
    torch.manual_seed(0)
    network = UtteranceNetwork(UTTERANCE, 3, 2)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    results = []
    for seed in (5, 5, 6):
        network.load_state_dict(state)
        results.append(fit(network, inputs, fold, schedule(), seed))
    weights = [each.probabilities for each in results]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


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
    true, said = fold.targets[rows], probabilities[rows].argmax(axis=1)
    got = dev_scores(probabilities, fold)
    assert got == pytest.approx(
        {
            "accuracy": accuracy_score(true, said),
            "balanced_accuracy": balanced_accuracy_score(true, said),
            "weighted_f1": f1_score(true, said, average="weighted"),
            "macro_f1": f1_score(true, said, average="macro"),
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
    train(fold, inputs, epochs=20, patience=20, batch=4, clip=0.01)
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
    assert rate(0.0, "constant") < 0.02
    assert all(rate(progress, "constant") == 1.0 for progress in (0.1, 0.5, 1.0))
    assert rate(0.5, "cosine") == pytest.approx(0.5)


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


@pytest.mark.parametrize("average", [0.0, 0.5, 0.99])
def test_the_average_of_the_weights_is_what_is_kept(
    make_fold: MakeFold, monkeypatch: pytest.MonkeyPatch, average: float
) -> None:
    fold, inputs = noisy(make_fold)
    taken = spy_on_steps(monkeypatch)
    fitted = train(fold, inputs, epochs=1, batch=2, average=average)
    torch.manual_seed(0)
    expected = [each.detach().clone() for each in UtteranceNetwork(UTTERANCE, 3, 2).parameters()]
    for count, (_, _, weights) in enumerate(taken, start=1):
        keep = min(average, (1 + count) / (10 + count)) if average else 0.0
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, weights, strict=True)]
    for kept, own in zip(fitted.network.parameters(), expected, strict=True):
        torch.testing.assert_close(kept.detach(), own, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("patience", 0),
        ("batch", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -0.1),
        ("clip", 0.0),
        ("average", 1.0),
        ("balance", -0.1),
        ("focus", -0.1),
    ],
)
def test_bad_schedules_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        schedule(**{key: value})


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_class_weights_follow_the_frequencies_of_train(make_fold: MakeFold, balance: float) -> None:
    fold = make_fold([[0, 0, 1], [0, -1, 2], [1, 1, 1], [2, 2, 2]], ["train", "train", "dev", "test"], ("a", "b", "c"))
    raw = np.array([3 / 5, 1 / 5, 1 / 5]) ** -balance
    np.testing.assert_allclose(class_weights(fold, balance).numpy(), raw / raw.mean(), rtol=1e-6)


@pytest.mark.parametrize("change", [{"balance": 1.0}, {"focus": 2.0}, {"precision": "bfloat16"}])
def test_options_of_the_loss_reach_the_weights(make_fold: MakeFold, change: dict[str, float]) -> None:
    fold, inputs = noisy(make_fold)
    plain, other = train(fold, inputs, epochs=2), train(fold, inputs, epochs=2, **change)
    assert np.isfinite(other.probabilities).all()
    assert not np.array_equal(plain.probabilities, other.probabilities)
    if "precision" in change:
        np.testing.assert_allclose(other.probabilities, plain.probabilities, atol=0.05)
