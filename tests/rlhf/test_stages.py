"""Rounds of other stages than SFT, reward model and PPO."""

import io
from dataclasses import replace
from threading import Event

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.urls import reverse

from annotate.documents.models import Document
from annotate.exchange.documents import texts_in
from annotate.models import Completion, Conversation, Feedback, Message, Policy, Withdrawal
from rlhf.data.checks import NotReady
from rlhf.data.selection import Filters, thumbs
from rlhf.data.snapshot import thumb_row
from rlhf.data.staleness import stale_in
from rlhf.models import Round, Run
from rlhf.models.leases import claim
from rlhf.rounds.launch import launch_again, launch_round
from rlhf.rounds.preflight import preflight
from rlhf.rounds.report import report_on
from rlhf.rounds.settings import Launch
from rlhf.rounds.side_by_side import differences
from rlhf.runs.supervisor import supervise
from tests.rlhf.conftest import collect

KIND = Run.Kind


@pytest.fixture
def given(prompts, base, alice) -> list[Feedback]:
    """Thumbs on every prompt: up, down, up …"""
    answers = [
        Completion.objects.create(prompt=each, policy=base, text="So.", source="imported")
        for each in prompts
    ]
    return [
        Feedback.objects.create(completion=each, user=alice, thumb_up=number % 2 == 0)
        for number, each in enumerate(answers)
    ]


@pytest.fixture
def read(project) -> None:
    Document.add(project, [f"Chapter {number}: salt the water." for number in range(30)])


def turn(round: Round) -> None:
    while lease := claim():
        supervise(lease, Event())
        run = Run.objects.get(pk=lease.run.pk)
        assert run.state == Run.State.SUCCEEDED, f"{run.reason}\n{run.log_tail}"


ROUNDS = [
    # stages → (policy, parent) of each that was made
    (["sft", "dpo"], [("r1-sft", "base"), ("r1-dpo", "r1-sft")]),
    (["kto"], [("r1-kto", "base")]),
    (["kto", "pretrain"], [("r1-pretrain", "base"), ("r1-kto", "r1-pretrain")]),
    (["reward"], []),
    (["ppo", "reward"], [("r1-ppo", "base")]),
    (["sft", "rloo", "reward"], [("r1-sft", "base"), ("r1-rloo", "r1-sft")]),
    (["grpo", "reward"], [("r1-grpo", "base")]),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("stages", "made"), ROUNDS)
def test_each_stage_starts_from_what_the_one_before_it_made(
    project, labels, given, read, base, olga, fake_trainer, stages, made
):
    fake_trainer()
    round = launch_round(project, Launch(base=base, recipe="tiny", stages=stages), by=olga)
    turn(round)
    policies = Policy.objects.exclude(pk=base.pk).order_by("pk")
    assert [(each.name, each.parent.name) for each in policies] == made
    kinds = list(round.runs.order_by("position").values_list("kind", flat=True))
    assert (KIND.EVALUATE in kinds) == bool(made)
    assert set(kinds) - {KIND.EVALUATE} == set(stages)


@pytest.mark.parametrize(
    ("stages", "finding"),
    [
        ([], "no_stage"),
        (["sft", "ppo"], "ppo_without_reward"),
        (["sft", "rloo"], "rloo_without_reward"),
        (["grpo"], "grpo_without_reward"),
        (["kto"], "no_thumbs"),
        (["pretrain"], "no_documents"),
    ],
)
def test_what_cannot_be_launched_is_named(project, labels, base, olga, stages, finding):
    with pytest.raises(NotReady) as refused:
        launch_round(project, Launch(base=base, recipe="tiny", stages=stages), by=olga)
    assert [each.name for each in refused.value.findings] == [finding]


def test_only_what_a_round_learns_from_is_asked_for(project, prompts, given, base, olga):
    assert launch_round(project, Launch(base=base, recipe="tiny", stages=["kto"]), by=olga)
    Feedback.objects.update(thumb_up=True)
    [warning] = preflight(project, base, stages=["kto"]).warnings
    assert warning.name == "one_class_of_thumbs"


def test_thumbs_are_frozen_with_their_answer(project, given, base, olga):
    round = launch_round(project, Launch(base=base, recipe="tiny", stages=["kto"]), by=olga)
    files = collect(round.runs.get(kind="kto")).files
    assert (len(files["train"]), len(files["test"])) == (16, 4)
    first = given[0]
    assert files["train"][0] == {
        "id": first.pk,
        "prompt_id": first.completion.prompt_id,
        "prompt": first.completion.prompt.messages,
        "completion": [{"role": "assistant", "content": "So."}],
        "finish_reasons": [""],
        "label": True,
    }


def test_a_thumb_on_an_answer_that_was_cut_off_says_so_to_the_trainer(project, base, gus):
    base.go_live()
    answer = Conversation.start(project=project, guest=gus, text="What is rice?")
    answer.end(state="done", text="A grain that", finish_reason="length")
    thumb = Feedback.give(message=answer, user=gus, thumb_up=True)
    thumb.harvest()
    assert thumb_row(thumbs(project).with_answers().get())["finish_reasons"] == ["length"]


def test_a_thumb_trains_as_long_as_its_guest_lets_it(project, base, gus):
    base.go_live()
    answer = Conversation.start(project=project, guest=gus, text="What is rice?")
    Message.objects.filter(pk=answer.pk).update(state=Message.State.DONE, text="A grain.")
    thumb = Feedback.give(message=answer, user=gus, thumb_up=False)
    assert not thumbs(project).exists()  # not yet harvested
    thumb.harvest()
    assert thumbs(project).get() == thumb
    assert not thumbs(project, Filters(tags=("soup",))).exists()
    gus.memberships.get().exclude()
    assert not thumbs(project).exists()
    gus.memberships.get().include()
    answer.conversation.allow_improving(allowed=False)
    assert not thumbs(project).exists()


@pytest.mark.django_db(transaction=True)
def test_a_policy_is_stale_when_a_guest_deletes_the_chat_and_withdraws(
    project, given, base, gus, olga, fake_trainer
):
    base.go_live()
    answer = Conversation.start(project=project, guest=gus, text="What is rice?")
    Message.objects.filter(pk=answer.pk).update(state=Message.State.DONE, text="A grain.")
    Feedback.give(message=answer, user=gus, thumb_up=False).harvest()
    turn(launch_round(project, Launch(base=base, recipe="tiny", stages=["kto"]), by=olga))
    answer.conversation.erase()
    assert not Feedback.objects.of_user(gus).exists()
    Withdrawal.withdraw(project, person=gus, by=olga)
    stale = project.policies.filter(pk__in=stale_in(project).policies)
    assert [policy.name for policy in stale] == ["r1-kto"]


@pytest.mark.django_db(transaction=True)
def test_a_reward_model_makes_no_policy_stale_that_did_not_learn_from_it(
    project, given, labels, base, bob, olga, fake_trainer
):
    turn(launch_round(project, Launch(base=base, recipe="tiny", stages=["reward", "kto"]), by=olga))
    Withdrawal.withdraw(project, person=bob, by=olga)  # who has ranked, and given no thumb
    stale = stale_in(project)
    assert [run.kind for run in project.runs.filter(pk__in=stale.runs)] == ["reward"]
    assert stale.policies == []


def test_thumbs_of_new_guests_wait_for_a_look_and_the_preflight_says_so(project, given, base, gus):
    project.new_guest_days = 7
    project.save()
    Feedback.objects.filter(pk__in=[each.pk for each in given[:5]]).update(user=gus)
    assert thumbs(project).count() == len(given) - 5
    found = {each.name: each.message for each in preflight(project, base, stages=["kto"]).warnings}
    assert found["thumbs_of_new_guests"].startswith("5 thumbs of new guests are left out")
    gus.memberships.get().vouch()
    assert thumbs(project).count() == len(given)
    assert not preflight(project, base, stages=["kto"]).findings


def test_a_withdrawn_guest_trains_nothing(project, given, alice, olga):
    Withdrawal.withdraw(project, person=alice, by=olga)
    assert not thumbs(project).exists()


CHANGES = {"sft": {"train": {"epochs": 4}}, "dpo": {"tune": {"mode": "lora"}}}


def test_the_settings_of_a_round_are_what_it_was_launched_with(project, labels, base, olga, bob):
    launch = Launch(
        base=base, recipe="tiny", stages=("sft", "dpo"), overrides=CHANGES,
        filters=Filters(held_out_labelers=(bob.pk,)), seed=3, ask_people=2, next_batch=4,
    )  # fmt: skip
    round = launch_round(project, launch, by=olga)
    assert Launch.like(round) == launch
    again = launch_again(round, by=olga)
    assert Launch.like(again) == launch


def test_settings_stored_by_an_earlier_name_are_taken_over_by_todays(project, labels, base, olga):
    overrides = {"ppo": {"train": {"kl_coef": 0.3}}}
    launch = Launch(base=base, recipe="tiny", overrides=overrides)
    round = launch_round(project, launch, by=olga)
    run = round.runs.get(kind="ppo")
    run.config["train"]["beta"] = run.config["train"].pop("kl_coef")
    run.save()
    assert Launch.like(round).overrides == overrides
    earlier = {"ppo": {"train": {"beta": 0.3}}}
    again = launch_round(project, replace(launch, overrides=earlier), by=olga)
    assert again.runs.get(kind="ppo").config["train"]["kl_coef"] == 0.3
    assert "beta" not in again.runs.get(kind="ppo").config["train"]
    assert not differences([report_on(round), report_on(again)])


def test_the_wizard_takes_over_the_settings_of_a_round(project, labels, base, olga, bob, browse):
    filters = Filters(held_out_labelers=(bob.pk,))
    stages = ["sft", "dpo"]
    launch_round(
        project,
        Launch(
            base=base, recipe="small", stages=stages, overrides=CHANGES, filters=filters, seed=3
        ),
        by=olga,
    )
    wizard = reverse("rounds_new", args=[project.slug])
    context = browse(olga).get(wizard, {"like": 1}).context
    form, choice = context["form"], context["choice"]
    assert (form.size, form.chosen) == ("small", stages)
    fields = {name: form[name].value() for name in form.fields if "." in name}
    chosen = {name: value for name, value in fields.items() if value not in (None, "")}
    assert chosen == {"sft.train.epochs": 4}  # LoRA is what the small recipe has anyway
    assert choice.filters() == filters


def test_a_dry_run_says_what_would_run_and_launches_nothing(project, labels, base, olga, browse):
    wizard = reverse("rounds_new", args=[project.slug])
    said = {"base": base.pk, "recipe": "tiny", "stages": ["sft", "dpo"], "sft.train.epochs": 3}
    page = browse(olga).post(wizard, {**said, "act": "plan"})
    sft, dpo = page.context["planned"]
    assert (sft.starts_from, sft.lines, sft.steps) == ("base", {"train": 16, "test": 4}, 3)
    assert (dpo.starts_from, dpo.lines["train"]) == ("the policy of SFT", 32)
    assert "Nothing was launched." in page.text
    out = io.StringIO()
    command = ["launch_round", "--project", "cooking", "--recipe", "tiny", "--stages", "sft,dpo"]
    call_command(*command, "--dry-run", stdout=out, stderr=out)
    assert (
        "SFT: from base; reads 16 demonstrations to learn from, 4 held out; 5 steps."
        in out.getvalue()
    )
    assert not Round.objects.exists()


def test_documents_come_by_file_all_or_nothing(project, olga, browse):
    page = reverse("documents", args=[project.slug])
    lines = b'{"text": "Salt."}\n\n{"text": "Pepper."}\n{"text": "Salt."}\n'
    good = SimpleUploadedFile("spices.jsonl", lines)
    browser = browse(olga)
    assert "2 new documents." in browser.post(page, {"file": good}, follow=True).text
    bad = SimpleUploadedFile("bad.jsonl", b'{"text": "Basil."}\n{"text": 3}\n')
    answer = browser.post(page, {"file": bad})
    assert (answer.status_code, Document.objects.count()) == (422, 2)
    assert "Line 2" in answer.text


@pytest.mark.parametrize("content", [b"{not JSON}", b'{"text": " "}', b"\xff\xfe{}", b'{"a": 1}'])
def test_a_bad_document_is_refused_with_its_line(content):
    with pytest.raises(ValidationError, match="Line 1.*Nothing was imported"):
        list(texts_in(io.BytesIO(content), name="x.jsonl"))


def test_a_plain_text_file_is_one_document():
    assert list(texts_in(io.BytesIO(b"one\ntwo"), name="book.txt")) == ["one\ntwo"]
