from threading import Event

import pytest
from django.core.exceptions import ValidationError

from annotate.labelling.queue import next_assignment
from annotate.models import Completion, Policy, Task
from rlhf.data.checks import NotReady
from rlhf.evaluation.win_rate import ask_people, batch_of, compare, match_up
from rlhf.models import Run
from rlhf.models.leases import claim
from rlhf.rounds.launch import launch_comparison, launch_round
from rlhf.rounds.report import report_on
from rlhf.rounds.settings import Launch
from rlhf.runs.supervisor import supervise


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
    result = compare({1: [1.0, 0.5], 2: [0.0, 1.0]})
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert result.win_rate == 0.625


def test_the_interval_holds_the_rate_and_narrows_with_more_prompts():
    few = compare({i: [float(i % 2)] for i in range(10)})
    many = compare({i: [float(i % 2)] for i in range(400)})
    assert few.low < few.win_rate < few.high
    assert many.high - many.low < 0.4 * (few.high - few.low)


def test_completions_of_one_prompt_are_no_independent_evidence():
    """Ten prompts answered forty times each are ten prompts."""
    clustered = compare({i: [float(i % 2)] * 40 for i in range(10)})
    spread = compare({i: [float(i % 2)] for i in range(400)})
    assert clustered.high - clustered.low > 3 * (spread.high - spread.low)


def test_of_one_prompt_a_rate_has_no_interval():
    result = compare({1: [1.0, 1.0, 0.5], 2: []})
    assert (result.prompts, result.low, result.high) == (1, None, None)


@pytest.mark.django_db(transaction=True)
def test_the_headline_of_a_round_is_about_what_it_made(project, labels, base, olga, fake_trainer):
    """Names of its base and of the live policy that come first in the alphabet change nothing."""
    base.name = "a-base"
    base.save()
    live = project.policies.create(name="a-live", origin="base", folder=base.folder)
    live.go_live()
    round = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    while lease := claim():
        supervise(lease, Event())
    report = report_on(round)
    assert [pair for pair, _ in report.evaluation.win_rates] == [
        "r1-ppo over r1-sft", "r1-ppo over a-base", "r1-ppo over a-live",
        "r1-sft over a-base", "r1-sft over a-live", "a-base over a-live",
    ]  # fmt: skip
    assert report.headline.startswith("r1-ppo over r1-sft: ")


def tasks_of(run: Run) -> list[Task]:
    return list(Task.objects.of_batch(batch_of(run)).prefetch_related("completions__policy"))


@pytest.mark.django_db(transaction=True)
def test_people_compare_one_answer_of_each_policy_on_held_out_prompts(evaluated):
    assert ask_people(evaluated, prompts_at_most=3) == 3
    for task in tasks_of(evaluated):
        assert task.kind == Task.Kind.RANK and task.prompt.split != "train"
        speakers = sorted(each.policy.name for each in task.completions.all())
        assert speakers == ["base", "r1-ppo", "r1-sft"]


@pytest.mark.django_db(transaction=True)
def test_asking_again_adds_prompts_and_doubles_none(evaluated):
    assert [ask_people(evaluated, prompts_at_most=n) for n in (1, 3, 3, 9, 9)] == [1, 2, 0, 1, 0]
    assert len({task.prompt_id for task in tasks_of(evaluated)}) == 4


@pytest.mark.django_db(transaction=True)
def test_comparisons_come_before_other_rankings(evaluated, rank_task, alice):
    rank_task()
    ask_people(evaluated, prompts_at_most=1)
    given = next_assignment(alice, evaluated.project)
    assert given and given.task.batch == batch_of(evaluated)


@pytest.mark.django_db(transaction=True)
def test_an_evaluation_that_has_not_ended_has_nothing_to_compare(round):
    with pytest.raises(ValidationError, match="has not finished"):
        ask_people(round.runs.get(kind=Run.Kind.EVALUATE), prompts_at_most=3)


@pytest.mark.django_db(transaction=True)
def test_a_round_asks_people_by_itself_if_told_so(project, labels, base, olga, fake_trainer):
    round = launch_round(project, Launch(base=base, recipe="tiny", ask_people=2), by=olga)
    while lease := claim():
        supervise(lease, Event())
    run = round.runs.get(kind=Run.Kind.EVALUATE)
    assert (run.summary["rank_tasks"], len(tasks_of(run))) == (2, 2)


@pytest.mark.django_db(transaction=True)
def test_evaluations_and_comparisons_ask_the_same_prompts_and_not_the_oldest(
    project, labels, base, olga, fake_trainer
):
    asked = sorted(
        (each for each in project.prompts.all() if each.split != "train"),
        key=lambda prompt: prompt.content_hash,
    )[:2]
    held_out = project.prompts.exclude(split="train").order_by("pk")
    assert set(asked) != set(held_out[:2]), "the oldest ones come first by chance"
    round = launch_round(project, Launch(base=base, recipe="tiny", stages=["sft"]), by=olga)
    evaluation = round.runs.get(kind=Run.Kind.EVALUATE)
    evaluation.config["prompts_at_most"] = 2
    evaluation.save()
    while lease := claim():
        supervise(lease, Event())
    said = Completion.objects.sampled_by(evaluation.pk)
    assert {each.prompt for each in said.select_related("prompt")} == set(asked)
    trained = project.policies.exclude(pk=base.pk).get()
    run = launch_comparison(project, by=olga, policies=[base, trained], prompts_at_most=2)
    assert set(run.config["prompts"]) == {each.pk for each in asked}


@pytest.mark.django_db(transaction=True)
def test_any_two_policies_can_be_compared_without_a_round(
    project, prompts, base, olga, model_folder, fake_trainer
):
    brief = Policy.objects.create(
        project=project, name="brief", origin="prompted", folder=model_folder, system_prompt="Brief"
    )
    run = launch_comparison(project, by=olga, policies=[base, brief], prompts_at_most=3)
    supervise(claim(), Event())
    assert len(tasks_of(run)) == 3
    with pytest.raises(NotReady, match="at least two"):
        launch_comparison(project, by=olga, policies=[base], prompts_at_most=3)
