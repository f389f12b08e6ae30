from threading import Event

import pytest

from annotate.models import Completion, Policy, Task
from rlhf.data.checks import NotReady
from rlhf.evaluation.next_batch import launch_next_batch, unsure_of
from rlhf.models import Run
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
    round = launch_round(project, Launch(base=base, recipe="tiny", next_batch=3), by=olga)
    while lease := claim():
        supervise(lease, Event())
    run = Run.objects.samplings().get()
    assert (run.state, run.summary["rank_tasks"]) == (Run.State.SUCCEEDED, 3), run.log_tail
    tasks = Task.objects.filter(batch=f"next batch {run.pk}")
    assert {task.prompt.split for task in tasks} == {"train"}
    for task in tasks:
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
