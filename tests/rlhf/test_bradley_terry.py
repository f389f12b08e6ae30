import evalica
import numpy as np
import pytest

from rlhf.evaluation.bradley_terry import standings
from rlhf.evaluation.matches import Match

STRENGTHS = np.array([-1.0, -0.4, 0.0, 0.5, 0.9])


def contest(seed: int, *, prompts: int, labelers: int = 2) -> list[Match]:
    """Rankings of five policies by people who choose as Bradley and Terry say (Luce 1959)."""
    draw = np.random.default_rng(seed)
    matches = []
    for prompt in range(prompts):
        for _ in range(labelers):
            liked = STRENGTHS + draw.gumbel(size=len(STRENGTHS))
            matches += [
                Match(prompt, i, j, float(liked[i] > liked[j]), 0)
                for i in range(len(STRENGTHS))
                for j in range(i + 1, len(STRENGTHS))
            ]
    return matches


def test_the_board_recovers_planted_strengths_within_its_intervals():
    """All five at once, in at least 90 of 100 simulations."""

    def holds(seed: int) -> bool:
        found = standings(contest(seed, prompts=60))
        return all(each.low <= STRENGTHS[each.policy] <= each.high for each in found)

    recovered = sum(map(holds, range(100)))
    assert recovered >= 90
    width = np.mean([s.high - s.low for s in standings(contest(0, prompts=60))])
    assert width < 1.0, "an interval that holds everything says nothing"


def test_the_strengths_are_those_of_an_independent_implementation():
    matches = contest(3, prompts=200)
    winners = [evalica.Winner.X if match.worth else evalica.Winner.Y for match in matches]
    theirs = evalica.bradley_terry(
        [str(match.left) for match in matches], [str(match.right) for match in matches], winners
    ).scores
    expected = np.log(theirs) - np.log(theirs).mean()
    ours = {each.policy: each.strength for each in standings(matches)}
    for policy, strength in ours.items():
        assert strength == pytest.approx(expected[str(policy)], abs=0.02)


def test_answers_to_one_prompt_are_no_independent_evidence():
    """Ten prompts judged by twenty people who all think alike are ten prompts."""
    few = [Match(n % 10, 1, 2, float(n % 10 < 7), 0) for n in range(200)]
    many = [Match(n, 1, 2, float(n % 10 < 7), 0) for n in range(200)]
    wide, narrow = standings(few)[0], standings(many)[0]
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert (wide.matches, wide.prompts) == (200, 10)


def test_who_wins_always_stays_finite_and_uncertain():
    best, worst = standings([Match(n, 1, 2, 1.0, 0) for n in range(10)])
    assert (best.policy, worst.policy) == (1, 2)
    assert 1 < best.strength < 10 and best.low < best.strength - 0.5
    assert best.beats_average > 0.5 > worst.beats_average


def test_who_wins_always_on_a_few_prompts_is_no_surer_for_being_judged_often():
    once = standings([Match(n, 1, 2, 1.0, 0) for n in range(10)])[0]
    often = standings([Match(n, 1, 2, 1.0, 0) for n in range(10) for _ in range(20)])[0]
    assert often.strength - often.low > 0.9 * (once.strength - once.low)


def test_of_one_prompt_a_strength_has_no_interval():
    found = standings([Match(1, 1, 2, float(n < 3), 0) for n in range(4)])
    assert [(each.low, each.high) for each in found] == [(None, None)] * 2
    two = standings([Match(n % 2, 1, 2, float(n < 3), 0) for n in range(4)])
    assert all(each.low < each.strength < each.high for each in two)


@pytest.mark.parametrize("prompts", [2, 5, 20, 200])
def test_intervals_hold_the_truth_however_few_the_prompts(prompts):
    """All five at once in at least 93 of 100, as the intervals hold together with 95 % or more."""
    times = 200 if prompts < 200 else 60
    held = [
        all(each.low <= STRENGTHS[each.policy] <= each.high for each in found)
        for found in (standings(contest(n, prompts=prompts)) for n in range(times))
    ]
    assert sum(held) / times >= 0.93


def test_policies_that_never_met_can_stand_on_one_board():
    matches = [Match(n, 1, 2, float(n % 3 > 0), 0) for n in range(30)]
    matches += [Match(n, 3, 4, float(n % 3 > 0), 0) for n in range(30)]
    assert len(standings(matches)) == 4


def test_ties_bring_policies_together():
    tied = standings([Match(n, 1, 2, 0.5, 0) for n in range(30)])
    assert [each.strength for each in tied] == pytest.approx([0, 0])


def test_no_match_no_board():
    assert standings([]) == []
