"""S10: five per cent of the accounts lie, and move what is learnt by a point at most, however many
labels they give.

What is good of an answer is a direction among FEATURES; people know it, with errors and tastes of
their own. A logistic regression learns it from what they say, as a reward model does; a point is
one per cent of held-out answers, or pairs of them. Figures are means over seeds, before whose error
a single one would say nothing."""

from collections.abc import Callable

import numpy as np
import pytest

from annotate.labels.agreement import Ranked
from rlhf.data.weights import labeler_weights, thumb_weights, voices
from tests.faults.conftest import IS_LONG, SEED, sized

FEATURES, HELD_OUT, POINT = 5, 4000, 0.01
HONEST, SYBILS = 95, 5
LABELERS, LYING_LABELERS, OF_A_LABELER = 38, 2, 60
SEEDS = range(SEED, SEED + sized(short=8, long=60))
COUNTS = (1, 2, 3, 5, 10, 20, 60, 300, 1000, 5000) if IS_LONG else (1, 10, 60, 1000)

LIES: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "dislike everything": lambda chance, x, truth: np.zeros(len(x)),
    "like everything": lambda chance, x, truth: np.ones(len(x)),
    "say the opposite": lambda chance, x, truth: (x @ truth < 0) * 1.0,
    "dislike one trait": lambda chance, x, truth: (x[:, 0] < 0) * 1.0,
    "click at random": lambda chance, x, truth: chance.integers(0, 2, len(x)) * 1.0,
}


def learnt(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted logistic regression by Newton's method, with a little ridge."""
    found = np.zeros(x.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-np.clip(x @ found, -30, 30)))
        hessian = (x.T * (weights * p * (1 - p))) @ x + np.eye(x.shape[1])
        found += np.linalg.solve(hessian, x.T @ (weights * (y - p)) - found)
    return found


def accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    x = np.random.default_rng(1).normal(size=(HELD_OUT, FEATURES))
    intercept = found[FEATURES] if len(found) > FEATURES else 0.0
    return float((((x @ found[:FEATURES] + intercept) > 0) == (x @ truth > 0)).mean())


def said_of(chance: np.random.Generator, x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (chance.random(len(x)) < 1 / (1 + np.exp(-3 * x @ truth))) * 1.0


def moved_by(lie: str, each: int, seed: int, *, is_weighed: bool, pairs: bool = False) -> float:
    """By how much the sybils lower the accuracy, of thumbs or of preferences between two answers.
    Reviewers have vouched for a third of the honest guests, and for no sybil."""
    chance = np.random.default_rng(seed)
    truth = chance.normal(size=FEATURES)
    counts = chance.geometric(0.1, size=HONEST)
    who = np.concatenate(
        [np.repeat(np.arange(HONEST), counts), np.repeat(np.arange(SYBILS) + HONEST, each)]
    )
    honest = who < HONEST
    x = chance.normal(size=(len(who), FEATURES))
    y = np.where(honest, said_of(chance, x, truth), LIES[lie](chance, x, truth))
    known = set(range(HONEST // 3))
    if not pairs:
        x = np.c_[x, np.ones(len(x))]

    def reached(kept: np.ndarray) -> float:
        weights = np.ones(kept.sum())
        if is_weighed and pairs:
            names, numbers = np.unique(who[kept], return_counts=True)
            voice = voices(dict(zip(names.tolist(), numbers.tolist(), strict=True)), known)
            weights = np.array([voice[name] for name in who[kept]])
        elif is_weighed:
            given = list(zip(who[kept].tolist(), (y[kept] > 0).tolist(), strict=True))
            of_each = thumb_weights(given, known)
            weights = np.array([of_each[thumb] for thumb in given])
        return accuracy(learnt(x[kept], y[kept], weights), truth)

    return reached(honest) - reached(np.ones(len(who), dtype=bool))


@pytest.mark.parametrize("pairs", [False, True], ids=["thumbs", "preferences"])
@pytest.mark.parametrize("lie", LIES)
def test_sybil_guests_move_accuracy_by_a_point_at_most_however_much_they_say(lie, pairs, report):
    moved = {
        each: float(
            np.mean([moved_by(lie, each, seed, is_weighed=True, pairs=pairs) for seed in SEEDS])
        )
        for each in COUNTS
    }
    report(seeds=len(SEEDS), points={each: round(100 * value, 2) for each, value in moved.items()})
    assert max(moved.values()) <= POINT, moved


@pytest.mark.parametrize("lie", ["dislike everything", "say the opposite", "dislike one trait"])
def test_without_weights_they_would_move_it_by_more_than_five(lie):
    assert np.mean([moved_by(lie, 300, seed, is_weighed=False) for seed in SEEDS]) > 5 * POINT


def moved_by_labelers(lie: str, each: int, seed: int, *, is_weighed: bool) -> float:
    """Labelers rank two answers to a prompt, two people each prompt; beside a liar sits somebody
    honest. All were invited, and so are vouched for: what is measured of them is all there is."""
    chance = np.random.default_rng(seed)
    truth = chance.normal(size=FEATURES)
    lied = np.repeat(np.arange(LYING_LABELERS) + LABELERS, each)
    rest = (LABELERS * OF_A_LABELER - len(lied)) // 2
    first = np.concatenate([lied, chance.integers(0, LABELERS, rest)])
    second = chance.integers(0, LABELERS, len(first))
    second = np.where(second == first, (second + 1) % LABELERS, second)
    x = chance.normal(size=(len(first), FEATURES))
    by_first = np.where(first >= LABELERS, LIES[lie](chance, x, truth), said_of(chance, x, truth))
    who = np.concatenate([first, second])
    y = np.concatenate([by_first, said_of(chance, x, truth)])
    prompt, x = np.tile(np.arange(len(first)), 2), np.r_[x, x]

    def reached(kept: np.ndarray) -> float:
        weights = np.ones(kept.sum())
        if is_weighed:
            rankings = [
                Ranked(int(p), int(w), {0: 1, 1: 2} if won else {0: 2, 1: 1})
                for p, w, won in zip(prompt[kept], who[kept], y[kept], strict=True)
            ]
            of_each = labeler_weights(rankings, set(who[kept].tolist()))
            weights = np.array([of_each[int(w)] for w in who[kept]])
        return accuracy(learnt(x[kept], y[kept], weights), truth)

    return reached(who < LABELERS) - reached(np.ones(len(who), dtype=bool))


@pytest.mark.parametrize("lie", ["say the opposite", "dislike one trait", "click at random"])
def test_lying_labelers_move_accuracy_by_a_point_at_most(lie, report):
    seeds = SEEDS[: sized(short=2, long=40)]
    moved = {
        each: float(
            np.mean([moved_by_labelers(lie, each, seed, is_weighed=True) for seed in seeds])
        )
        for each in ((20, 60, 200, 500, 1000) if IS_LONG else (60, 500))
    }
    report(seeds=len(seeds), points={each: round(100 * value, 2) for each, value in moved.items()})
    assert max(moved.values()) <= POINT, moved


def test_without_weights_labelers_would_move_it_by_more_than_a_point():
    moved = [moved_by_labelers("say the opposite", 1000, s, is_weighed=False) for s in SEEDS[:4]]
    assert np.mean(moved) > POINT
