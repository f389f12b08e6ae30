"""Room on the disk: what nothing needs goes, what guests heard stays, and every record remains."""

import io

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command

from annotate.models import Policy
from rlhf.evaluation.next_batch import launch_next_batch
from rlhf.models import Checkpoint, RewardModel, Round, Run
from rlhf.registry import promotion
from rlhf.registry.lineage import lineage_of
from rlhf.registry.retention import disk_use_of, prune_models
from rlhf.rounds.launch import launch_sampling

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def warmed(monkeypatch) -> None:
    monkeypatch.setattr(promotion, "warm", lambda policy: None)


@pytest.fixture
def new_round(project, base, olga, publish, publish_policy):
    """A round that has ended: SFT, reward model, PPO."""

    def make(number: int, start: Policy = base) -> Policy:
        round = Round.objects.create(
            project=project, number=number, recipe="tiny", base=start, launched_by=olga
        )
        publish_policy(f"r{number}-sft", kind=Run.Kind.SFT, round=round, position=0)
        reward = publish(Run.Kind.REWARD, round=round, position=1)
        RewardModel.objects.create(project=project, checkpoint=reward)
        return publish_policy(f"r{number}-ppo", kind=Run.Kind.PPO, round=round, position=2)

    return make


def going(project, keep_rounds: int) -> set[str]:
    return {each.name for each in disk_use_of(project, keep_rounds=keep_rounds).models}


def stays_because(project, policy: Policy, keep_rounds: int = 0) -> list[str]:
    held = {
        each.model.folder: each for each in disk_use_of(project, keep_rounds=keep_rounds).holdings
    }
    return held[policy.folder].reasons


def here(data_dir) -> set[str]:
    return {str(each.relative_to(data_dir)) for each in data_dir.glob("runs/*/t*/model")}


def test_the_newest_rounds_stay_and_older_ones_go(project, new_round, data_dir):
    old, new = new_round(1), new_round(2)
    assert going(project, 2) == set()
    assert {"r1-sft", "r1-ppo"} < going(project, 1)
    before = here(data_dir)
    freed = prune_models(project, keep_rounds=1)
    assert freed == 3 * 10240 + 3 * size_beside_weights(data_dir, new)
    assert len(before) == 6 and len(here(data_dir)) == 3
    assert new.folder in here(data_dir) and old.folder not in here(data_dir)
    assert prune_models(project, keep_rounds=1) == 0, "once"


def size_beside_weights(data_dir, policy: Policy) -> int:
    files = (data_dir / policy.folder).iterdir()
    return sum(each.stat().st_size for each in files if each.suffix != ".safetensors")


def test_what_answered_guests_stays_with_all_it_was_made_of(project, new_round, olga):
    first = new_round(1)
    second = new_round(2, start=first)
    new_round(3)
    promotion.promote(second, by=olga, reason="better", override="for the test")
    promotion.promote(Policy.objects.get(name="base"), by=olga, reason="back", override="test")
    assert going(project, 0) == {"r3-ppo"}, "the newest reward model judges, and came from r3-sft"
    assert stays_because(project, second) == ["has answered guests"]
    assert "r2-ppo was made from it" in stays_because(project, first)
    assert "r1-ppo was made from it" in stays_because(project, Policy.objects.get(name="r1-sft"))


def test_a_challenger_stays_and_one_that_was_only_rejected_goes(project, new_round, olga):
    first, second = new_round(1), new_round(2)
    promotion.challenge(first, by=olga, reason="let us see")
    promotion.reject(second, by=olga, reason="no")
    assert stays_because(project, first) == ["has answered guests"]
    assert "r2-ppo" in going(project, 0)


def test_what_an_operator_keeps_stays_until_it_is_let_go(project, new_round, olga, browse):
    model = new_round(1).training.checkpoint
    address = f"/p/cooking/models/{model.pk}/"
    browse(olga).post(address, {"act": "keep"})
    assert going(project, 0) == set(), "its round is what it was made of"
    browse(olga).post(address, {"act": "release"})
    assert "r1-ppo" in going(project, 0)


def test_what_work_under_way_needs_stays(project, new_round, base, olga, prompts):
    first, second = new_round(1), new_round(2)
    base.go_live()
    run = launch_sampling(project, by=olga, policies=[first], k=2, prompts=prompts)
    assert "a current run needs it" in stays_because(project, first)
    run.request_cancel()
    assert stays_because(project, first) == []
    launch_next_batch(first.training.checkpoint.run.round, by=olga, prompts_at_most=2)
    judge = RewardModel.objects.last()
    reasons = {each.model: each.reasons for each in disk_use_of(project, keep_rounds=0).holdings}
    assert "a current run needs it" in reasons[judge.checkpoint]
    third = Round.objects.create(
        project=project, number=3, recipe="tiny", base=second, launched_by=olga
    )
    Run.objects.create(project=project, round=third, kind=Run.Kind.SFT)
    assert "a current run needs it" in stays_because(project, second)


def test_the_record_stays_and_the_policy_is_known_by_its_words(
    project, new_round, base, olga, browse, data_dir
):
    policy = new_round(1)
    model, manifest = policy.training.checkpoint, policy.training.checkpoint.manifest_sha256
    prompted = project.policies.create(name="polite", origin="prompted", folder=policy.folder)
    new_round(2)
    prune_models(project, keep_rounds=1)
    for each in (policy, prompted):
        each.refresh_from_db()
        assert each not in project.policies.with_weights()
        with pytest.raises(ValidationError, match="no weights and no endpoint"):
            promotion.promote(each, by=olga, reason="better", override="for the test")
    assert lineage_of(policy)[0]["training"]["manifest_sha256"] == manifest
    client = browse(olga)
    assert "Removed" in client.get("/p/cooking/models/").text
    assert "Its files were removed on" in client.get(f"/p/cooking/models/{model.pk}/").text
    assert client.get(f"/p/cooking/models/{model.pk}/model.tar").status_code == 404
    assert "Its files were removed on" in client.get("/p/cooking/policies/").text


def test_a_policy_that_loses_its_files_while_it_is_being_promoted_does_not_go_live(
    project, new_round, olga, monkeypatch
):
    policy = new_round(1)
    new_round(2)
    monkeypatch.setattr(promotion, "warm", lambda _: prune_models(project, keep_rounds=1))
    with pytest.raises(ValidationError, match="no weights and no endpoint"):
        promotion.promote(policy, by=olga, reason="better", override="for the test")
    assert not project.policies.live().exists()


# Saves


def save(run: Run, step: int, data_dir, attempt: int = 1) -> Checkpoint:
    folder = f"{run.folder}/t{attempt}/checkpoints/step-{step:08d}"
    (data_dir / folder).mkdir(parents=True)
    (data_dir / folder / "state.json").write_text("{}")
    Run.objects.filter(pk=run.pk).update(lease_token=attempt)
    return Checkpoint.objects.create(
        run=run, lease_token=attempt, step=step, folder=folder, manifest_sha256="a" * 64
    )


def saved(data_dir) -> list[int]:
    return sorted(int(each.name[-8:]) for each in data_dir.glob("runs/*/t*/checkpoints/step-*"))


@pytest.mark.parametrize(
    ("state", "left"),
    [
        (Run.State.SUCCEEDED, []),
        (Run.State.FAILED, [3, 4, 5]),
        (Run.State.CANCELLED, [3, 4, 5]),
        (Run.State.PAUSED, [3, 4, 5]),
        (Run.State.QUEUED, [3, 4, 5]),
        (Run.State.RUNNING, [1, 2, 3, 4, 5]),
    ],
)
def test_only_saves_that_a_run_may_go_on_from_stay(state, left, project, data_dir):
    run = Run.objects.create(project=project, kind=Run.Kind.SFT, state=state)
    for step in range(1, 6):
        save(run, step, data_dir, attempt=1 + step // 3)
    prune_models(project)
    assert saved(data_dir) == left
    assert sorted(run.checkpoints.values_list("step", flat=True)) == left


def test_what_a_dead_worker_left_behind_goes_and_a_living_ones_work_stays(
    project, publish, data_dir
):
    model = publish()
    model.keep(kept=True)
    run = model.run
    Run.objects.update(lease_token=2)
    for attempt, name in ((1, "tmp-1234"), (2, "step-00000009"), (3, "tmp-5678")):
        (data_dir / run.folder / f"t{attempt}/checkpoints/{name}").mkdir(parents=True)
    (data_dir / run.folder / "t2/model").mkdir()
    (data_dir / run.folder / "t1/log.txt").write_text("kept")
    prune_models(project)
    left = {str(each.relative_to(data_dir / run.folder)) for each in data_dir.glob("runs/*/t*/*/*")}
    assert {each for each in left if "checkpoints" in each} == {"t3/checkpoints/tmp-5678"}
    assert here(data_dir) == {f"{run.folder}/t1/model"}
    assert (data_dir / run.folder / "t1/log.txt").exists()


def test_a_removal_that_was_cut_off_is_finished_by_the_next(
    project, new_round, data_dir, monkeypatch
):
    new_round(1)
    new_round(2)
    with monkeypatch.context() as broken, pytest.raises(OSError, match="Input/output"):
        broken.setattr(
            "shutil.rmtree", lambda folder: (_ for _ in ()).throw(OSError(5, "Input/output"))
        )
        prune_models(project, keep_rounds=1)
    assert len(here(data_dir)) == 6
    assert disk_use_of(project, keep_rounds=1).models == []
    prune_models(project, keep_rounds=1)
    assert len(here(data_dir)) == 3


# Where people do it


@pytest.mark.parametrize("name", ["prune_models", "free_room"])
def test_the_command_says_what_would_go_and_what_stays(project, new_round, data_dir, name):
    new_round(1)
    new_round(2)
    told = io.StringIO()
    command = (name, "--project", "cooking", "--keep-rounds", "1")
    call_command(*command, "--dry-run", stdout=told)
    assert "r1-ppo, 10.6\xa0KB: goes" in told.getvalue()
    assert "r2-ppo, 10.6\xa0KB: stays: its round is one of the newest 1" in told.getvalue()
    assert "could be freed" in told.getvalue() and len(here(data_dir)) == 6
    call_command(*command, stdout=told)
    assert "are free again" in told.getvalue() and len(here(data_dir)) == 3


def test_the_page_shows_what_may_go_and_removes_just_that(
    project, new_round, olga, browse, data_dir
):
    new_round(1)
    new_round(2)
    client, address = browse(olga), "/p/cooking/models/"
    assert "Nothing can be removed" in client.get(address).text
    page = " ".join(client.get(address, {"keep_rounds": 1}).text.split())
    assert "3 models" in page and page.count("Can be removed") == 3
    assert "are free again" in client.post(address, {"keep_rounds": 1}, follow=True).text
    assert len(here(data_dir)) == 3
    client.post(address, {"keep_rounds": "all"})
    assert len(here(data_dir)) == 3


def test_foreign_operators_remove_and_keep_nothing(project, new_round, mallory, browse, data_dir):
    model = new_round(1).training.checkpoint
    client = browse(mallory)
    assert client.post("/p/cooking/models/", {"keep_rounds": 0}).status_code == 404
    assert client.post(f"/p/cooking/models/{model.pk}/", {"act": "keep"}).status_code == 404
    client.post("/p/elsewhere/models/", {"keep_rounds": 0})
    assert len(here(data_dir)) == 3
    assert not Checkpoint.objects.filter(is_kept=True).exists()
