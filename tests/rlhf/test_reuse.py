"""A round that learns from the reward model of an earlier one: it is told so, and so is whoever
asks what it was made of."""

import json

import pytest
from django.conf import settings

from annotate.models import Policy, Withdrawal
from rlhf.data.checks import NotReady
from rlhf.data.selection import Filters
from rlhf.data.staleness import stale_in
from rlhf.models import RewardModel, Run
from rlhf.registry.lineage import lineage_of
from rlhf.registry.retention import disk_use_of
from rlhf.rounds.launch import launch_again, launch_round
from rlhf.rounds.preflight import preflight
from rlhf.rounds.settings import Launch
from tests.rlhf.conftest import work_until_idle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def teacher(project, labels, base, olga, alice, fake_trainer) -> RewardModel:
    """Made by Round 1, of Alice's rankings alone."""
    fake_trainer(steps=2)
    only = Filters(labelers=(alice.pk,))
    launch_round(
        project, Launch(base=base, recipe="tiny", stages=["reward"], filters=only), by=olga
    )
    work_until_idle()
    return RewardModel.objects.get()


@pytest.fixture
def reused(project, teacher, base, bob, olga) -> Launch:
    """PPO with it, on nothing else of Alice's."""
    only = Filters(labelers=(bob.pk,))
    return Launch(base=base, recipe="tiny", stages=["ppo"], reward_model=teacher, filters=only)


def findings(project, launch: Launch) -> set[str]:
    found = preflight(
        project,
        launch.base,
        stages=launch.stages,
        configs=launch.configs(),
        reward_model=launch.reward_model,
    )
    return {each.name for each in found.findings}


def test_a_round_learns_from_an_earlier_reward_model(project, teacher, reused, olga):
    round = launch_round(project, reused, by=olga)
    work_until_idle()
    assert [each.kind for each in round.runs.order_by("position")] == ["ppo", "evaluate"]
    for run in round.runs.all():
        told = settings.DATA_DIR / run.folder / f"t{run.lease_token}/config.json"
        assert json.loads(told.read_text())["models"]["reward"] == teacher.checkpoint.folder
    made = Policy.objects.get(name="r2-ppo")
    assert lineage_of(made)[0]["training"]["reward_model"]["id"] == teacher.pk
    assert Launch.like(round).reward_model == teacher


def test_whose_labels_taught_it_is_not_forgotten(project, teacher, reused, olga, alice):
    round = launch_round(project, reused, by=olga)
    work_until_idle()
    made = Policy.objects.get(name="r2-ppo")
    assert made.pk not in stale_in(project).policies
    Withdrawal.withdraw(project=project, person=alice, by=olga)
    assert made.pk in stale_in(project).policies
    again = launch_again(round, by=olga)
    assert again.reward_model is None
    assert again.runs.filter(kind=Run.Kind.REWARD).exists(), "it trains one of what is left"


def test_its_files_stay_as_long_as_what_it_taught(project, teacher, reused, base, olga):
    launch_round(project, reused, by=olga)
    work_until_idle()
    Policy.objects.get(name="r2-ppo").training.checkpoint.keep(kept=True)
    held = {each.model.pk: each.reasons for each in disk_use_of(project, keep_rounds=0).holdings}
    assert "r2-ppo was made from it" in held[teacher.checkpoint_id]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, set()),
        ({"reward_model": None}, {"ppo_without_reward"}),
        ({"stages": ["reward", "ppo"]}, {"two_reward_models"}),
    ],
)
def test_one_reward_model_is_needed_and_no_more(project, reused, change, found):
    assert findings(project, Launch(**{**vars(reused), **change})) == found


def test_what_cannot_be_loaded_or_read_alike_is_not_launched(project, teacher, reused, olga):
    file = settings.DATA_DIR / teacher.checkpoint.folder / "tokenizer.json"
    file.write_text('{"model": {"vocab": {"a": 1}}}')
    assert findings(project, reused) == {"critic_of_another_tokenizer"}
    without = {"ppo": {"train": {"critic": "policy"}}}
    assert findings(project, Launch(**{**vars(reused), "overrides": without})) == set()
    teacher.checkpoint.give_up()
    teacher.checkpoint.refresh_from_db()
    with pytest.raises(NotReady, match="removed to make room"):
        launch_round(project, reused, by=olga)


def test_the_page_offers_it_and_names_its_mistakes(project, teacher, base, browse, olga, alice):
    client, address = browse(olga), "/p/cooking/rounds/new/"
    assert "r1-reward" in client.get(address).content.decode()
    both = {"base": base.pk, "recipe": "tiny", "stages": ["reward", "ppo"]}
    refused = client.post(address, {**both, "reward_model": teacher.pk})
    assert refused.status_code == 422 and "leave out one of them" in refused.content.decode()
    launched = client.post(address, {**both, "stages": ["ppo"], "reward_model": teacher.pk})
    assert launched.status_code == 302
    assert project.rounds.first().reward_model == teacher
    clone = client.get(f"{address}?like=2").content.decode()
    assert f'<option value="{teacher.pk}" selected>' in clone
    Withdrawal.withdraw(project=project, person=alice, by=olga)
    assert "r1-reward" not in client.get(address).content.decode()
