from threading import Event

import pytest

from annotate.labels.kinds.edit import Edit
from annotate.models import Policy
from rlhf.models import Run, Snapshot, TrainedPolicy
from rlhf.models.leases import claim
from rlhf.registry.lineage import lineage_of, reach_of
from rlhf.runs.supervisor import supervise
from tests.rlhf.test_pages import write_metrics

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ppo(round, fake_trainer) -> Policy:
    while lease := claim():
        supervise(lease, Event())
    return Policy.objects.get(name="r1-ppo")


def test_from_a_policy_to_the_people_it_learnt_from(ppo):
    steps = lineage_of(ppo)
    assert [step["policy"] for step in steps] == ["r1-ppo", "r1-sft", "base"]
    newest, sft, base = steps
    assert base["training"] is None
    assert newest["training"]["run"]["kind"] == "ppo"
    reward = newest["training"]["reward_model"]
    assert reward["accuracy"] == 0.75
    assert len(reward["run"]["snapshot"]["rankings"]) == 40
    people = {each["username"]: each for each in reward["run"]["snapshot"]["labelers"]}
    assert (people["bob"]["rankings"], people["bob"]["demonstrations"]) == (20, 0)
    assert people["alice"]["rankings"] == 20
    learnt = sft["training"]["run"]["snapshot"]
    assert len(learnt["demonstrations"]) == 20
    held_out = Snapshot.objects.get(pk=learnt["id"]).demonstrations.exclude(prompt__split="train")
    assert 0 < learnt["held_out"] == held_out.count() < 20
    assert [each["username"] for each in learnt["labelers"]] == ["alice"]
    assert learnt["sha256"] == Snapshot.objects.get(run_id=sft["training"]["run"]["id"]).sha256


def test_the_accuracy_of_a_reward_model_comes_with_its_interval(ppo, browse, olga):
    page = f"/p/cooking/policies/{ppo.pk}/"
    assert "accuracy 75% (no interval)" in browse(olga).get(page).text
    run = Run.objects.get(kind=Run.Kind.REWARD)
    write_metrics(run, (9, "final", {"data/comparisons": 90}))
    Run.objects.update(summary={"accuracy": 0.75, "accuracy_low": 0.6, "accuracy_high": 0.86})
    assert "accuracy 75% (60%–86%) of 90" in " ".join(browse(olga).get(page).text.split())


def test_from_a_person_to_every_policy_that_descends_from_their_labels(ppo, project, alice, bob):
    def reach(person) -> tuple[list, list]:
        found = reach_of(person, project)
        return [s["kind"] for s in found["snapshots"]], [p["policy"] for p in found["policies"]]

    assert reach(alice) == (["SFT", "reward model"], ["r1-sft", "r1-ppo"])
    assert reach(bob) == (["reward model"], ["r1-ppo"])
    grandchild = Policy.objects.create(
        project=project, name="prompted", origin=Policy.Origin.PROMPTED, parent=ppo
    )
    assert reach(bob)[1] == ["r1-ppo", grandchild.name]


def test_who_labelled_nothing_reaches_nothing(ppo, project, rita):
    assert reach_of(rita, project)["snapshots"] == []


def test_it_names_the_edits_and_whose_answers_they_correct(publish_policy, alice, policy):
    taught = publish_policy()
    prompt = taught.project.prompts.create(messages=[{"role": "user", "content": "Why eggs?"}])
    wrong = prompt.completions.create(policy=policy, text="No.", source="sampled")
    edit = Edit.objects.create(prompt=prompt, labeler=alice, original=wrong, text="Yes.")
    run = TrainedPolicy.objects.of(taught).checkpoint.run
    snapshot = Snapshot.objects.create(project=taught.project, run=run, sha256="0" * 64, counts={})
    snapshot.demonstrations.set([edit])
    said = lineage_of(taught)[0]["training"]["run"]["snapshot"]["edits"]
    assert said == [{"id": edit.pk, "completion": wrong.pk, "policy": policy.name}]
