"""A live comparison may be looked at after every thumb, and says when to stop."""

from math import exp, factorial

import numpy as np
import pytest

from rlhf.evaluation.sequential import REACHED, Thumbs, compare, evidence

FALSE_ALARM = 0.05


def first_alarm(seed: int, *, shares: tuple[float, float], thumbs: int, part: float) -> int | None:
    """After how many thumbs, looked at after each one, the two first differ; None: never.
    `part`: of the thumbs that are the challenger's."""
    draw = np.random.default_rng(seed)
    is_challengers = draw.random(thumbs) < part
    is_up = draw.random(thumbs) < np.where(is_challengers, shares[1], shares[0])
    seen = [[0, 0], [0, 0]]
    for number, (arm, up) in enumerate(zip(is_challengers, is_up, strict=True), start=1):
        seen[int(arm)][int(not up)] += 1
        if evidence(Thumbs(*seen[0]), Thumbs(*seen[1])) >= REACHED:
            return number
    return None


@pytest.mark.parametrize(("share", "part"), [(0.5, 0.5), (0.8, 0.1), (0.97, 0.3)])
def test_two_that_are_equal_differ_in_at_most_5_of_100_comparisons_watched_all_the_time(
    share, part
):
    alarms = [
        first_alarm(seed, shares=(share, share), thumbs=1000, part=part) for seed in range(200)
    ]
    assert sum(each is not None for each in alarms) <= FALSE_ALARM * len(alarms)


def test_two_that_differ_are_told_apart_long_before_the_thumbs_run_out():
    found = [first_alarm(seed, shares=(0.6, 0.8), thumbs=800, part=0.5) for seed in range(30)]
    assert sum(each is not None for each in found) >= 0.9 * len(found)
    assert np.median([each for each in found if each]) < 500


def ratio(live, challenger, share):
    """Both likelihoods averaged over all shares, over what they are at one and the same share."""
    worth = 1.0
    for ups, downs in (live, challenger):
        mean = factorial(ups) * factorial(downs) / factorial(ups + downs + 1)
        worth *= mean / (share**ups * (1 - share) ** downs)
    return worth


def test_the_ratio_of_equal_shares_is_a_martingale_and_the_evidence_never_above_it():
    for share in (0.1, 0.5, 0.7):
        now = ratio((3, 2), (2, 0), share)
        up, down = ratio((3, 2), (3, 0), share), ratio((3, 2), (2, 1), share)
        assert share * up + (1 - share) * down == pytest.approx(now)
        assert exp(evidence(Thumbs(3, 2), Thumbs(2, 0))) <= now
    assert exp(evidence(Thumbs(3, 2), Thumbs(2, 0))) == pytest.approx(ratio((3, 2), (2, 0), 5 / 7))


@pytest.mark.parametrize("true", [-0.3, 0.0, 0.2])
def test_the_true_difference_is_possible_at_every_look(true):
    misses = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        live, challenger = draw.random(200) < 0.6, draw.random(200) < 0.6 + true
        looks = ((thumbs(live[:n]), thumbs(challenger[:n])) for n in range(1, 201, 13))
        misses += any(evidence(*look, true) >= REACHED for look in looks)
    assert misses <= FALSE_ALARM * 100


@pytest.mark.parametrize(
    "live, challenger", [((60, 40), (14, 6)), ((9, 0), (0, 9)), ((1, 0), (5, 5))]
)
def test_the_ends_of_the_interval_are_where_the_evidence_is_reached(live, challenger):
    found = compare(Thumbs(*live), Thumbs(*challenger))
    for end, inwards in ((found.low, 1e-6), (found.high, -1e-6)):
        assert evidence(found.live, found.challenger, end + inwards) < REACHED
        if abs(end) < 1:
            assert evidence(found.live, found.challenger, end) >= REACHED


def thumbs(ups):
    return Thumbs(int(ups.sum()), int((~ups).sum()))


@pytest.mark.parametrize(
    ("live", "challenger", "outcome"),
    [
        ((60, 140), (140, 60), "better"),
        ((140, 60), (60, 140), "worse"),
        ((9000, 6000), (9000, 6000), "alike"),
        ((9, 6), (9, 6), ""),
        ((0, 0), (3, 1), ""),
        ((0, 0), (0, 0), ""),
        ((4, 0), (0, 4), ""),
    ],
)
def test_it_says_when_to_stop(live, challenger, outcome):
    found = compare(Thumbs(*live), Thumbs(*challenger))
    assert found.outcome == outcome
    assert -1 <= found.low < found.high <= 1
    assert (found.more == 0) == bool(outcome)


def test_a_decision_and_the_interval_say_the_same():
    for ups in range(0, 101, 4):
        found = compare(Thumbs(50, 50), Thumbs(ups, 100 - ups))
        differs = evidence(Thumbs(50, 50), Thumbs(ups, 100 - ups)) >= REACHED
        assert differs == (found.outcome in ("better", "worse"))


def test_the_share_of_two_equals_is_the_limit_of_shares_that_hardly_differ():
    for live, challenger in (((7, 3), (2, 9)), ((0, 5), (3, 0)), ((4, 4), (0, 0))):
        seen = Thumbs(*live), Thumbs(*challenger)
        assert evidence(*seen) == pytest.approx(evidence(*seen, 1e-9), abs=1e-6)


def test_as_many_thumbs_more_as_foretold_decide_it():
    live, challenger = Thumbs(60, 40), Thumbs(14, 6)
    more = compare(live, challenger).more
    times = 1 + more / 120
    assert compare(live * times, challenger * times).outcome
    less = 1 + 0.9 * more / 120
    assert not compare(live * less, challenger * less).outcome
