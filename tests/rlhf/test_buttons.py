"""Two operators look at the same page and press the same button at the same moment."""

import threading
from collections.abc import Callable
from http import HTTPStatus

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from annotate.models import Membership, Policy, User
from rlhf.evaluation.win_rate import batch_of
from rlhf.models import Promotion, RewardModel, Round, Run
from rlhf.registry import promotion
from rlhf.rounds.launch import cancel_round

pytestmark = pytest.mark.django_db(transaction=True)

Press = Callable[..., list[int]]


@pytest.fixture
def press(project, olga, browse) -> Press:
    """Both post this form at once; the states of the answers. Pages differ in who asks only."""
    oscar = User.objects.create_user("oscar")
    project.memberships.create(user=oscar, role=Membership.Role.OPERATOR)

    def both(name: str, *arguments: object, **form: object) -> list[int]:
        url = reverse(name, args=[project.slug, *arguments])
        start, answers = threading.Barrier(2), []

        def post(client: Client) -> None:
            start.wait()
            answers.append(client.post(url, form))
            connection.close()

        threads = [threading.Thread(target=post, args=[browse(who)]) for who in (olga, oscar)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return sorted(answer.status_code for answer in answers)

    return both


@pytest.fixture
def line(project, base, olga, monkeypatch) -> list[Policy]:
    """Three that were live one after the other; the last one is."""
    monkeypatch.setattr(promotion, "warm", lambda policy: None)
    names = ("older", "newer", "newest")
    made = [base.project.policies.create(name=n, origin="base", folder=base.folder) for n in names]
    for policy in made:
        promotion.promote(policy, by=olga, reason="onwards", override="for the test")
    return made


def live(project) -> str:
    return project.policies.live().get().name


def test_launch_makes_one_round_and_keeps_what_the_slower_one_filled_in(
    project, labels, base, press
):
    form = {"base": base.pk, "recipe": "tiny", "stages": ["sft", "reward", "ppo"], "follows": 0}
    assert press("rounds_new", **form) == [HTTPStatus.FOUND, HTTPStatus.UNPROCESSABLE_ENTITY]
    assert Round.objects.get().number == 1
    assert Run.objects.count() == 4


def test_one_who_presses_launch_twice_is_shown_the_round(project, labels, base, olga, browse):
    form = {"base": base.pk, "recipe": "tiny", "stages": ["sft"], "follows": 0}
    client, url = browse(olga), reverse("rounds_new", args=[project.slug])
    first, second = client.post(url, form), client.post(url, form)
    assert first["location"] == second["location"] == "/p/cooking/rounds/1/"
    assert client.post(url, {**form, "follows": 1})["location"] == "/p/cooking/rounds/2/"


def test_the_page_says_which_round_it_has_seen(project, round, olga, browse):
    page = browse(olga).get(reverse("rounds_new", args=[project.slug]))
    assert b'name="follows" value="1"' in page.content


def test_launch_again_makes_one_round(project, round, base, press, bob, prompts):
    press("rounds_again", round.number)
    assert Round.objects.count() == 2
    cancel_round(Round.objects.get(number=2))
    press("rounds_again", round.number)
    assert Round.objects.count() == 3, "the earlier one was over"


def test_cancel_cancels_each_run_once(round, press):
    press("rounds_show", round.number, act="cancel")
    assert set(round.runs.values_list("state", "lease_token")) == {("cancelled", 0)}


def test_resume_queues_each_run_once(round, press):
    cancel_round(round)
    press("rounds_show", round.number, act="resume")
    assert set(round.runs.values_list("state", "attempts_without_progress")) == {("queued", 0)}


def test_first_in_line_moves_a_round_once(project, round, press, labels, base, olga):
    Run.objects.create(project=project, kind=Run.Kind.SAMPLE, priority=3)
    press("rounds_show", round.number, act="first")
    assert set(round.runs.values_list("priority", flat=True)) == {4}


LAUNCHES = {
    "policies_sample": {"k": 2, "split": "test"},
    "policies_evaluation": {"prompts": 3},
    "policies_suites": {},
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_sampling_comparison_or_scorecard_is_launched_once_while_it_is_under_way(
    name, project, prompts, base, press
):
    other = project.policies.create(name="other", origin="base", folder=base.folder)
    chosen = [base.pk, other.pk]
    form = {**LAUNCHES[name], "policies": chosen, "compared": chosen}
    assert press(name, **form) == [HTTPStatus.FOUND, HTTPStatus.FOUND]
    run = Run.objects.get()
    run.request_cancel()
    press(name, **form)
    assert Run.objects.count() == 2, "the earlier one was over"


def test_what_differs_is_another_run(project, prompts, base, olga, browse):
    url = reverse("policies_sample", args=[project.slug])
    for k in (2, 3, 2):
        browse(olga).post(url, {"policies": [base.pk], "k": k, "split": "test"})
    assert [run.config["train"]["k"] for run in Run.objects.all()] == [2, 3]


def test_the_next_batch_is_sampled_once(project, round, base, press, publish):
    base.go_live()
    RewardModel.objects.create(project=project, checkpoint=publish(Run.Kind.REWARD))
    press("rounds_next_batch", round.number, prompts=3)
    assert Run.objects.samplings().count() == 1


def test_people_are_asked_about_so_many_prompts_not_twice_as_many(project, evaluated, press):
    press("rounds_ask_people", evaluated.round.number, prompts=2)
    assert project.tasks.of_batch(batch_of(evaluated)).count() == 2


def test_promote_is_one_decision(project, line, press):
    press("policies_gate", line[0].pk, reason="better", override="for the test")
    assert live(project) == "older"
    assert Promotion.objects.count() == 4


def test_roll_back_goes_back_one_policy_not_two(project, line, press):
    press("policies_roll_back", reason="worse", to=line[1].pk)
    assert live(project) == "newer"
    assert Promotion.objects.count() == 4


def test_a_roll_back_from_a_page_that_is_out_of_date_changes_nothing(project, line, olga, browse):
    url = reverse("policies_roll_back", args=[project.slug])
    for _ in range(2):
        answer = browse(olga).post(url, {"reason": "worse", "to": line[1].pk}, follow=True)
    assert live(project) == "newer"
    assert b"Nothing was changed" in answer.content


def test_two_who_decide_differently_leave_one_live_policy_and_a_true_record(
    project, line, olga, monkeypatch
):
    """The slower roll back finds another policy live than the one it set out from."""
    other = project.policies.create(name="other", origin="base", folder=line[0].folder)

    def somebody_is_quicker(policy: Policy) -> None:
        monkeypatch.setattr(promotion, "warm", lambda policy: None)
        promotion.promote(other, by=olga, reason="better", override="for the test")

    monkeypatch.setattr(promotion, "warm", somebody_is_quicker)
    with pytest.raises(promotion.ValidationError, match="in the meantime"):
        promotion.roll_back(project, by=olga, reason="worse")
    assert live(project) == "other"
