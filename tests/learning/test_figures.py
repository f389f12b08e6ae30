"""Calibration and intervals, against numbers worked out by hand."""

import math

import pytest

from rlhf.learning.contract import figures


def test_a_mean_weighs_its_values_and_its_interval_is_of_whole_prompts():
    found = figures.clustered_mean([1.0, 0.0, 0.5], [2.0, 1.0, 1.0], ["a", "b", "a"], 500)
    assert found.value == pytest.approx((2 + 0.5) / 4)
    # only a, or only b: the ends of what can be drawn
    assert (found.low, found.high) == (0.0, pytest.approx(2.5 / 3))


def test_an_interval_leaves_five_percent_out_and_follows_its_seed():
    values, ones, names = [i / 99 for i in range(100)], [1.0] * 100, [str(i) for i in range(100)]
    found = figures.clustered_mean(values, ones, names, 40000)
    half = 1.96 * math.sqrt(1 / 12) / 10
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.002)
    assert found == figures.clustered_mean(values, ones, names, 40000, seed=0)
    assert found != figures.clustered_mean(values, ones, names, 40000, seed=1)


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
