"""The figures of agreement against published examples and independent implementations."""

import random
import warnings

import evalica
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kendalltau

from annotate.labels.agreement import (
    Concordance,
    Ranked,
    agreement,
    concordance,
    krippendorff_alpha,
    share_of,
    share_of_sums,
    wilson,
)


def order(places):
    return dict(enumerate(places))


# Pairwise agreement and τ


def test_concordant_and_discordant_pairs_are_those_of_agresti():
    """Agresti (2002), Categorical Data Analysis, table 2.8: job satisfaction by income."""
    table = [[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]]
    people = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    counted = concordance(order([i for i, _ in people]), order([j for _, j in people]))
    assert (counted.concordant, counted.discordant) == (1331, 849)
    gamma = (1331 - 849) / (1331 + 849)
    assert counted.concordant / counted.compared == pytest.approx((1 + gamma) / 2)


def test_tau_is_that_of_the_scipy_manual():
    """https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.kendalltau.html"""
    counted = concordance(order([12, 2, 1, 12, 2]), order([1, 4, 7, 1, 0]))
    assert counted.tau == pytest.approx(-0.47140452079103173)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=9))
def test_tau_is_scipys_on_any_two_orders_with_ties(pairs):
    first, second = zip(*pairs, strict=True)
    with warnings.catch_warnings(action="ignore"):
        theirs = kendalltau(first, second).statistic
    ours = concordance(order(first), order(second)).tau
    assert ours == pytest.approx(theirs) if theirs == theirs else ours is None


def test_only_what_both_have_ordered_is_compared():
    assert concordance({1: 1, 2: 2, 3: 3}, {2: 1, 3: 2, 9: 1}) == Concordance(1, 0, 0, 0)


# Intervals


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_that_of_newcombe(hits, n, low, high):
    """Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3."""
    assert wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys(counts):
    hits, n = counts
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_independent_comparisons_count_in_full_and_repeated_ones_once():
    generator = random.Random(1)
    votes = [int(generator.random() < 0.7) for _ in range(400)]
    single = share_of([(vote, 1) for vote in votes])
    repeated = share_of([(6 * vote, 6) for vote in votes])
    assert single.effective == pytest.approx(400, rel=0.01)
    assert (repeated.trials, repeated.effective) == (2400, pytest.approx(400, rel=0.01))
    assert repeated.interval == pytest.approx(single.interval)


def test_clusters_without_a_trial_say_nothing():
    assert share_of([(0, 0)]) is None
    assert share_of([(0, 0), (3, 4), (4, 4)]) == share_of([(3, 4), (4, 4)])


@pytest.mark.parametrize("agree", [0.6, 0.726, 0.9])
def test_the_interval_holds_the_truth_as_often_as_it_says(agree):
    """Six comparisons of one ranking that lean together, 200 surveys of 60 rankings."""
    generator = random.Random(7)

    def ranking():
        leaning = generator.betavariate(2 * agree, 2 * (1 - agree))
        return sum(generator.random() < leaning for _ in range(6)), 6

    held = 0
    for _ in range(200):
        low, high = share_of([ranking() for _ in range(60)]).interval
        held += low <= agree <= high
    assert held >= 180


# Krippendorff's α

OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def units_of(observers):
    return [[v for v in unit if v is not None] for unit in zip(*observers, strict=True)]


def test_alpha_is_that_of_krippendorff():
    """Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section E: ordinal 0.815."""
    assert krippendorff_alpha(units_of(OBSERVERS)) == pytest.approx(0.815, abs=5e-4)


ratings_of_one = st.lists(st.sampled_from([None, 1, 2, 3, 4]), min_size=6, max_size=6)


@settings(deadline=None)
@given(st.lists(ratings_of_one, min_size=2, max_size=4))
def test_alpha_is_evalicas_on_any_table_with_gaps(observers):
    ours = krippendorff_alpha(units_of(observers))
    if ours is not None:
        frame = pandas.DataFrame(observers, dtype=float)
        assert ours == pytest.approx(evalica.alpha(frame, distance="ordinal").alpha)


@pytest.mark.parametrize("units", [[], [[1], [2]], [[3, 3], [3, 3, 3]]])
def test_there_is_no_alpha_where_nothing_could_be_disagreed_upon(units):
    assert krippendorff_alpha(units) is None


# Over rankings


def test_agreement_is_of_people_who_ranked_the_same_prompt():
    alice, bob, rita = 1, 2, 3
    rankings = [
        Ranked(prompt=1, labeler=alice, places={10: 1, 11: 2, 12: 3}),
        Ranked(prompt=1, labeler=bob, places={10: 1, 11: 3, 12: 2}),  # 2 of 3 with alice
        Ranked(prompt=1, labeler=rita, places={10: 1, 11: 1, 12: 2}),  # 2 of 2, 1 of 2
        Ranked(prompt=2, labeler=alice, places={20: 1, 21: 2}),
        Ranked(prompt=2, labeler=bob, places={20: 2, 21: 1}),  # 0 of 1
        Ranked(prompt=3, labeler=bob, places={30: 2, 31: 1}),  # alone
    ]
    whole = agreement(rankings)
    assert (whole.share.hits, whole.share.trials, whole.share.clusters) == (5, 8, 2)
    of_rita = agreement(rankings, labeler=rita)
    assert (of_rita.share.hits, of_rita.share.trials) == (3, 4)
    taus = [1 / 3, 2 / 6**0.5, 0, -1]
    assert whole.tau == pytest.approx(sum(taus) / 4)
    places = [[1, 1, 1], [2, 3, 1], [3, 2, 2], [1, 2], [2, 1]]
    assert whole.alpha == pytest.approx(krippendorff_alpha(places))


def test_nobody_agrees_with_oneself():
    twice = [Ranked(prompt=1, labeler=1, places={1: 1, 2: 2}) for _ in range(2)]
    assert agreement(twice).share is None


@given(
    st.lists(st.integers(0, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))),
)
def test_the_share_of_sums_is_that_of_the_clusters(clusters):
    found = [(hits, trials) for hits, trials in clusters if trials]
    sums = (
        sum(hits for hits, _ in found),
        sum(trials for _, trials in found),
        sum(hits**2 for hits, _ in found),
        sum(hits * trials for hits, trials in found),
        sum(trials**2 for _, trials in found),
    )
    added, whole = share_of_sums(len(found), *sums), share_of(clusters)
    assert (added is None) == (whole is None)
    if added and whole:
        assert (added.hits, added.trials, added.clusters) == (
            whole.hits,
            whole.trials,
            whole.clusters,
        )
        assert added.effective == pytest.approx(whole.effective)
