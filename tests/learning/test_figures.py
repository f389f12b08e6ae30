"""Calibration and intervals, against numbers worked out by hand."""

import math

import pytest

from rlhf.learning.contract import figures


def test_a_mean_weighs_its_values_and_its_interval_is_of_whole_prompts():
    found = figures.clustered_mean([1.0, 0.0, 0.5], [2.0, 1.0, 1.0], ["a", "b", "a"])
    assert found.value == pytest.approx((2 + 0.5) / 4)
    # prompt a gave 2.5 of 3, prompt b 0 of 1: by hand from Wilson, with Student's 12.706
    off = ((2.5 - 0.625 * 3) / 4) ** 2 + (0.625 / 4) ** 2
    trials, t = 0.625 * 0.375 / (2 * off), 12.706205
    reach = t * math.sqrt(0.625 * 0.375 / trials + t * t / (4 * trials**2))
    middle, scale = 0.625 + t * t / (2 * trials), 1 + t * t / trials
    ends = ((middle - reach) / scale, (middle + reach) / scale)
    assert (found.low, found.high) == pytest.approx(ends)


def test_an_interval_is_as_wide_as_theory_says():
    values, ones, names = [i / 99 for i in range(100)], [1.0] * 100, [str(i) for i in range(100)]
    found = figures.clustered_mean(values, ones, names)
    half = 1.984 * math.sqrt(1 / 12) / 10
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.002)


def test_a_mean_of_one_prompt_has_no_interval_and_leaves_no_figure_of_one():
    found = figures.clustered_mean([1.0, 0.0], [1.0, 1.0], ["a", "a"])
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert found.named("accuracy", of="/x") == {"accuracy/x": 0.5}
    assert figures.Estimate(0.5, 0.2, 0.8).named("accuracy", of="/x") == {
        "accuracy/x": 0.5, "accuracy_low/x": 0.2, "accuracy_high/x": 0.8,
    }  # fmt: skip


@pytest.mark.parametrize(("difference", "right"), [(0.1, 1.0), (0.0, 0.5), (-0.1, 0.0)])
def test_a_score_is_right_wrong_or_cannot_tell(difference, right):
    assert figures.correct(difference) == right


def test_correlation_is_of_two_lists_that_vary():
    assert figures.correlation([1, 2, 4], [2, 4, 8]) == pytest.approx(1)
    assert figures.correlation([1, 2], [5, 4]) == pytest.approx(-1)
    assert figures.correlation([1, 2, 3], [1, 0, 1]) == pytest.approx(0)
    assert figures.correlation([1], [1]) == 0
    assert figures.correlation([1, 1], [1, 2]) == figures.correlation([1, 2], [3, 3]) == 0


def test_each_bin_of_the_diagram_says_what_was_said_and_what_came():
    said, weights = [0.95, 1.0, 0.03, 0.5, 0.74], [1.0, 1.0, 2.0, 1.0, 3.0]
    found = figures.reliability_diagram(said, weights, bins=10)
    assert found == [
        pytest.approx((0.6, 0.5, 0.5, 1.0)),
        pytest.approx((0.8, 0.74, 1.0, 3.0)),
        pytest.approx((1.0, (0.95 + 1.0 + 2 * 0.97) / 4, 0.5, 4.0)),
    ]
    by_hand = (0.26 * 3 + abs(3.89 / 4 - 0.5) * 4) / 8
    assert figures.calibration_error(said, weights) == pytest.approx(by_hand)


def test_the_usual_number_of_bins_is_ten():
    (bin_,) = figures.reliability_diagram([0.65], [2.0])
    assert bin_ == pytest.approx((0.7, 0.65, 1.0, 2.0))
    # One bin of ten, but two of eleven: said 0.65 on average, and it came half the time.
    assert figures.calibration_error([0.61, 0.31], [1.0, 1.0]) == pytest.approx(0.15)


@pytest.mark.parametrize("x", [-800.0, -2.0, -0.5, 0.0, 0.5, 2.0, 800.0])
def test_sigmoid_and_softplus_hold_at_both_ends(x):
    sigmoid, softplus = figures._sigmoid(x), figures._softplus(x)
    if abs(x) < 100:
        assert sigmoid == pytest.approx(1 / (1 + math.exp(-x)))
        assert softplus == pytest.approx(math.log(1 + math.exp(x)))
    else:
        assert sigmoid == pytest.approx(float(x > 0)) and softplus == max(x, 0.0)
