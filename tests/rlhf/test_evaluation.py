import pytest

from rlhf.evaluation import compare, match_up


@pytest.mark.parametrize(
    ("ours", "theirs", "worth"),
    [
        ([1.0, 2.0], [0.0, 3.0], [1.0, 0.0]),
        ([1.0], [1.0], [0.5]),
        ([1.0, 2.0, 3.0], [0.0], [1.0]),
        ([], [1.0], []),
    ],
)
def test_the_nth_completion_meets_the_opponents_nth(ours, theirs, worth):
    assert match_up({7: ours}, {7: theirs}) == {7: worth}


def test_prompts_that_only_one_side_answered_do_not_count():
    assert match_up({1: [1.0], 2: [1.0]}, {2: [0.0]}) == {2: [1.0]}


def test_a_win_rate_counts_ties_half():
    result = compare({1: [1.0, 0.5], 2: [0.0, 1.0]}, seed=0)
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert result.win_rate == 0.625


def test_the_interval_holds_the_rate_and_narrows_with_more_prompts():
    few = compare({i: [float(i % 2)] for i in range(10)}, seed=0)
    many = compare({i: [float(i % 2)] for i in range(400)}, seed=0)
    assert few.low < few.win_rate < few.high
    assert many.high - many.low < 0.4 * (few.high - few.low)


def test_completions_of_one_prompt_are_no_independent_evidence():
    """Ten prompts answered forty times each are ten prompts."""
    clustered = compare({i: [float(i % 2)] * 40 for i in range(10)}, seed=0)
    spread = compare({i: [float(i % 2)] for i in range(400)}, seed=0)
    assert clustered.high - clustered.low > 3 * (spread.high - spread.low)


def test_the_same_seed_gives_the_same_interval():
    matches = {i: [float(i % 3 == 0)] for i in range(30)}
    assert compare(matches, seed=5) == compare(matches, seed=5)
