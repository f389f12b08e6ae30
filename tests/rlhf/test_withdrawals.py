from datetime import timedelta
from io import StringIO
from threading import Event

import pytest
from django.core.management import call_command
from django.utils import timezone

from annotate.models import Completion, Conversation, Message, Policy, Project, User, Withdrawal
from annotate.retention import apply_retention
from rlhf.data.counts import count
from rlhf.data.selection import Filters, demonstrations, held_out_prompts, rankings
from rlhf.data.selection import prompts as selected_prompts
from rlhf.data.staleness import stale_in
from rlhf.models import Run, Snapshot
from rlhf.models.leases import claim
from rlhf.registry.lineage import lineage_of, reach_of
from rlhf.rounds.forms import SamplingForm
from rlhf.rounds.launch import launch_round, launch_sampling
from rlhf.rounds.preflight import preflight
from rlhf.rounds.settings import Launch
from rlhf.runs.supervisor import supervise

pytestmark = pytest.mark.django_db(transaction=True)


def work_until_idle() -> None:
    while lease := claim():
        supervise(lease, Event())


def asked_in_chat(project: Project, guest: User, prompts, policy: Policy) -> None:
    """As if the guest had asked these prompts."""
    for prompt in prompts:
        prompt.source = "chat"
        prompt.save()
        conversation = Conversation.objects.create(project=project, guest=guest)
        said = Completion.objects.create(prompt=prompt, policy=policy, text="A", source="chat")
        conversation.messages.create(role=Message.Role.ASSISTANT, completion=said, text="A")


@pytest.fixture
def history(
    project, labels, base, olga, alice, bob, gus, prompts, fake_trainer, monkeypatch
) -> None:
    """Round 1 from base with everybody; round 2 from its policy with Alice alone, and a prompted
    policy on that; round 3 from base with Alice alone; round 4 from base with what the prompted
    policy said."""
    monkeypatch.setattr("rlhf.runs.supervisor.LOOK_EVERY", 0.05)
    fake_trainer(steps=2)
    asked_in_chat(project, gus, prompts[:1], base)
    only_alice = Filters(labelers=(alice.pk,), tags=("plain",))
    for prompt in prompts[1:]:
        prompt.tags = ["plain"]
        prompt.save()
    launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    work_until_idle()
    first = Policy.objects.get(name="r1-ppo")
    launch_round(project, Launch(base=first, recipe="tiny", filters=only_alice), by=olga)
    work_until_idle()
    second = Policy.objects.get(name="r2-ppo")
    prompted = {"name": "prompted", "origin": "prompted", "folder": second.folder}
    Policy.objects.create(project=project, parent=second, **prompted)
    launch_round(project, Launch(base=base, recipe="tiny", filters=only_alice), by=olga)
    work_until_idle()
    distil_and_learn(project, by=olga, teacher="prompted", base=base, stages=["sft"])


def distil_and_learn(project, *, by: User, teacher: str, **fields) -> None:
    """A round that learns from the answers of a policy, and from nothing else."""
    policy = project.policies.get(name=teacher)
    asked = list(project.prompts.exclude(source="chat"))
    launch_sampling(project, by=by, policies=[policy], k=1, prompts=asked, distil=True)
    work_until_idle()
    student = project.labeler_named(f"policy {teacher}")
    launch_round(
        project, Launch(recipe="tiny", filters=Filters(labelers=(student.pk,)), **fields), by=by
    )
    work_until_idle()


def holds(snapshot: Snapshot, person: User) -> bool:
    """By looking at every row of it."""
    guests = {
        conversation.guest_id: {
            message.completion.prompt_id for message in conversation.messages.all()
        }
        for conversation in Conversation.objects.all()
    }
    asked = guests.get(person.pk, set())
    labels = [*snapshot.demonstrations.all(), *snapshot.rankings.all()]
    mine = [each for each in labels if each.labeler_id == person.pk or each.prompt_id in asked]
    return bool(mine) or any(prompt.pk in asked for prompt in snapshot.prompts.all())


def brute_force(person: User) -> tuple[set[int], set[int], set[str]]:
    """Ids of snapshots and runs, names of policies, by walking back from every one of them."""
    snapshots: set[int] = set()
    policies: set[str] = set()

    def is_made_of_it(policy: Policy) -> bool:
        found = False
        for step in lineage_of(policy):
            training = step["training"] or {}
            parts = [training.get("run"), (training.get("reward_model") or {}).get("run")]
            found |= any(part and part["snapshot"]["id"] in snapshots for part in parts)
        return found

    def repeats_one(snapshot: Snapshot) -> bool:
        shown = snapshot.demonstrations.exclude(distilled_from=None)
        return any(each.distilled_from.name in policies for each in shown)

    before = None
    while before != (before := (len(snapshots), len(policies))):
        snapshots |= {e.pk for e in Snapshot.objects.all() if holds(e, person) or repeats_one(e)}
        policies |= {each.name for each in Policy.objects.all() if is_made_of_it(each)}
    runs = set()
    for run in Run.objects.exclude(kind="evaluate").filter(snapshot__isnull=False):
        earlier = run.round.runs.filter(position__lte=run.position, snapshot__pk__in=snapshots)
        if earlier.exists() or run.round.base.name in policies:
            runs.add(run.pk)
    return snapshots, runs, policies


def test_what_was_made_of_somebodys_data_is_named_exactly(history, project, rita, bob, olga):
    for name, snapshots in (("alice", 7), ("bob", 2), ("gus", 4), ("rita", 0)):
        person = User.objects.get(username=name)
        reach = reach_of(person, project)
        named = (
            {each["id"] for each in reach["snapshots"]},
            {each["id"] for each in reach["runs"]},
            {each["policy"] for each in reach["policies"]},
        )
        assert named == brute_force(person), name
        assert len(named[0]) == snapshots, name

    assert stale_in(project).runs == stale_in(project).policies == []
    Withdrawal.withdraw(project, person=bob, by=olga)
    Withdrawal.withdraw(project, person=bob, by=olga)
    snapshots, runs, policies = brute_force(bob)
    assert policies == {"r1-ppo", "r2-sft", "r2-ppo", "prompted", "r4-sft"}
    stale = stale_in(project)
    assert set(stale.snapshots) == snapshots
    assert set(stale.runs) == runs
    assert {each.name for each in Policy.objects.filter(pk__in=stale.policies)} == policies
    found = {each.name for each in preflight(project, project.policies.get(name="r1-ppo")).findings}
    assert "stale_base" in found
    base = project.policies.get(name="base")
    assert "stale_base" not in {each.name for each in preflight(project, base).findings}


def test_what_a_guest_asked_is_traced_when_the_chat_is_deleted(history, project, gus):
    before = reach_of(gus, project)
    assert before["policies"]
    for conversation in Conversation.objects.all():
        conversation.erase()
    assert reach_of(gus, project) == before
    learnt = lineage_of(project.policies.get(name="r1-sft"))[0]["training"]["run"]["snapshot"]
    people = {each["username"]: each for each in learnt["labelers"]}
    assert people["gus"]["thumbs"] == 0 < people["alice"]["demonstrations"]


def test_it_is_traced_as_well_when_its_period_is_over(history, project, gus):
    before = reach_of(gus, project)
    assert before["policies"]
    Conversation.objects.update(created_at=timezone.now() - timedelta(days=31))
    Message.objects.update(created_at=timezone.now() - timedelta(days=31))
    project.keep_chats_days = 30
    project.save()
    assert apply_retention(project) == {"chats of guests": 1}
    assert not Conversation.objects.exists()
    assert reach_of(gus, project) == before


def test_a_withdrawn_guest_who_deletes_the_chat_stays_out(
    project, labels, base, gus, olga, prompts
):
    asked_in_chat(project, gus, prompts[:2], base)
    old = Filters.from_dict(
        launch_round(project, Launch(base=base, recipe="tiny"), by=olga).filters
    )
    Withdrawal.withdraw(project, person=gus, by=olga)
    for conversation in Conversation.objects.all():
        conversation.erase()
    for filters in (Filters(), old):
        assert not selected_prompts(project, filters).filter(pk=prompts[0].pk).exists()
        assert not rankings(project, filters).filter(prompt=prompts[0]).exists()


def test_nothing_withdrawn_is_selected_even_under_an_old_moment(project, labels, base, bob, olga):
    old = Filters.from_dict(
        launch_round(project, Launch(base=base, recipe="tiny"), by=olga).filters
    )
    assert rankings(project, old).filter(labeler=bob).exists()
    Withdrawal.withdraw(project, person=bob, by=olga)
    assert not rankings(project, old).filter(labeler=bob).exists()
    assert not demonstrations(project, old).filter(labeler=bob).exists()
    assert count(project, old)["rankings"] == 16


def test_answers_of_a_policy_made_of_withdrawn_data_teach_no_other(history, project, bob, olga):
    distilled = demonstrations(project).exclude(distilled_from=None)
    taught = count(project)["demonstrations"]
    assert {each.distilled_from.name for each in distilled} == {"prompted"}
    Withdrawal.withdraw(project, person=bob, by=olga)
    assert not demonstrations(project).exclude(distilled_from=None).exists()
    assert count(project)["demonstrations"] == taught - 15  # of 19, four are held out


def test_a_guests_prompts_go_with_all_that_was_said_of_them(
    project, labels, base, gus, olga, prompts
):
    asked_in_chat(project, gus, prompts[:2], base)
    before = count(project)
    Withdrawal.withdraw(project, person=gus, by=olga)
    after = count(project)
    lost = {name: before[name] - after[name] for name in ("prompts", "demonstrations", "rankings")}
    assert lost == {"prompts": 2, "demonstrations": 2, "rankings": 4}
    assert not selected_prompts(project).filter(pk=prompts[0].pk).exists()


def test_prompts_that_a_labeler_wrote_go_with_their_labels(
    project, labels, round, prompts, alice, bob, olga
):
    project.prompts.filter(pk=prompts[0].pk).update(author=bob, kind="plain")
    project.prompts.filter(pk=prompts[1].pk).update(author=bob)  # imported, with nothing of his
    snapshot = Snapshot.objects.create(project=project, run=round.runs.first(), counts={})
    snapshot.prompts.set(prompts[:1])
    Withdrawal.withdraw(project, person=bob, by=olga)
    assert not selected_prompts(project).filter(pk=prompts[0].pk).exists()
    assert selected_prompts(project).filter(pk=prompts[1].pk).exists()
    assert not demonstrations(project).filter(prompt=prompts[0]).exists()
    assert stale_in(project).snapshots == [snapshot.pk]


def test_nobody_is_asked_about_what_a_withdrawn_guest_asked(
    project, labels, base, gus, olga, prompts
):
    asked_in_chat(project, gus, [prompts[0], prompts[-1]], base)
    assert prompts[-1] in held_out_prompts(project, 100)
    Withdrawal.withdraw(project, person=gus, by=olga)
    assert prompts[-1] not in held_out_prompts(project, 100)
    form = SamplingForm(project, {"policies": [base.pk], "k": 2})
    assert form.is_valid()
    assert set(form.prompts()) == set(prompts[1:-1])


def test_a_withdrawal_in_one_project_leaves_the_others_alone(project, labels, bob, olga, mallory):
    elsewhere = Project.objects.get(slug="elsewhere")
    Withdrawal.withdraw(elsewhere, person=bob, by=mallory)
    assert count(project)["rankings"] == 32


def test_an_operator_withdraws_on_the_page_and_starts_anew(history, project, browse, olga, alice):
    page = "/p/cooking/policies/from/bob/"
    assert browse(alice).post(page, {"confirmed": "on"}).status_code == 403
    client = browse(olga)
    unconfirmed = client.post(page, {"reason": "asked for it"})
    assert (unconfirmed.status_code, Withdrawal.objects.count()) == (422, 0)
    told = {"reason": "asked for it", "confirmed": "on"}
    html = " ".join(client.post(page, told, follow=True).content.decode().split())
    assert (
        "withdrawn" in html
        and "New round like Round 2 without it" in html
        and "asked for it" in html
    )
    assert "still answers guests" not in html
    Policy.objects.get(name="r1-ppo").go_live()
    assert "r1-ppo still answers guests" in client.get(page).content.decode()
    assert "stale" in client.get("/p/cooking/rounds/2/").content.decode()
    assert "stale" not in client.get("/p/cooking/rounds/3/").content.decode()
    marked = client.get("/p/cooking/policies/").content.decode().count(">stale</span></h2>")
    assert marked == len(stale_in(project).policies) > 0

    assert browse(alice).post("/p/cooking/rounds/2/again/").status_code == 403
    assert client.post("/p/cooking/rounds/2/again/").url == "/p/cooking/rounds/5/"
    second, again = (project.rounds.get(number=number) for number in (2, 5))
    # Bob ranked but demonstrated nothing: the SFT policy of round 1 owes him nothing.
    assert (second.base.name, again.base.name) == ("r1-ppo", "r1-sft")
    configs = [{run.kind: run.config for run in round.runs.all()} for round in (second, again)]
    assert configs[0] == configs[1]
    work_until_idle()
    assert not set(stale_in(project).runs) & set(again.runs.values_list("pk", flat=True))

    out = StringIO()
    call_command("withdraw", "bob", project="cooking", stdout=out)
    assert "stale: policy r1-ppo" in out.getvalue() and "r1-sft" not in out.getvalue()
    assert "stale: policy r4-sft" in out.getvalue()
    assert out.getvalue().count("stale: snapshot") == 2
