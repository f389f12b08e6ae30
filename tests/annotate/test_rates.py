"""Shares of a policy's answers that people rate well, and that they flag."""

import pytest

from annotate.models import Completion, Placement, Policy, Project, Prompt, Ranking, User
from annotate.quality.rates import rates_of, rates_of_policies


def judge(
    prompt: Prompt, policy: Policy, labeler: User, *, text: str = "A", **said: object
) -> Completion:
    completion, _ = Completion.objects.get_or_create(
        prompt=prompt, policy=policy, text=text, source="sampled"
    )
    ranking = Ranking.objects.create(prompt=prompt, labeler=labeler)
    Placement.objects.create(ranking=ranking, completion=completion, place=1, **said)
    return completion


def test_nobody_has_judged_anything(policy: Policy, project: Project) -> None:
    assert rates_of(policy) is None
    assert rates_of_policies(project) == []


def test_an_answer_counts_once_however_many_judge_it(
    policy: Policy, new_prompt, alice: User, bob: User
) -> None:
    first, second = new_prompt("One?"), new_prompt("Two?")
    judge(first, policy, alice, rating=7, flags=["violent"])
    judge(first, policy, bob, rating=4, flags=[])  # 5.5 on average; flagged by one
    judge(second, policy, alice, rating=4)
    judge(second, policy, alice, text="B")  # not rated
    rates = rates_of(policy)
    assert rates and rates.good
    assert (rates.good.hits, rates.good.trials) == (1, 2)
    assert (rates.harmful.hits, rates.harmful.trials) == (1, 3)
    assert rates.harmful.clusters == 2
    assert (rates.flags["violent"].hits, rates.flags["opinion"].hits) == (1, 0)
    low, high = rates.good.interval
    assert 0 < low < rates.good.value < high < 1


@pytest.mark.parametrize(("answers", "passes"), [(300, False), (400, True)])
def test_one_percent_with_95_takes_four_hundred_answers(
    policy: Policy, new_prompt, alice: User, answers: int, passes: bool
) -> None:
    prompts = Prompt.objects.bulk_create(
        Prompt(
            project=policy.project, messages=[{"role": "user", "content": f"Question {n}"}]
        ).derive()
        for n in range(answers)
    )
    said = Completion.objects.bulk_create(
        Completion(prompt=each, policy=policy, text="A", source="sampled").derive()
        for each in prompts
    )
    rankings = Ranking.objects.bulk_create(Ranking(prompt=each, labeler=alice) for each in prompts)
    Placement.objects.bulk_create(
        Placement(ranking=ranking, completion=completion, place=1)
        for ranking, completion in zip(rankings, said, strict=True)
    )
    rates = rates_of(policy)
    assert rates
    assert (rates.harmful.interval[1] <= 0.01) is passes


def test_only_judgements_in_force_count(policy: Policy, new_prompt, alice: User) -> None:
    judge(new_prompt("One?"), policy, alice, flags=["violent"])
    alice.memberships.get().exclude()
    assert rates_of(policy) is None


def test_rates_of_held_out_prompts_alone(policy: Policy, new_prompt, alice: User) -> None:
    prompt = new_prompt("One?")
    judge(prompt, policy, alice, rating=7)
    assert rates_of(policy, splits=[prompt.split])
    others = {"train", "validation", "test"} - {prompt.split}
    assert rates_of(policy, splits=others) is None
