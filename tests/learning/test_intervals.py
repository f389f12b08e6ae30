"""Intervals hold the truth in 95 of 100 simulations, whatever the number of prompts."""

import numpy as np
import pytest
from scipy import stats

from rlhf.learning.contract import intervals

PROMPTS = (2, 5, 20, 200)


@pytest.mark.parametrize("p", [0.95, 0.975, 0.995])
def test_students_quantile_is_that_of_an_independent_implementation(p):
    for freedom in (1, 2, 3, 4, 7, 20, 400):
        assert intervals.student(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=0.01)


def test_twenty_three_of_twenty_three_is_86_to_100_percent():
    low, high = intervals.of_share([1.0] * 23, [1.0] * 23)
    assert (round(low, 2), high) == (0.86, 1.0)
    assert intervals.of_share([0.0] * 23, [1.0] * 23) == pytest.approx((1 - high, 1 - low))


def test_of_one_prompt_there_is_no_interval_however_often_it_was_judged():
    assert intervals.of_share([20.0], [20.0]) is None
    assert intervals.of_share([20.0, 0.0], [20.0, 0.0]) is None


def test_prompts_that_agree_count_once_each_however_often_they_were_judged():
    often = intervals.of_share([20.0] * 5, [20.0] * 5)
    assert often == pytest.approx(intervals.of_share([1.0] * 5, [1.0] * 5))
    uneven = intervals.of_share([20.0, 1.0, 1.0], [20.0, 1.0, 1.0])
    assert uneven[0] < often[0], "two prompts that hardly count are no evidence"


def coverage(truth, given, could):
    """The share of simulations, a row each, whose interval holds the truth."""
    found = [intervals.of_share(*both) for both in zip(given, could, strict=True)]
    assert all(low < high for low, high in found)
    holds = [low <= p <= high for (low, high), p in zip(found, truth, strict=True)]
    return sum(holds) / len(holds)


@pytest.mark.parametrize("prompts", PROMPTS)
def test_of_prompts_that_differ_95_of_100_intervals_hold_the_mean(prompts):
    """Each prompt has a share of its own, as an accuracy over its many comparisons has."""
    draw = np.random.default_rng(prompts)
    given = np.clip(draw.normal(0.6, 0.12, (4000, prompts)), 0, 1)
    assert coverage([0.6] * 4000, given, np.ones_like(given)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("judged", [1, 3])
@pytest.mark.parametrize("prompts", PROMPTS)
def test_of_wins_and_losses_at_least_93_of_100_intervals_hold_the_rate(prompts, judged):
    """Over all rates; one judgement of a prompt or three. So few outcomes are possible where the
    prompts are few that the intervals can only be too careful."""
    draw = np.random.default_rng(prompts)
    truth = draw.uniform(0.05, 0.95, 4000)
    of_prompt = draw.beta(3 * truth[:, None], 3 * (1 - truth[:, None]), (4000, prompts))
    given = draw.binomial(judged, of_prompt).astype(float)
    found = coverage(truth, given, np.full_like(given, judged))
    assert found >= 0.93
    assert found <= 0.97 or prompts < 20
