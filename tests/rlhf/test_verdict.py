"""How many more prompts people have to compare two policies on, and what stands beside that."""

import re
from dataclasses import replace

import numpy as np
import pytest
from django.template.loader import render_to_string

from rlhf.evaluation.matches import EqualLength, WinRate
from rlhf.evaluation.win_rate import compare
from rlhf.models import Evaluation, Run, Suite, SuiteResult
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


def card(verdict) -> str:
    html = render_to_string(
        "rlhf/_verdict.html", {"verdict": verdict, "project": verdict.policy.project}
    )
    return " ".join(re.sub(r"</?span[^>]*>", "", html).split())


def test_every_rate_says_of_how_many_prompts_it_is(trained, base):
    known = Verdicts(trained.project).between(trained, base)
    people = WinRate(of(30, 12), 42, EqualLength(0.6, 0.4, 0.8), (("soup", of(9, 3)),))
    gold = Evaluation(win_rate=0.7, low=0.6, high=0.8, prompts=33)
    html = card(replace(known, people=people, gold=gold))
    assert "60% (40%–80%) on 42 prompts" in html
    assert re.search(r"soup: 75% \(\d+%–\d+%\) on 12 prompts", html)
    assert "70% (60%–80%) on 33 prompts" in html


def test_the_opponents_checks_are_shown_where_both_were_asked_the_same(trained, base):
    run = Run.objects.create(project=trained.project, kind=Run.Kind.SCORECARD, lease_token=1)
    suite = next(iter(Suite.active_in(trained.project)))
    for policy, passed, probes in ((trained, 3, 4), (base, 7, 8)):
        SuiteResult.objects.create(
            run=run, lease_token=1, policy=policy, suite=suite, suite_hash="a", passed=passed,
            probes=probes,
        )  # fmt: skip
    assert f"{suite} 3 of 4 (base: 7 of 8)" in card(Verdicts(trained.project).on(trained))
    SuiteResult.objects.filter(policy=base).update(suite_hash="b")
    html = card(Verdicts(trained.project).on(trained))
    assert f"{suite} 3 of 4" in html and "(base" not in html
