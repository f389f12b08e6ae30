"""Every address × method × actor. An address that nobody has classified fails here.

The word beside an address is the least role that may use it. `own` means: the labeler or guest
whose it is, and nobody else."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone

from annotate.documents.models import Document
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.talk import turns
from annotate.labels.kinds.talk.tasks import open_own_talk
from annotate.models import (
    ApiToken,
    Connection,
    Conversation,
    Grid,
    Judge,
    Membership,
    PromptTemplate,
    TalkPlan,
    TurnAnswer,
    Upload,
    Webhook,
)
from annotate.playground.grids import Column
from annotate.webhooks.models import Event
from rlhf.models import Checkpoint, Round, Run
from rlhf.stages import TRAININGS

OPEN, SIGNED_IN, OWN, TOKEN = "open", "signed in", "own", "token"
OPERATOR_SOMEWHERE = "operator somewhere"
ADMINISTRATOR = "administrator"  # of the site: none of the cast is one
WATCHER = "watcher"  # by a token, or from an address, of the settings
# What the number in the address names is no such thing: not there, for those who might see one.
NO_REVIEW, NO_PRACTICE = "no review", "no practice"
GUEST, LABELER, REVIEWER, OPERATOR = "guest", "labeler", "reviewer", "operator"

LEAST_ROLE = {
    **dict.fromkeys(["healthz", "sign_in", "sign_in_by_link", "invitation", "sign_out"], OPEN),
    **dict.fromkeys(["livez", "readyz", "shared_chat"], OPEN),
    **dict.fromkeys(["second_factor", "sign_in_by_mail", "password_reset"], OPEN),
    **dict.fromkeys(["provider", "provider_answer"], OPEN),
    **dict.fromkeys(["security", "security_app", "security_key"], SIGNED_IN),
    "verify_address": SIGNED_IN,
    "metrics": WATCHER,
    **dict.fromkeys(["site_audit", "site_audit_export"], ADMINISTRATOR),
    **dict.fromkeys(["home", "account", "api_schema"], SIGNED_IN),
    "project_new": OPERATOR_SOMEWHERE,
    **dict.fromkeys(
        ["project", "find", "chat", "chat_new", "chat_history", "chat_delete_all"], GUEST
    ),
    **dict.fromkeys(["label", "my_work", "preview", "guideline"], LABELER),
    **dict.fromkeys(["own_prompts", "own_prompts_draft"], LABELER),
    **dict.fromkeys(["reviews", "review_next", "labelers", "labeler", "progress"], REVIEWER),
    **dict.fromkeys(["gold", "labelers_guests", "labelers_times", "feedback"], REVIEWER),
    "labelers_time_sheet": REVIEWER,
    "labelers_members": OPERATOR,
    **dict.fromkeys(["project_settings", "guideline_new", "talks", "batches"], OPERATOR),
    **dict.fromkeys(["review_one", "review_open", "review_skip", "labelers_answer"], NO_REVIEW),
    "practice": NO_PRACTICE,
}
OWN_PREFIXES = ("chat_", "talk_")
OWN_NAMES = {"assignment", "draft", "skip", "flag", "undo"}
OPERATOR_PREFIXES = (
    *("prompts", "rounds", "policies", "playground", "connections", "programs", "audit", "judge"),
    *("documents", "notices"),
)

ROLES = {
    GUEST: {"gus", "alice", "bob", "rita", "olga"},
    LABELER: {"alice", "bob", "rita", "olga"},
    REVIEWER: {"rita", "olga"},
    OPERATOR: {"olga"},
}
ACTORS = ("nobody", "gus", "alice", "bob", "rita", "olga", "mallory")
METHODS = ("GET", "POST")
NOT_THERE = {"slug": "nowhere", "username": "nobody-of-that-name"}


def routes(patterns=None, kwargs=()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, names in the address) of every address there is."""
    for each in get_resolver().url_patterns if patterns is None else patterns:
        names = (*kwargs, *each.pattern.converters)
        if isinstance(each, URLPattern):
            yield each.name or str(each.pattern), names
        else:
            yield from routes(each.url_patterns, names)


ROUTES = sorted(set(routes()))


def least_role(name: str) -> str | None:
    if name in LEAST_ROLE:
        return LEAST_ROLE[name]
    if name in OWN_NAMES or name.startswith(OWN_PREFIXES):
        return OWN
    if name.startswith("api_"):
        return TOKEN  # tests/test_api_matrix.py says which token may do what
    return OPERATOR if name.startswith(OPERATOR_PREFIXES) else None


@pytest.fixture
def world(request, project, policy, rank_task, tmp_path, monkeypatch) -> SimpleNamespace:
    """One of everything an address can name, all in the project of the cast."""
    cast = {name: request.getfixturevalue(name) for name in ACTORS[1:]}
    project.own_prompts = project.OwnPrompts.REVIEWED
    project.save()
    task = rank_task(k=3)
    policy.folder = "models/base"
    policy.save()
    policy.go_live()
    answer = Conversation.start(project=project, guest=cast["gus"], text="What is rice?")
    share = answer.conversation.shares.create(
        sha256="x", shown=[], expires_at=timezone.now() + timedelta(days=1)
    )
    round = Round.objects.create(
        project=project, number=1, recipe="tiny", base=policy, launched_by=cast["olga"]
    )
    run, *_ = [
        Run.objects.create(
            project=project,
            round=round,
            kind=kind,
            position=position,
            config={"train": {}, "tune": {}},
        )
        for position, kind in enumerate([*TRAININGS, Run.Kind.EVALUATE])
    ]
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    model = Checkpoint.objects.create(run=run, step=1, folder=".", is_final=True)
    grid = Grid.lay_out(
        project=project, author=cast["olga"], prompts=["Hello"], columns=[Column(policy.pk)]
    )
    template = PromptTemplate.keep(
        project=project, name="polite", author=cast["olga"], system_prompt="Be polite."
    )
    connection = Connection.objects.create(
        project=project, name="Kitchen AI", base_url="https://kitchen.invalid/v1"
    )
    judge = Judge.objects.create(
        project=project, name="strict", policy=policy, rubric="Be kind.", author=cast["olga"]
    )
    upload = Upload.keep(
        project=project, by=cast["olga"], file=io.BytesIO(b"x"), name="x.csv", format="csv"
    )
    token, _ = ApiToken.issue(project=project, user=cast["olga"], scopes=["read"])
    webhook = Webhook(project=project, url="https://x.invalid/a", created_by=cast["olga"])
    webhook.events = [Event.THUMB]
    webhook.make_secret()
    webhook.save()
    delivery = webhook.deliveries.create(event=Event.THUMB, subject="x", data={})
    assignment = next_assignment(cast["alice"], project)
    plan = TalkPlan(project=project, first=policy, goal="Dinner", author=cast["olga"])
    talk = open_own_talk(plan, cast["alice"].memberships.get())
    turn = turns.say(talk, text="Hello", number=1)
    TurnAnswer.objects.update(state="done", text="Hungry?")
    Document.add(project, ["Boil an egg."], source="egg.txt")
    named = {
        "slug": project.slug,
        "username": "alice",
        "name": "cook",
        "rest": "embeddings",
        "uid": "x",
        "token": "x-x",
        "secret": "x",
        "signed": "x",
        "kind": "prompts",
        "assignment_id": assignment.pk,
        "talk_id": talk.pk,
        "turn_id": turn.pk,
        "answer_id": turn.pair[0].pk,
        "prompt_id": task.prompt_id,
        "task_id": task.pk,
        "conversation_id": answer.conversation_id,
        "message_id": answer.pk,
        "question_id": answer.answers_id,
        "share_id": share.pk,
        "key": "x",
        "ending": "md",
        "policy_id": policy.pk,
        "number": round.number,
        "run_id": run.pk,
        "model_id": model.pk,
        "membership_id": cast["alice"].memberships.get().pk,
        "grid_id": grid.pk,
        "template_id": template.pk,
        "judge_id": judge.pk,
        "document_id": Document.objects.get().pk,
        "connection_id": connection.pk,
        "upload_id": upload.pk,
        "token_id": token.pk,
        "webhook_id": webhook.pk,
        "delivery_id": delivery.pk,
        "row": 0,
        "column": 0,
        "format": "csv",
    }
    clients = {"nobody": Client(raise_request_exception=False)}
    for name, person in cast.items():
        clients[name] = Client(raise_request_exception=False)
        clients[name].force_login(person)
    return SimpleNamespace(project=project, named=named, clients=clients, cast=cast)


@contextmanager
def taken_back(clients: Iterable[Client]) -> Iterator[None]:
    """Whatever is changed within is as it was afterwards, in the database and in these browsers: a
    world takes longer to make than to ask, and so one is asked for everything."""
    kept = [
        (client, {key: morsel.value for key, morsel in client.cookies.items()})
        for client in clients
    ]
    try:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)
    finally:
        for client, cookies in kept:
            client.cookies.clear()
            client.cookies.load(cookies)


def ask(client: Client, method: str, address: str, **headers: str) -> int:
    """The status of the answer; whatever it changed is taken back."""
    with taken_back([client]):
        return client.generic(method, address, headers=headers).status_code


def owner(name: str) -> str:
    return "gus" if name.startswith("chat_") else "alice"


def expected(actor: str, role: str, name: str, method: str) -> set[int] | str:
    """The statuses an actor must get, or `served`."""
    if role == WATCHER:
        return {403} if method == "GET" else {405}
    if actor == "nobody":
        return {302} if method == "GET" else {401}
    if role == ADMINISTRATOR:
        return {404}
    if role == OPERATOR_SOMEWHERE:
        return "served" if actor in ("olga", "mallory") else {403}
    if actor == "mallory":
        return {404}
    if role == OWN:
        if actor == owner(name):
            return "served"
        return {403, 404} if actor == "gus" else {404}
    if role in (NO_REVIEW, NO_PRACTICE):
        may_see_one = ROLES[REVIEWER if role == NO_REVIEW else LABELER]
        return {404} if actor in may_see_one else {403}
    return "served" if actor in ROLES[role] else {403}


@pytest.mark.timeout(900)
def test_every_address_answers_each_actor_as_it_should(world, subtests):
    for name, kwargs in ROUTES:
        with subtests.test(name):
            answers_as_it_should(world, name, kwargs)


def answers_as_it_should(world: SimpleNamespace, name: str, kwargs: tuple[str, ...]) -> None:
    role = least_role(name)
    assert role, f"{name} is not classified: say in this file who may use it"
    unknown = set(kwargs) - set(world.named)
    assert not unknown, f"say in `world` what these are: {unknown}"
    address = reverse(name, kwargs={each: world.named[each] for each in kwargs})
    for method in METHODS:
        for actor in ACTORS:
            status = ask(world.clients[actor], method, address)
            assert status < 500 or role == TOKEN, (method, actor, status)
            if role in (OPEN, SIGNED_IN, TOKEN):
                continue
            if status == 405 and actor != "nobody":  # said before anybody is asked for
                continue
            allowed = expected(actor, role, name, method)
            if allowed == "served":
                # An empty form on these pages names no ranking, or no guest.
                names_nothing = method == "POST" and name in ("gold", "labelers_guests")
                refused = {403} if names_nothing else {403, 404}
                assert status not in refused, (method, actor, status)
            else:
                assert status in allowed, (method, actor, status)


IN_A_PROJECT = [(name, kwargs) for name, kwargs in ROUTES if "slug" in kwargs]
NAMES_A_THING = [
    (name, kwargs) for name, kwargs in IN_A_PROJECT if any(k.endswith("_id") for k in kwargs)
]


def test_what_is_foreign_answers_like_what_is_missing(world):
    """Also through a project of one's own: mallory operates one, and guesses our numbers."""
    for (name, kwargs), method in product(NAMES_A_THING, METHODS):
        ours = {each: world.named[each] for each in kwargs}
        through_hers = ours | {"slug": "elsewhere"}
        missing = {k: 999_999 if k.endswith("_id") else v for k, v in through_hers.items()}
        answers = {
            ask(world.clients["mallory"], method, reverse(name, kwargs=named))
            for named in (ours, through_hers, missing)
        }
        assert answers in ({404}, {405}), (name, method, answers)


def test_an_api_token_opens_no_page(world):
    secret = ApiToken.issue(
        project=world.project,
        user=world.cast["olga"],
        name="matrix",
        scopes=list(ApiToken.Scope.values),
    )[1]
    bearer = {"Authorization": f"Bearer {secret}"}
    for name, kwargs in IN_A_PROJECT:
        address = reverse(name, kwargs={each: world.named[each] for each in kwargs})
        assert ask(world.clients["nobody"], "GET", address, **bearer) == 302, name
        assert ask(world.clients["nobody"], "POST", address, **bearer) == 401, name


SCRIPTS = {
    "htmx": {"HX-Request": "true"},
    "fetch": {"Sec-Fetch-Dest": "empty"},
    "an event source": {"Accept": "text/event-stream"},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_gets_no_sign_in_page_to_paste(world, script):
    somebody_else = SCRIPTS[script] | {"X-Person": str(world.cast["bob"].pk)}
    asking = (("nobody", SCRIPTS[script]), ("olga", somebody_else))
    for (name, kwargs), method, (actor, headers) in product(IN_A_PROJECT, METHODS, asking):
        address = reverse(name, kwargs={each: world.named[each] for each in kwargs})
        with transaction.atomic():
            reply = world.clients[actor].generic(method, address, headers=headers)
            transaction.set_rollback(True)
        if reply.status_code != 405:
            assert reply.status_code == 401, (name, method, actor)
            assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_the_api_takes_a_token_and_neither_a_session_nor_both(world, subtests):
    both = {"Authorization": "Bearer fs_nonsense"}
    for name, kwargs in ROUTES:
        if least_role(name) != TOKEN:
            continue
        address = reverse(name, kwargs={each: world.named[each] for each in kwargs})
        for method in METHODS:
            with subtests.test(name, method=method):
                assert ask(world.clients["olga"], method, address) in (401, 403, 405)
                assert ask(world.clients["olga"], method, address, **both) in (401, 403, 405)


def test_the_roles_of_this_file_are_the_roles_there_are():
    assert set(ROLES) == set(Membership.Role.values)
