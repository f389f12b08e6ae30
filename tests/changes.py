"""What changes something at each address: requests, with the world that each of them needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from types import SimpleNamespace
from typing import Any

from allauth.mfa.totp.internal import auth as totp
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms import model_to_dict
from django.urls import reverse
from django.utils.http import urlsafe_base64_encode

from annotate.accounts import addresses, second_factor
from annotate.accounts.mail_tokens import reset_tokens
from annotate.documents.models import Document
from annotate.labelling.queue import next_assignment
from annotate.models import (
    AuditEntry,
    Completion,
    Feedback,
    Grid,
    Invitation,
    Judge,
    Membership,
    Message,
    Placement,
    Policy,
    Ranking,
    Task,
    Upload,
    User,
)
from annotate.people.sign_in import login_link
from annotate.playground.grids import Column
from annotate.views.project import SettingsForm
from rlhf.models import RewardModel, Run
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.registry import promotion
from rlhf.rounds.launch import Launch, cancel_round, launch_round
from tests.soft_key import SoftKey
from tests.test_access_matrix import ROUTES


@dataclass
class Sent:
    """A request that changes something. `named`: what the address names instead of what the world
    has there."""

    data: dict[str, Any] = field(default_factory=dict)
    by: str = "olga"
    named: dict[str, Any] = field(default_factory=dict)
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


Make = Callable[[SimpleNamespace], Sent]


def path(world: SimpleNamespace, name: str, /, **instead: Any) -> str:
    kwargs = dict(ROUTES)[name]
    return reverse(name, kwargs={each: {**world.named, **instead}[each] for each in kwargs})


def batch(world: SimpleNamespace) -> Sent:
    Task.objects.filter(pk=world.named["task_id"]).update(batch="eggs", closed_at=None)
    return Sent({"batch": "eggs", "act": "plan", "priority": 3})


def just(**data: Any) -> Make:
    return lambda world: Sent(dict(data))


def by(name: str, **data: Any) -> Make:
    return lambda world: Sent(dict(data), by=name)


def call(**data: Any) -> Make:
    """By a program."""
    return lambda world: Sent(dict(data), by="api")


def member(world: SimpleNamespace, name: str) -> Membership:
    return world.project.memberships.get(user__username=name)


def invited(world: SimpleNamespace, name: str) -> str:
    """The secret of an invitation by olga."""
    link = Invitation.issue(project=world.project, name=name, role="labeler", by=world.cast["olga"])
    return link.rstrip("/").rsplit("/", 1)[1]


def invitation_at_home(world: SimpleNamespace) -> Sent:
    """Mallory sees one at home once she shares a project with olga."""
    hers = world.cast["mallory"].memberships.get().project
    hers.memberships.create(user=world.cast["olga"], role="labeler")
    invited(world, "mallory")
    return Sent({"act": "accept", "invitation": Invitation.objects.get().pk}, by="mallory")


def sign_in(world: SimpleNamespace) -> Sent:
    olga = world.cast["olga"]
    olga.set_password("eggs and flour")
    olga.save()
    return Sent({"username": "olga", "password": "eggs and flour"}, by="nobody")


def by_link(world: SimpleNamespace) -> Sent:
    uid, token = login_link(world.cast["alice"]).rstrip("/").split("/")[-2:]
    return Sent(by="nobody", named={"uid": uid, "token": token})


def with_app(world: SimpleNamespace) -> None:
    """Alice has an app, whose recovery code is known here."""
    world.cast["alice"].set_password("eggs and flour")
    world.cast["alice"].save()
    totp.TOTP.activate(world.cast["alice"], totp.generate_totp_secret())
    world.codes = second_factor.new_codes(world.cast["alice"])


def asked_for_second_factor(world: SimpleNamespace) -> Sent:
    with_app(world)
    said = {"username": "alice", "password": "eggs and flour"}
    world.clients["nobody"].post(reverse("sign_in"), said)
    return Sent({"code": world.codes[0]}, by="nobody")


def new_app(world: SimpleNamespace) -> Sent:
    world.clients["alice"].get(reverse("security_app"))
    secret = world.clients["alice"].session[second_factor.SECRET]
    step = next(totp.yield_hotp_counters_from_time())
    return Sent({"code": totp.format_hotp_value(totp.hotp_value(secret, step + 1))}, by="alice")


def new_key(world: SimpleNamespace) -> Sent:
    page = world.clients["alice"].get(reverse("security_key"))
    return Sent({"key": SoftKey().make(page.context["key"]), "name": "Blue"}, by="alice")


def reset_link(world: SimpleNamespace) -> Sent:
    alice = User.objects.get(username="alice")
    addresses.verify(alice, "alice@example.org")
    named = {
        "uid": urlsafe_base64_encode(b"%d" % alice.pk),
        "token": reset_tokens.make_token(alice),
    }
    word = "quince-jelly-7"
    return Sent({"new_password1": word, "new_password2": word}, by="nobody", named=named)


def waiting_address(world: SimpleNamespace) -> Sent:
    waiting = addresses.ask_to_verify(world.cast["alice"], "alice@example.org")
    return Sent(by="alice", named={"signed": addresses.key_of(waiting)})


def skipped(world: SimpleNamespace) -> Sent:
    world.clients["alice"].post(path(world, "skip"), {"skip-reason": "other"})
    AuditEntry.objects.all().delete()
    return Sent(by="alice")


def ranked(world: SimpleNamespace) -> Ranking:
    """By bob, of a task like the one there is."""
    there = Task.objects.get(pk=world.named["task_id"])
    task = Task.objects.create(project=world.project, prompt=there.prompt, kind=there.kind)
    task.completions.set(there.completions.all())
    work = next_assignment(world.cast["bob"], world.project)
    placements = [
        Placement(completion_id=pk, place=place) for place, pk in enumerate(work.shown_order, 1)
    ]
    return Ranking.record(assignment=work, placements=placements)


def review(world: SimpleNamespace) -> Sent:
    ranked(world).assignment.task.ask_for_review({"sampled"})
    work = next_assignment(world.cast["rita"], world.project)
    assert work.task.kind == Task.Kind.REVIEW
    return Sent(by="rita", named={"assignment_id": work.pk})


def thumb(world: SimpleNamespace) -> Sent:
    answer = Message.objects.get(pk=world.named["message_id"])
    given = Feedback.give(message=answer, user=world.cast["gus"], thumb_up=False)
    return Sent({"chosen": given.pk, "act": "dismiss", "why": "spam"}, by="rita")


def end_user(world: SimpleNamespace) -> Sent:
    said = {"messages": [{"role": "user", "content": "Hi"}], "answer": "Ho", "user": "cook"}
    asked = {"answers": [{"external_id": "a1", "model": "gpt", **said}]}
    reply = world.clients["api"].post("/api/v1/answers", asked, content_type="application/json")
    assert reply.status_code == 201, reply.content
    return Sent(by="api", method="DELETE")


def settings(world: SimpleNamespace) -> Sent:
    values = model_to_dict(world.project, SettingsForm.Meta.fields)
    sent = {name: v for name, v in values.items() if v is not False and v is not None}
    return Sent({**sent, "overlap": 3})


def own_prompts(world: SimpleNamespace) -> Sent:
    world.project.memberships.update(guideline_read=2)
    return Sent({"text": "How do I poach an egg?", "answer": "In water."}, by="alice")


def grid(world: SimpleNamespace) -> Sent:
    column = {"weights": world.named["policy_id"], "temperature": 1, "max_new_tokens": 9}
    return Sent({"prompts": "Hello", **{f"c0-{name}": value for name, value in column.items()}})


def new_column(world: SimpleNamespace) -> Sent:
    made = Grid.lay_out(
        project=world.project,
        author=world.cast["olga"],
        prompts=["Hello"],
        columns=[Column(world.named["policy_id"], system_prompt="Be brief.")],
    )
    return Sent({"name": "brief cook"}, named={"grid_id": made.pk})


def checked_grid(world: SimpleNamespace) -> Sent:
    made = Grid.lay_out(
        project=world.project,
        author=world.cast["olga"],
        prompts=["Hello"],
        columns=[Column(world.named["policy_id"])],
        checks="readable",
    )
    return Sent({"suite": "Greetings"}, named={"grid_id": made.pk})


def answered_grid(world: SimpleNamespace) -> Sent:
    cook = Policy.objects.create(project=world.project, name="cook", folder="models/base")
    made = Grid.lay_out(
        project=world.project,
        author=world.cast["olga"],
        prompts=["Hello"],
        columns=[Column(world.named["policy_id"]), Column(cook.pk)],
    )
    for cell, text in zip(made.cells.all(), ("Hi", "Good day"), strict=True):
        cell.answer(text=text, finish_reason="stop")
        made.save_column(cell.column, name=f"column {cell.column}")
    return Sent(named={"grid_id": made.pk})


def given_to_a_judge(world: SimpleNamespace) -> Sent:
    judge = Judge.objects.get(pk=world.named["judge_id"])
    judge.start(scope="open", budget=9, by=judge.author)
    return Sent()


def stopped_judge(world: SimpleNamespace) -> Sent:
    sent = given_to_a_judge(world)
    Judge.objects.get(pk=world.named["judge_id"]).questions.cancel()
    return sent


def whole_import(world: SimpleNamespace) -> Sent:
    line = {"messages": [{"role": "user", "content": "How do I fry an egg?"}]}
    kept = Upload.keep(
        project=world.project,
        by=world.cast["olga"],
        file=BytesIO(json.dumps(line).encode()),
        name="x.jsonl",
        format="jsonl",
    )
    page = world.clients["olga"].get(path(world, "prompts_import_one", upload_id=kept.pk))
    form = page.context["form"]
    data = {name: form[name].value() or "" for name in form.fields}
    return Sent({**data, "import": "whole"}, named={"upload_id": kept.pk})


def documents(world: SimpleNamespace) -> Sent:
    return Sent({"file": SimpleUploadedFile("tea.txt", b"Tea is a drink.")})


def documents_deleted(world: SimpleNamespace) -> Sent:
    Document.add(world.project, ["Tea is a drink."], source="tea.txt")
    return Sent({"source": "tea.txt"})


def candidate(world: SimpleNamespace, **data: Any) -> Sent:
    made = Policy.objects.create(
        project=world.project, name="cook", folder="models/base", state=Policy.State.CANDIDATE
    )
    return Sent({"reason": "for the test", **data}, named={"policy_id": made.pk})


def roll_back(world: SimpleNamespace) -> Sent:
    for name in ("older", "newer"):
        made = world.project.policies.create(name=name, origin="base", folder="models/base")
        promotion.promote(made, by=world.cast["olga"], reason="on", override="for the test")
    return Sent({"reason": "worse"})


def launched(world: SimpleNamespace) -> Any:
    policy = Policy.objects.get(pk=world.named["policy_id"])
    return launch_round(world.project, Launch(base=policy, recipe="tiny"), by=world.cast["olga"])


def cancel_run(world: SimpleNamespace) -> Sent:
    run = Run.launch(world.project, kind=Run.Kind.SAMPLE, config={}, by=world.cast["olga"])
    return Sent({"act": "cancel"}, named={"run_id": run.pk})


def prunable(world: SimpleNamespace) -> Sent:
    world.publish(Run.Kind.SFT)
    world.publish(Run.Kind.SFT)
    return Sent({"keep_rounds": 0})


def evaluated(world: SimpleNamespace) -> Sent:
    """Two policies have answered prompts that are held out."""
    run = Run.objects.get(round__number=world.named["number"], kind=Run.Kind.EVALUATE)
    held_out = world.project.prompts.exclude(split="train")[:3]
    for policy in Policy.objects.filter(pk__in=two_policies(world)):
        for prompt in held_out:
            text = f"{policy} says {prompt.pk}"
            Completion.objects.create(
                prompt=prompt,
                policy=policy,
                text=text,
                source=Completion.Source.SAMPLED,
                sampling={"run": run.pk},
            )
    return Sent({"prompts": 2})


def judged(world: SimpleNamespace) -> Sent:
    judge = world.publish(Run.Kind.REWARD)
    RewardModel.objects.create(project=world.project, checkpoint=judge)
    return Sent({"prompts": 2})


def doubted_ranking(world: SimpleNamespace) -> Sent:
    """Two people hold against what a reward model is sure of."""
    run = Run.objects.create(project=world.project, kind=Run.Kind.SAMPLE, config={})
    prompt = world.project.prompts.first()
    better, worse = [
        Completion.objects.create(
            prompt=prompt,
            policy_id=world.named["policy_id"],
            text=text,
            source=Completion.Source.SAMPLED,
            score=score,
            sampling={"run": run.pk},
        )
        for text, score in (("Boil it", 0.0), ("Eat it raw", 9.0))
    ]
    for name in ("alice", "bob"):
        ranking = Ranking.objects.create(prompt=prompt, labeler=world.cast[name])
        for place, completion in enumerate((better, worse), start=1):
            ranking.placements.create(completion=completion, place=place)
    return Sent({"act": "probe", "better": better.pk, "worse": worse.pk})


def again(world: SimpleNamespace) -> Sent:
    round = launched(world)
    cancel_round(round)
    return Sent(named={"number": round.number})


def share(world: SimpleNamespace) -> Sent:
    Message.objects.filter(pk=world.named["message_id"]).update(state="done", text="A grain.")
    return Sent({"days": 7}, by="gus")


def cancelled_grid(world: SimpleNamespace) -> Sent:
    Grid.objects.get(pk=world.named["grid_id"]).cells.cancel()
    return Sent()


def later_run(world: SimpleNamespace) -> Sent:
    return Sent({"run": cancel_run(world).named["run_id"], "act": "up"})


def own_work(world: SimpleNamespace) -> Sent:
    """Olga, whose token it is, has a task of her own."""
    there = Task.objects.get(pk=world.named["task_id"])
    Task.objects.create(project=world.project, prompt=there.prompt, kind=Task.Kind.WRITE)
    work = next_assignment(world.cast["olga"], world.project, only=Task.Kind.WRITE)
    return Sent({"reason": "other", "note": "odd"}, by="api", named={"assignment_id": work.pk})


def prompt_change(world: SimpleNamespace) -> Sent:
    return Sent({"is_archived": True}, by="api", method="PATCH", headers={"If-Match": "*"})


def completion(world: SimpleNamespace) -> Sent:
    said = {"prompt": world.named["prompt_id"], "policy": "guest cook", "text": "Eight minutes."}
    return Sent(said, by="api")


def import_of_program(world: SimpleNamespace) -> Sent:
    sent = {"text": json.dumps({"prompt": "How do I fry an egg?", "completion": "In butter."})}
    reply = world.clients["api"].post("/api/v1/imports", sent, content_type="application/json")
    assert reply.status_code == 201, reply.content
    return Sent(by="api", named={"upload_id": reply.json()["id"]})


def round_of_program(world: SimpleNamespace) -> Sent:
    asked = {"base": world.named["policy_id"], "recipe": "tiny", "stages": ["sft"], "follows": 1}
    return Sent({**asked, "note": "by night"}, by="api")


def round_behind(world: SimpleNamespace) -> Sent:
    Run.objects.filter(pk=cancel_run(world).named["run_id"]).update(priority=5)
    return Sent(by="api")


def failed(world: SimpleNamespace) -> Sent:
    Run.objects.update(state=Run.State.FAILED)
    return Sent(by="api")


def decision(make: Make) -> Make:
    def made(world: SimpleNamespace) -> Sent:
        sent = make(world)
        return Sent(sent.data, by="api", named=sent.named)

    return made


def review_of_program(world: SimpleNamespace) -> Sent:
    """Olga, whose token it is, has a review of her own."""
    ranked(world).assignment.task.ask_for_review({"sampled"})
    work = next_assignment(world.cast["olga"], world.project, only=Task.Kind.REVIEW)
    return Sent(by="api", named={"assignment_id": work.pk})


def two_policies(world: SimpleNamespace) -> list[int]:
    cook = Policy.objects.create(project=world.project, name="cook", folder="models/base")
    return [world.named["policy_id"], cook.pk]


def new_policy(world: SimpleNamespace) -> Sent:
    given = {"name": "plain", "folder": "models/base", "temperature": 1, "max_new_tokens": 9}
    return Sent(given)


CONNECTION = {"name": "Bakery", "base_url": "https://bakery.invalid/v1", "parallel": 2}

CHANGES: dict[str, Make] = {
    "home": invitation_at_home,
    "account": by("alice", act="name", first_name="Alice", last_name="A"),
    "sign_in": sign_in,
    "sign_in_by_link": by_link,
    "sign_out": by("alice"),
    "second_factor": asked_for_second_factor,
    "security": by("alice", act="end_others"),
    "security_app": new_app,
    "security_key": new_key,
    "password_reset": reset_link,
    "verify_address": waiting_address,
    "invitation": lambda world: Sent(by="mallory", named={"secret": invited(world, "mallory")}),
    "project_new": just(name="Baking"),
    "project_settings": settings,
    "guideline": lambda world: Sent({"version": 2}, by="alice"),
    "guideline_new": just(text="Be brief."),
    "skip": by("alice", **{"skip-reason": "other"}),
    "flag": by("alice", **{"flag-reason": "other", "flag-note": "odd"}),
    "undo": skipped,
    "own_prompts": own_prompts,
    "batches": batch,
    "gold": lambda world: Sent({"ranking": ranked(world).pk, "act": "use"}, by="rita"),
    "labelers_guests": lambda world: Sent({"member": member(world, "gus").pk, "act": "vouch"}),
    "labelers_members": lambda world: Sent(
        {"member": member(world, "alice").pk, "act": "role", "role": "reviewer"}
    ),
    "labeler": by("rita", act="pause"),
    "feedback": thumb,
    "review_skip": review,
    "chat_settings": by("gus"),
    "chat_delete": by("gus"),
    "chat_delete_all": by("gus"),
    "chat_share": share,
    "chat_unshare": by("gus"),
    "talks": lambda world: Sent(
        {"first": world.named["policy_id"], "goal": "Plan a dinner", "count": 2, "length": 3}
    ),
    "programs": just(act="token", **{"token-name": "cron", "token-scopes": ["read"]}),
    "programs_revoke": just(),
    "programs_webhook": just(act="pause"),
    "programs_send_again": just(),
    "api_end_user": end_user,
    "api_prompts": call(messages=[{"role": "user", "content": "How do I boil an egg?"}]),
    "api_prompt": prompt_change,
    "api_completions": completion,
    "api_tasks": call(kind="write"),
    "api_skip": own_work,
    "api_import_run": import_of_program,
    "api_rounds": round_of_program,
    "api_round_cancel": call(),
    "api_round_resume": failed,
    "api_round_prioritise": round_behind,
    "api_run_cancel": call(),
    "api_run_resume": failed,
    "api_promote": decision(lambda world: candidate(world, override="for the test")),
    "api_challenge": decision(lambda world: candidate(world)),
    "api_reject": decision(lambda world: candidate(world)),
    "api_roll_back": decision(lambda world: roll_back(world)),
    "api_documents": call(name="tea.txt", text="Tea is a drink."),
    "api_review_skip": review_of_program,
    "api_talks": lambda world: Sent(
        {"first": world.named["policy_id"], "goal": "Plan a dinner", "count": 2}, by="api"
    ),
    "api_judges": lambda world: Sent(
        {"name": "new", "policy": world.named["policy_id"], "rubric": "Short.", "form": "pair"},
        by="api",
    ),
    "api_judge_run": call(scope="open", budget=9),
    "api_judge_cancel": decision(lambda world: given_to_a_judge(world)),
    "api_judge_resume": decision(lambda world: stopped_judge(world)),
    "api_judge_withdraw": call(),
    "api_suites": call(name="Mine", lines="Why? => words 3"),
    "api_suite": lambda world: Sent(
        {"lines": "Why? => words 3"},
        by="api",
        method="PUT",
        named={"name": next(iter(BUILT_IN))},
        headers={"If-Match": "*"},
    ),
    "api_suite_results": lambda world: Sent({"policies": [world.named["policy_id"]]}, by="api"),
    "api_gate_limits": lambda world: Sent(
        {"kl": 9, "length": 2, "prompts": 30}, by="api", method="PUT", headers={"If-Match": "*"}
    ),
    "connections_new": lambda world: Sent(dict(CONNECTION)),
    "connections_one": lambda world: Sent(dict(CONNECTION)),
    "connections_delete": just(),
    "policies_new": new_policy,
    "judge_new": lambda world: Sent(
        {"name": "new", "policy": world.named["policy_id"], "rubric": "Short.", "form": "pair"}
    ),
    "judge_edit": lambda world: Sent(
        {"policy": world.named["policy_id"], "rubric": "Short.", "form": "rating"}
    ),
    "judge_run": just(scope="open", budget=9),
    "judge_cancel": given_to_a_judge,
    "judge_resume": stopped_judge,
    "judge_withdraw": just(),
    "playground": grid,
    "playground_save": new_column,
    "playground_keep": new_column,
    "playground_templates": just(name="brief", system_prompt="Be brief."),
    "playground_template": just(system_prompt="Be very brief."),
    "playground_rank": answered_grid,
    "playground_write": just(),
    "playground_cancel": just(),
    "playground_resume": cancelled_grid,
    "playground_rules": lambda world: Sent({"policies": [world.named["policy_id"]], "samples": 1}),
    "prompts_tasks": just(kind="write", sure="yes"),
    "prompts_mark": just(act="archive"),
    "prompts_import_one": whole_import,
    "documents": documents,
    "documents_delete": documents_deleted,
    "documents_embedder": lambda world: Sent(
        {"connection": world.named["connection_id"], "model_name": "embed-1"}
    ),
    "documents_compare": lambda world: Sent(
        {"facts": "When? | 1764", "model": world.named["policy_id"], "passages": 3}
    ),
    "rounds_new": lambda world: Sent(
        {"base": world.named["policy_id"], "recipe": "tiny", "stages": ["sft"], "follows": 1}
    ),
    "rounds_show": lambda world: Sent({"act": "cancel"}, named={"number": launched(world).number}),
    "rounds_again": again,
    "rounds_queue": later_run,
    "rounds_ask_people": evaluated,
    "rounds_next_batch": judged,
    "policies_run": cancel_run,
    "policies_fetch": just(model="Qwen/Qwen2.5-0.5B", name="small"),
    "policies_models": prunable,
    "policies_model": just(act="keep"),
    "policies_evaluation": lambda world: Sent({"compared": two_policies(world), "prompts": 3}),
    "policies_doubted": doubted_ranking,
    "policies_sample": lambda world: Sent({"policies": [world.named["policy_id"]], "k": 2}),
    "policies_roll_back": roll_back,
    "policies_suites": lambda world: Sent({"policies": [world.named["policy_id"]]}),
    "policies_suite": just(name="Mine", lines="Why? => words 3"),
    "policies_suite_of_grid": checked_grid,
    "policies_limits": just(kl=9, length=2, prompts=30, harm=5, challenger_percent=7),
    "policies_gate": lambda world: candidate(world, override="for the test"),
    "policies_challenge": candidate,
    "policies_reject": candidate,
    "policies_reach": just(reason="asked to", confirmed="on"),
}
