"""Where bars and intervals stand, and what is written beside them."""

from datetime import date, timedelta

import pytest

from annotate.labels.agreement import share_of
from annotate.plots import HEIGHT, WIDTH, bars, intervals

TODAY = date(2026, 3, 10)


def days_ago(n):
    return TODAY - timedelta(days=n)


def test_a_bar_stands_in_the_place_of_its_day_and_the_highest_reaches_the_top():
    plot = bars("Answers", [(TODAY, 3), (days_ago(3), 6), (days_ago(4), 99)], until=TODAY, count=4)
    assert [mark.title for mark in plot.marks] == ["7 Mar: 6", "8 Mar: 0", "9 Mar: 0", "10 Mar: 3"]
    assert [mark.height for mark in plot.marks] == [HEIGHT, 0, 0, HEIGHT / 2]
    assert all(mark.y + mark.height == HEIGHT for mark in plot.marks)
    assert [mark.x // (WIDTH / 4) for mark in plot.marks] == [0, 1, 2, 3]
    assert (plot.top, plot.first, plot.last) == ("6", "7 Mar", "10 Mar")


@pytest.mark.parametrize("days", [[], [(days_ago(9), 5)]])
def test_there_is_no_picture_of_nothing(days):
    assert bars("Answers", days, until=TODAY, count=4) is None


def test_an_interval_reaches_from_its_low_end_to_its_high_end():
    half, all_of_them = share_of([(1, 2)] * 40), share_of([(2, 2)] * 40)
    plot = intervals("Agreement", [(days_ago(7), half), (TODAY, all_of_them)])
    low, high = half.interval
    first, second = plot.marks
    assert first.middle == HEIGHT / 2 and second.middle == 0
    assert first.y == pytest.approx(HEIGHT * (1 - high), abs=0.1)
    assert first.y + first.height == pytest.approx(HEIGHT * (1 - low), abs=0.11)
    assert second.title == "Week of 10 Mar: 100%"
    assert intervals("Agreement", [(TODAY, half)]) is None
