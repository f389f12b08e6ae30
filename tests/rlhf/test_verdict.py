"""How many more prompts people have to compare two policies on."""

import numpy as np
import pytest

from rlhf.evaluation.win_rate import compare
from rlhf.registry.verdict import Verdicts, prompts_to_decide


def of(wins: int, losses: int, *, judged: int = 1):
    outcomes = [1.0] * wins + [0.0] * losses
    return compare({n: [worth] * judged for n, worth in enumerate(outcomes)})


def test_what_is_decided_needs_no_more():
    assert prompts_to_decide(of(23, 0)) == prompts_to_decide(of(0, 23)) == 0


def test_before_anybody_has_compared_it_is_what_tells_65_percent_from_half():
    assert prompts_to_decide(None) == 88
    assert prompts_to_decide(of(1, 0, judged=9)) == 87


@pytest.mark.parametrize("rate", [0.6, 0.7, 0.8])
def test_so_many_more_decide_in_about_80_of_100(rate):
    wins = round(20 * rate)
    total = 20 + prompts_to_decide(of(wins, 20 - wins))
    draw = np.random.default_rng(1)
    decided = [
        of(won, total - won).low > 0.5 for won in draw.binomial(total, wins / 20, 300).tolist()
    ]
    assert sum(decided) / 300 == pytest.approx(0.8, abs=0.1) or total == 20


def test_the_closer_to_half_the_more_but_there_is_an_end():
    needed = [prompts_to_decide(of(wins, 100 - wins)) for wins in (58, 56, 54, 51, 50)]
    assert needed[:3] == sorted(needed[:3]) and needed[3] == pytest.approx(needed[4], rel=0.01)
    assert needed[4] < 1000


def test_what_a_judge_says_is_known_from_both_sides_and_listed_once(trained, base):
    verdicts = Verdicts(trained.project)
    ours = verdicts.between(trained, base).reward_model
    theirs = verdicts.between(base, trained).reward_model
    assert (ours.wins, ours.losses, ours.win_rate, ours.low, ours.high) == (6, 2, 0.7, 0.55, 0.82)
    assert (theirs.wins, theirs.losses) == (2, 6)
    assert (theirs.win_rate, theirs.low, theirs.high) == pytest.approx((0.3, 0.18, 0.45))
    trained.go_live()
    both = Verdicts(trained.project).all()
    assert [(each.policy, each.opponent) for each in both] == [(trained, base)]
