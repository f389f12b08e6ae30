from threading import Event

import pytest

from annotate.models import Assignment, Completion, Placement, Policy, Ranking, Task
from rlhf.data.checks import NotReady
from rlhf.data.selection import TRAIN, Filters, training_rankings
from rlhf.evaluation.matches import matches_of
from rlhf.evaluation.next_batch import launch_next_batch, unsure_of
from rlhf.models import RewardModel, Run
from rlhf.models.leases import claim
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from rlhf.runs.supervisor import supervise


def row(prompt: int, score: float, disagreement: float = 0.0) -> dict:
    return {"id": str(prompt), "score": score, "disagreement": disagreement}


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([row(1, 0, 0.1), row(1, 9, 0.3), row(2, 0, 0.5), row(2, 9, 0.5)], [2]),
        ([row(1, 0), row(1, 9), row(2, 3), row(2, 4), row(3, 0), row(3, 2)], [2, 3]),
    ],
)
def test_people_rank_what_the_reward_model_is_least_sure_of(rows, chosen):
    assert unsure_of(rows, len(chosen)) == chosen


@pytest.mark.django_db(transaction=True)
def test_a_round_ends_with_the_next_batch_in_the_queue(project, labels, base, olga, fake_trainer):
    fake_trainer()
    base.go_live()
    round = launch_round(project, Launch(base=base, recipe="tiny", next_batch=4), by=olga)
    while lease := claim():
        supervise(lease, Event())
    run = Run.objects.samplings().get()
    assert (run.state, run.summary["rank_tasks"]) == (Run.State.SUCCEEDED, 4), run.log_tail
    trains = Task.objects.filter(batch=f"next batch {run.pk}")
    compares = Task.objects.filter(batch=f"next batch {run.pk}, held out")
    assert [task.prompt.split for task in trains] == ["train"] * 3
    [compared] = compares
    assert compared.prompt.split != "train"
    for task in (*trains, compared):
        shown = Completion.objects.filter(tasks=task)
        speakers = set(shown.values_list("policy__name", flat=True))
        assert speakers == {"r1-sft", "r1-ppo", "base"}
        assert all(each.score is not None for each in shown)
    assert round.runs.count() == 4


def test_without_a_reward_model_nobody_can_be_unsure(project, labels, base, olga):
    base.go_live()
    round = launch_round(project, Launch(base=base, recipe="tiny", stages=["sft", "dpo"]), by=olga)
    with pytest.raises(NotReady, match="There is no reward model yet"):
        launch_next_batch(round, by=olga, prompts_at_most=3)
    Policy.objects.filter(pk=base.pk).update(folder="")
    with pytest.raises(NotReady, match="None of its policies"):
        launch_next_batch(round, by=olga, prompts_at_most=3)


@pytest.mark.django_db(transaction=True)
def test_what_people_say_of_its_held_out_part_compares_the_policies(
    project, labels, base, olga, alice, fake_trainer
):
    fake_trainer()
    base.go_live()
    launch_round(project, Launch(base=base, recipe="tiny", next_batch=4), by=olga)
    while lease := claim():
        supervise(lease, Event())
    before = len(matches_of(project))
    trained_on = training_rankings(project, Filters()).in_split(*TRAIN).count()
    [task] = Task.objects.filter(batch__endswith=", held out")
    order = list(task.completions.order_by("policy"))
    work = Assignment.objects.create(
        task=task,
        labeler=alice,
        shown_order=[each.pk for each in order],
        leased_until="2040-01-01T00:00Z",
    )
    places = [Placement(completion=each, place=n) for n, each in enumerate(order, start=1)]
    Ranking.record(assignment=work, placements=places)
    assert len(matches_of(project)) > before
    assert training_rankings(project, Filters()).in_split(*TRAIN).count() == trained_on


@pytest.mark.django_db(transaction=True)
def test_one_policy_alone_is_compared_with_nobody(project, labels, base, olga, publish):
    judge = publish(Run.Kind.REWARD)
    RewardModel.objects.create(project=project, checkpoint=judge)
    round = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    base.go_live()
    run = launch_next_batch(round, by=olga, prompts_at_most=8)
    assert (run.config["next_batch"], run.config["held_out"]) == (8, [])
