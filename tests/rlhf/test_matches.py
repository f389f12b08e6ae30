import numpy as np
import pytest

from annotate.models import Completion, Policy, Prompt, Ranking
from rlhf.evaluation.matches import Match, at_equal_length, between, matches_of, win_rate


@pytest.fixture
def rivals(project, policy) -> list[Policy]:
    names = ("sft", "ppo")
    made = [Policy.objects.create(project=project, name=n, origin="trained") for n in names]
    return [policy, *made]


@pytest.fixture
def held_out(prompts) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt.split != Prompt.Split.TRAIN]


def rank(prompt, labeler, **said) -> Ranking:
    """`said`: text → (place, policies that say it)."""
    ranking = Ranking.objects.create(prompt=prompt, labeler=labeler)
    for text, (place, policies) in said.items():
        for policy in policies:
            made = Completion.objects.create(
                prompt=prompt, policy=policy, text=text, source=Completion.Source.EVALUATION
            )
        ranking.placements.create(completion=made, place=place)
    return ranking


def worth(project, policy, opponent) -> list[float]:
    return sorted(match.worth for match in between(matches_of(project), policy.pk, opponent.pk))


def test_a_ranking_is_a_match_of_every_two_policies_in_it(project, rivals, held_out, alice):
    base, sft, ppo = rivals
    rank(held_out[0], alice, good=(1, [ppo]), fair=(2, [sft]), poor=(2, [base]))
    assert worth(project, ppo, sft) == worth(project, ppo, base) == [1.0]
    assert worth(project, sft, ppo) == [0.0]
    assert worth(project, sft, base) == [0.5]


def test_a_card_stands_for_everybody_who_says_it(project, rivals, held_out, alice):
    """Identical texts are shown once; whoever else said it has been judged too."""
    base, sft, ppo = rivals
    rank(held_out[0], alice, good=(1, [ppo, sft]), poor=(2, [base]))
    assert worth(project, ppo, base) == worth(project, sft, base) == [1.0]
    assert worth(project, ppo, sft) == [0.5]


def test_prompts_that_train_do_not_count(project, rivals, prompts, alice):
    base, sft, _ = rivals
    train = next(prompt for prompt in prompts if prompt.split == Prompt.Split.TRAIN)
    rank(train, alice, good=(1, [sft]), poor=(2, [base]))
    assert matches_of(project) == []


def test_only_the_current_revision_of_a_ranking_counts(project, rivals, held_out, alice):
    base, sft, _ = rivals
    first = rank(held_out[0], alice, good=(1, [sft]), poor=(2, [base]))
    second = rank(held_out[0], alice, good=(2, [sft]), poor=(1, [base]))
    Ranking.objects.filter(pk=second.pk).update(supersedes=first)
    assert worth(project, sft, base) == [0.0]


def test_all_bad_prefers_nothing(project, rivals, held_out, alice):
    base, sft, _ = rivals
    ranking = rank(held_out[0], alice, good=(1, [sft]), poor=(2, [base]))
    Ranking.objects.filter(pk=ranking.pk).update(outcome=Ranking.Outcome.ALL_BAD)
    assert matches_of(project) == []


def test_a_foreign_project_sees_none(project, rivals, held_out, alice, mallory):
    rank(held_out[0], alice, good=(1, [rivals[1]]), poor=(2, [rivals[0]]))
    assert matches_of(mallory.memberships.get().project) == []


def test_who_never_met_has_no_win_rate():
    assert win_rate([Match(1, 1, 2, 1.0, 0)], 1, 3) is None


def test_the_win_rate_by_tag_leaves_out_what_too_few_prompts_stand_behind():
    matches = [Match(n, 1, 2, float(n % 2), 0, ("code",)) for n in range(6)]
    matches += [Match(n, 1, 2, 1.0, 0, ("poem",)) for n in range(6, 9)]
    found = win_rate(matches, 2, 1)
    assert found and found.prompts == 9
    assert [(tag, rate.win_rate) for tag, rate in found.by_tag] == [("code", 0.5)]
    assert found.overall.win_rate == pytest.approx(3 / 9)


def contest(*, quality: float, taste_for_length: float, longer: float) -> list[Match]:
    """Labelers who like quality and length; the left policy writes so much longer, more or less."""
    draw = np.random.default_rng(1)
    lengths = draw.normal(longer, 100, 600)
    chance = 1 / (1 + np.exp(-(quality + taste_for_length * np.tanh(lengths / lengths.std()))))
    won = draw.random(600) < chance
    return [Match(n // 2, 1, 2, float(won[n]), round(lengths[n])) for n in range(600)]


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_at_equal_length_only_quality_wins(quality):
    matches = contest(quality=quality, taste_for_length=2.0, longer=120)
    found = at_equal_length(matches)
    plain = sum(match.worth for match in matches) / len(matches)
    truth = 1 / (1 + np.exp(-quality))
    assert plain > truth + 0.1, "the longer one wins more often than it deserves"
    assert found.low < truth < found.high and found.low < found.win_rate < found.high
    assert found.high - found.low < 0.25


def test_where_lengths_do_not_overlap_equal_length_cannot_be_told():
    """They spread widely all the same: answers of 4 tokens against answers of 27."""
    apart = contest(quality=1.0, taste_for_length=2.0, longer=400)
    assert np.std([match.longer for match in apart]) > 90
    assert at_equal_length(apart).why == "their lengths do not overlap"
    assert at_equal_length([match.swap() for match in apart]).win_rate is None
    few = [Match(n, 1, 2, float(n % 2), 5 if n % 11 else -5) for n in range(40)]
    found = at_equal_length(few)
    assert found.win_rate is not None, "four of forty prompts are an overlap"
    assert at_equal_length(few[1:33]).win_rate is None, "two of thirty-two are none"


def test_answers_of_one_length_are_compared_at_it():
    found = at_equal_length([Match(n, 1, 2, float(n < 15), 0) for n in range(20)])
    assert found.win_rate == pytest.approx(0.75, abs=0.02) and found.low < 0.7


def test_at_equal_length_needs_a_few_prompts():
    found = at_equal_length([Match(1, 1, 2, 1.0, n - 10) for n in range(20)])
    assert (found.win_rate, found.why) == (None, "fewer than 5 prompts")


def test_who_wins_always_has_a_finite_and_uncertain_rate_at_equal_length():
    found = at_equal_length([Match(n, 1, 2, 1.0, n - 10) for n in range(20)])
    assert 0.5 < found.low < found.win_rate < 1 and found.high - found.low > 0.1
    often = at_equal_length([Match(n, 1, 2, 1.0, n - 10) for n in range(20) for _ in range(9)])
    assert often.low < 0.93, "twenty prompts are twenty, however often they were judged"


@pytest.mark.parametrize("prompts", [5, 20, 200])
def test_95_of_100_intervals_at_equal_length_hold_the_truth(prompts):
    draw, held = np.random.default_rng(prompts), 0
    for _ in range(300):
        lengths = draw.normal(20, 100, (prompts, 3)).round()
        chance = 1 / (1 + np.exp(-(0.5 + 0.8 * np.tanh(lengths / 100))))
        won = draw.random((prompts, 3)) < chance
        each = [(p, n) for p in range(prompts) for n in range(3)]
        found = at_equal_length([Match(p, 1, 2, float(won[p, n]), lengths[p, n]) for p, n in each])
        held += found.win_rate is None or found.low <= 1 / (1 + np.exp(-0.5)) <= found.high
    assert held / 300 >= 0.93
