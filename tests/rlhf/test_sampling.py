"""A claimed sampling: completions, and the work or the demonstrations made of them."""

import pytest

from annotate.models import Completion, Demonstration, Task
from rlhf.models import Run
from rlhf.rounds.launch import launch_round, launch_sampling
from rlhf.rounds.settings import Launch
from tests.rlhf.conftest import work, work_until_idle

pytestmark = pytest.mark.django_db(transaction=True)


def test_sampling_makes_completions_and_the_work_of_ranking_them(
    project, prompts, base, olga, fake_trainer
):
    launch_sampling(project, by=olga, policies=[base], k=3, prompts=prompts[:5])
    run = work()
    assert run.state == Run.State.SUCCEEDED, run.log_tail
    assert run.summary["completions"] == 15
    assert Completion.objects.filter(source=Completion.Source.SAMPLED).count() == 15
    tasks = Task.objects.filter(kind=Task.Kind.RANK)
    assert [task.completions.count() for task in tasks] == [3] * 5


def test_a_completion_keeps_how_it_was_sampled_not_what_the_recipe_says(
    project, labels, base, olga, fake_trainer
):
    base.temperature, base.max_new_tokens = 0.3, 17
    base.save()
    asked = list(project.prompts.all()[:1])
    sampling = launch_sampling(project, by=olga, policies=[base], k=1, prompts=asked, distil=True)
    work()
    [said] = Completion.objects.sampled_by(sampling.pk)
    assert (said.sampling["temperature"], said.sampling["max_new_tokens"]) == (0.3, 17)
    round = launch_round(project, Launch(base=base, recipe="tiny", stages=["sft"]), by=olga)
    work_until_idle()
    evaluation = round.runs.get(kind=Run.Kind.EVALUATE)
    length = evaluation.config["train"]["max_new_tokens"]
    assert length != 17
    for said in Completion.objects.sampled_by(evaluation.pk):
        assert (said.sampling["temperature"], said.sampling["max_new_tokens"]) == (0.3, length)


def test_distilling_makes_demonstrations_of_a_labeler_who_is_the_policy(
    project, prompts, base, olga, fake_trainer
):
    launch_sampling(project, by=olga, policies=[base], k=1, prompts=prompts[:5], distil=True)
    before = Demonstration.objects.count()
    run = work()
    assert run.summary["distilled"] == Demonstration.objects.count() - before == 5
    made = Demonstration.objects.order_by("-pk")[0]
    assert made.labeler.is_simulated and made.labeler.labeler_name == "policy base"
    assert (made.source, made.text) == (
        f"distilled by run {run.pk}",
        f"base says 0 to {made.prompt_id}",
    )
    assert not Task.objects.filter(kind=Task.Kind.RANK).exists()


def test_nobody_ranks_answers_to_prompts_that_were_archived_meanwhile(
    project, prompts, base, olga, fake_trainer
):
    for gone, tasks in ((1, 2), (3, 0)):
        asked = list(project.prompts.order_by("pk")[:3])
        run = launch_sampling(project, by=olga, policies=[base], k=2, prompts=asked, seed=gone)
        project.prompts.filter(pk__in=[each.pk for each in asked[:gone]]).archive()
        run = work()
        assert run.state == Run.State.SUCCEEDED
        assert run.summary.get("rank_tasks", 0) == tasks
        project.prompts.all().restore()
        Task.objects.all().delete()
    assert run.summary["note"] == "All its prompts have been archived or withdrawn."
