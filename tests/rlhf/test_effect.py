"""What labelers are told of the effect of their work on the first page."""

from threading import Event

import pytest

from annotate.models import Policy
from rlhf.home import effect_of_work
from rlhf.models import Evaluation
from rlhf.models.leases import claim
from rlhf.models.outcomes import Promotion
from rlhf.runs.supervisor import supervise
from tests.rlhf.test_costs import compared

pytestmark = pytest.mark.django_db(transaction=True)


def told(person) -> list[str]:
    return list(effect_of_work(person.memberships.get()))


def test_labelers_hear_that_their_rankings_are_in_the_live_model_and_how_it_does(
    round, fake_trainer, base, project, alice, rita, olga, browse
):
    while lease := claim():
        supervise(lease, Event())
    base.go_live()
    assert told(alice) == []
    trained = Policy.objects.get(name="r1-ppo")
    trained.go_live()
    # Four of the twenty are of held-out prompts: they measure, and teach nothing.
    mine = "16 of your rankings are in the model that answers guests now, of 32 in all."
    assert told(alice) == [mine]
    assert told(rita) == ["32 rankings are in the model that answers guests now."]
    Promotion.objects.create(
        project=project, policy=trained, previous=base, reason="Better", decided_by=olga
    )
    Evaluation.objects.filter(policy__in=(trained, base)).delete()
    Evaluation.objects.create(
        policy=base, opponent=trained, judge="reward_model",
        wins=39, losses=61, win_rate=0.39, low=0.32, high=0.46,
    )  # fmt: skip
    won = (
        "The reward model prefers it to the model before in 61% (54%–68%) of the answers."
        " People have not compared them."
    )
    assert told(alice) == [mine, won]
    assert won in browse(alice).get("/p/cooking/").text


def test_once_people_have_compared_them_they_speak_and_the_reward_model_does_not(
    round, fake_trainer, base, project, alice, olga, new_prompt
):
    while lease := claim():
        supervise(lease, Event())
    trained = Policy.objects.get(name="r1-ppo")
    trained.go_live()
    Promotion.objects.create(
        project=project, policy=trained, previous=base, reason="Better", decided_by=olga
    )
    compared(project, [trained, base], alice, new_prompt, wins=[True] * 3 + [False])
    [*_, said] = told(alice)
    assert said.startswith("People prefer it to the model before in 75% (")
    assert said.endswith("of blind comparisons, on 4 prompts.")
