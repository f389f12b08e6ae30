"""The policies of the epochs of SFT that were kept are policies like any other, and no stage goes
on from one by itself."""

import json

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError

from annotate.models import Policy, Withdrawal
from rlhf.data.staleness import stale_in
from rlhf.evaluation.next_batch import speakers_after
from rlhf.models import Checkpoint, Evaluation, Run, TrainedPolicy
from rlhf.registry import promotion
from rlhf.registry.lineage import lineage_of, reach_of
from rlhf.registry.retention import disk_use_of, prune_models
from rlhf.rounds.launch import launch_round, launch_sampling, resume_round
from rlhf.rounds.settings import Launch
from tests.rlhf.conftest import work, work_until_idle

pytestmark = pytest.mark.django_db(transaction=True)

KEPT = ["r1-sft-epoch-1", "r1-sft-epoch-2"]
OVERRIDES = {"sft": {"train": {"keep_epochs": True}}}


@pytest.fixture(autouse=True)
def warmed(monkeypatch) -> None:
    monkeypatch.setattr(promotion, "warm", lambda policy: None)


@pytest.fixture
def round(project, labels, base, olga, fake_trainer):
    """The pretended SFT takes six steps, two an epoch."""
    return launch_round(project, Launch(base=base, recipe="tiny", overrides=OVERRIDES), by=olga)


@pytest.fixture
def ended(round):
    work_until_idle()
    return round


def kept() -> list[Policy]:
    return list(Policy.objects.filter(name__in=KEPT).order_by("name"))


def weights(policy: Policy) -> str:
    return (settings.DATA_DIR / policy.folder / "model.safetensors").read_text()


def test_every_epoch_kept_becomes_a_candidate_beside_the_final_policy(ended, base):
    made = TrainedPolicy.objects.made_in(ended)
    assert [str(each.policy) for each in made] == [*KEPT, "r1-sft", "r1-ppo"]
    final = Policy.objects.get(name="r1-sft")
    for number, policy in enumerate(kept(), start=1):
        assert weights(policy) == f"weights of epoch {number}"
        assert (policy.state, policy.origin, policy.parent) == ("candidate", "trained", base)
        model = Checkpoint.objects.behind(policy)
        assert (model.epoch, model.step, str(model.name)) == (number, 2 * number, policy.name)
        assert model.run == Checkpoint.objects.behind(final).run
        assert policy.description.endswith(f"after epoch {number}")
    run = ended.runs.get(kind=Run.Kind.SFT)
    assert (run.summary["policy"], run.summary["kept"]) == ("r1-sft", KEPT)


def test_what_follows_goes_on_from_the_final_policy(ended):
    final = Policy.objects.get(name="r1-sft")
    for kind in (Run.Kind.REWARD, Run.Kind.PPO):
        run = ended.runs.get(kind=kind)
        config = json.loads((settings.DATA_DIR / run.folder / "t1/config.json").read_text())
        assert config["models"]["policy"] == final.folder
    assert Policy.objects.get(name="r1-ppo").parent == final
    assert [str(each) for each in speakers_after(ended)] == ["r1-ppo", "r1-sft"]


def test_they_are_judged_by_the_reward_model_and_the_round_says_how(ended, olga, browse):
    judged = Evaluation.objects.filter(policy__name=KEPT[1]).values_list("opponent__name")
    assert sorted(name for (name,) in judged) == ["base", KEPT[0]]
    scores = ended.runs.get(kind=Run.Kind.EVALUATE).summary["mean_scores"]
    assert {*KEPT, "r1-sft", "r1-ppo", "base"} == scores.keys()
    page = " ".join(browse(olga).get("/p/cooking/rounds/1/").text.split())
    assert f"r1-sft · kept: {', '.join(KEPT)}" in page
    line = page[page.index("Mean scores of r1-reward:") :]
    places = [line.index(said) for said in (f"{KEPT[0]} 2.05", "r1-sft 1.05", "base 0.05")]
    assert places == sorted(places), "the best first"


def test_one_can_be_sampled_and_a_round_may_start_from_it(ended, project, olga, prompts):
    first, _ = kept()
    run = launch_sampling(project, by=olga, policies=[first], k=2, prompts=prompts[:2])
    assert work() == run
    assert first.completions.filter(source="sampled").count() == 4
    launch_round(project, Launch(base=first, recipe="tiny", stages=["sft"]), by=olga)
    work_until_idle()
    assert Policy.objects.get(name="r2-sft").parent == first


def test_a_run_taken_over_after_an_epoch_makes_each_policy_once(round, fake_trainer):
    fake_trainer(mode="crash")
    run = work()
    assert (settings.DATA_DIR / run.folder / "t1/epochs/1").is_dir()
    assert kept() == [] and not Checkpoint.objects.published().exists(), "not before the run's end"
    fake_trainer()
    resume_round(round)
    assert work().state == Run.State.SUCCEEDED
    assert [policy.folder for policy in kept()] == [
        f"runs/{run.pk}/t2/epochs/1",
        f"runs/{run.pk}/t2/epochs/2",
    ]


def test_lineage_leads_from_one_to_the_people_and_back(ended, project, alice, olga, browse):
    _, second = kept()
    step, base = lineage_of(second)
    assert (step["training"]["epoch"], base["policy"]) == (2, "base")
    people = [each["username"] for each in step["training"]["run"]["snapshot"]["labelers"]]
    assert people == ["alice"]
    assert KEPT[1] in [each["policy"] for each in reach_of(alice, project)["policies"]]
    client, model = browse(olga), second.training.checkpoint
    assert "after epoch 2, weights" in client.get(f"/p/cooking/policies/{second.pk}/").text
    assert f"{KEPT[1]}</a>" in client.get("/p/cooking/models/").text
    assert ">after epoch 2<" in client.get(f"/p/cooking/models/{model.pk}/").text


def test_one_is_stale_when_its_labels_are_withdrawn(ended, project, alice, bob, olga):
    Withdrawal.withdraw(project, person=bob, by=olga)
    assert not {each.pk for each in kept()} & {*stale_in(project).policies}
    Withdrawal.withdraw(project, person=alice, by=olga)
    assert {each.pk for each in kept()} < {*stale_in(project).policies}


def test_one_can_be_promoted_unless_its_files_are_others(ended, project, olga):
    first, second = kept()
    promotion.promote(first, by=olga, reason="people like it best", override="for the test")
    assert project.policies.live().get() == first
    (settings.DATA_DIR / second.folder / "model.safetensors").write_text("something else")
    with pytest.raises(ValidationError, match=rf"The model of {KEPT[1]} is damaged"):
        promotion.promote(second, by=olga, reason="better", override="for the test")
    assert project.policies.live().get() == first


def test_a_run_that_does_not_show_an_epoch_it_speaks_of_fails(round, monkeypatch):
    def lost(lease, outcome):
        return conclude(lease, {**outcome, "epochs": {"7": 14}})

    from rlhf.runs import supervisor

    conclude = supervisor.conclude
    monkeypatch.setattr(supervisor, "conclude", lost)
    with pytest.raises(FileNotFoundError, match="epochs/7/manifest.json"):
        work()
    assert round.runs.get(kind=Run.Kind.SFT).state == Run.State.FAILED
    assert not Policy.objects.filter(origin=Policy.Origin.TRAINED).exists()


def test_one_goes_with_its_round_and_stays_where_it_answered_guests(ended, project, olga):
    first, second = kept()
    ppo = Policy.objects.get(name="r1-ppo")
    promotion.promote(ppo, by=olga, reason="better", override="for the test")
    assert {each.name for each in disk_use_of(project, keep_rounds=1).models} == set()
    assert {each.name for each in disk_use_of(project, keep_rounds=0).models} == {*KEPT}, (
        "PPO was made of the final policy, and of no other"
    )
    promotion.promote(first, by=olga, reason="better still", override="for the test")
    assert prune_models(project, keep_rounds=0) > 0
    assert (settings.DATA_DIR / first.folder).is_dir()
    assert not (settings.DATA_DIR / second.folder).exists()
    second.refresh_from_db()
    assert second.folder == "" and TrainedPolicy.objects.of(second).checkpoint.removed_at


def test_what_a_resume_will_take_over_stays_and_goes_when_the_run_has_ended(
    round, project, fake_trainer
):
    fake_trainer(mode="crash")
    run = work()
    attempt = settings.DATA_DIR / run.folder / "t1"
    (attempt / "tmp-killed").mkdir()
    prune_models(project)
    assert (attempt / "epochs/1").is_dir() and not (attempt / "tmp-killed").exists()
    fake_trainer()
    resume_round(round)
    work()
    prune_models(project)
    assert not (attempt / "epochs/1").exists()
    assert all(weights(policy) for policy in kept())
