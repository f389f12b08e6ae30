"""Every address through which something can be changed: what it changes and one entry of the audit
log come together, or neither does. An address that is neither in CHANGES nor in UNRECORDED fails
here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client

from annotate.audit import routes
from annotate.audit.chain import verify
from annotate.models import (
    ApiToken,
    AuditEntry,
    Policy,
    User,
)
from feedback_site.embedded import APP_ROLE
from feedback_site.management.commands.app_role import grant
from rlhf.models import Round
from rlhf.registry import promotion
from tests.changes import CHANGES, Sent, member, path
from tests.rlhf.conftest import base, data_dir, labels, model_folder, prompts, publish
from tests.test_access_matrix import ROUTES, TOKEN, ask, least_role, taken_back, world

__all__ = ["base", "data_dir", "labels", "model_folder", "prompts", "publish", "world"]
CHANGING = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def everything(world, labels, publish, monkeypatch) -> SimpleNamespace:
    """The world, with labels to learn from, and models that need no time to answer."""
    monkeypatch.setattr(promotion, "warm", lambda policy: None)
    world.project.publish_guideline(text="Be **honest**.", author=None)
    world.project.memberships.update(guideline_read=2)
    world.project.memberships.filter(user__username="alice").update(guideline_read=1)
    secret = ApiToken.issue(
        project=world.project,
        user=world.cast["olga"],
        name="matrix",
        scopes=list(ApiToken.Scope.values),
    )[1]
    bearer = {"Authorization": f"Bearer {secret}"}
    world.publish = publish
    world.clients["api"] = Client(headers=bearer, raise_request_exception=False)
    return world


@contextmanager
def as_it_was(world: SimpleNamespace) -> Iterator[None]:
    """Afterwards the world is again what it was before."""
    try:
        with taken_back(world.clients.values()):
            yield
    finally:
        for person in world.cast.values():
            person.refresh_from_db()


def send(world: SimpleNamespace, name: str, sent: Sent) -> Any:
    """From a browser that is as it was afterwards, so that the same can be sent again."""
    client = world.clients[sent.by]
    cookies = {key: morsel.value for key, morsel in client.cookies.items()}
    for each in sent.data.values():
        if isinstance(each, SimpleUploadedFile):
            each.seek(0)
    more: dict[str, Any] = {} if sent.method == "DELETE" else {"data": sent.data}
    if sent.by == "api":
        more["content_type"] = "application/json"
    address = path(world, name, **sent.named)
    reply = getattr(client, sent.method.lower())(address, headers=sent.headers, **more)
    client.cookies.clear()
    client.cookies.load(cookies)
    return reply


def fingerprint(tables: Iterator[str] | list[str]) -> dict[str, str]:
    found = {}
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(
                f"SELECT md5(string_agg(line, '|' ORDER BY line))"
                f" FROM (SELECT {table}::text AS line FROM {table}) AS lines"
            )
            found[table] = cursor.fetchone()[0]
    return found


def changing_methods(world: SimpleNamespace, name: str) -> list[str]:
    client = world.clients["api" if least_role(name) == TOKEN else "olga"]
    found = []
    for method in CHANGING:
        if ask(client, method, path(world, name)) != 405:
            found.append(method)
    return found


@pytest.mark.timeout(900)
def test_whatever_changes_something_is_recorded_with_it_or_said_not_to_be(everything, subtests):
    for name, _ in ROUTES:
        with subtests.test(name), as_it_was(everything):
            is_recorded_or_said_not_to_be(name, everything)


def is_recorded_or_said_not_to_be(name: str, everything: SimpleNamespace) -> None:
    if not changing_methods(everything, name):
        assert name not in {*CHANGES, *routes.UNRECORDED}, f"nothing is changed through {name}"
        return
    if name in routes.UNRECORDED:
        assert name not in CHANGES
        return
    assert name in CHANGES, (
        f"say in CHANGES how something is changed through {name}, or in annotate/audit/routes.py "
        "why it needs no entry"
    )
    sent = CHANGES[name](everything)
    AuditEntry.objects.all().delete()

    with transaction.atomic():
        reply = send(everything, name, sent)
        assert reply.status_code in (200, 201, 204, 302), reply.content.decode()[-3000:]
        entry = AuditEntry.objects.get()
        tables = [each for each in entry.details["wrote"] if each != "django_session"]
        after = fingerprint(tables)
        verify()
        transaction.set_rollback(True)
    assert tables
    assert entry.action == name
    assert entry.request_id == reply.headers["X-Request-Id"]
    doer = {"nobody": None, "api": "olga"}.get(sent.by, sent.by)
    who = entry.actor and entry.actor.username
    assert who == doer if doer else who in ("olga", "alice")
    if "slug" in dict(ROUTES)[name] or least_role(name) == TOKEN:
        assert entry.project_id == everything.project.pk

    before = fingerprint(tables)
    assert before != after

    def fail(**_: Any) -> int:
        raise RuntimeError("no entry")

    with patch.object(AuditEntry, "append", fail):
        assert send(everything, name, sent).status_code == 500
    assert fingerprint(tables) == before


def test_each_exception_has_a_reason_and_an_address():
    names = {name for name, _ in ROUTES}
    assert set(routes.UNRECORDED) <= names
    assert names >= routes.BY_HAND
    assert all(len(reason) > 15 for reason in routes.UNRECORDED.values())
    assert not routes.BY_HAND & set(routes.UNRECORDED)


def test_what_is_said_to_need_no_entry_writes_none(everything, subtests):
    for name in sorted(routes.UNRECORDED):
        with subtests.test(name), as_it_was(everything):
            for actor in ("alice", "gus", "olga", "api"):
                everything.clients[actor].post(path(everything, name), {"text": "Hello"})
            assert not AuditEntry.objects.exists()


def test_an_entry_says_what_was_before_and_after(everything):
    send(everything, "labelers_members", CHANGES["labelers_members"](everything))
    entry = AuditEntry.objects.get()
    alice = member(everything, "alice")
    assert entry.about == f"membership:{alice.pk}"
    assert entry.details["act"] == "role"
    assert (entry.details["before"], entry.details["after"]) == (
        {"role": "labeler"},
        {"role": "reviewer"},
    )


def test_the_round_of_a_program_is_the_one_of_its_project(everything):
    """Both projects have a first round; an address of the API names no project."""
    ours = Round.objects.get(number=everything.named["number"], project=everything.project)
    mallory = everything.cast["mallory"]
    hers = mallory.memberships.get().project
    base = Policy.objects.create(project=hers, name="hers", folder="models/base")
    for number in (ours.number, ours.number + 1):
        Round.objects.create(
            project=hers, number=number, recipe="tiny", base=base, launched_by=mallory
        )
    ours.save()  # hers come first in the table
    send(everything, "api_round_cancel", Sent(by="api"))
    entry = AuditEntry.objects.get()
    assert (entry.about, entry.project_id) == (f"round:{ours.pk}", everything.project.pk)
    assert (
        send(everything, "api_round_cancel", Sent(by="api", named={"number": 2})).status_code > 400
    )
    assert AuditEntry.objects.count() == 1


def test_each_change_can_be_made_as_the_role_of_the_site(everything):
    """Which may change no history: see feedback_site.management.commands.app_role."""
    grant(APP_ROLE)
    for name, make in CHANGES.items():
        with transaction.atomic(), connection.cursor() as cursor:
            sent = make(everything)
            AuditEntry.objects.all().delete()
            cursor.execute(f"SET LOCAL ROLE {APP_ROLE}")
            reply = send(everything, name, sent)
            assert reply.status_code in (200, 201, 204, 302), (name, reply.content.decode()[-2000:])
            assert AuditEntry.objects.count() == 1, name
            transaction.set_rollback(True)


CANARY = "canary7731"


def test_no_entry_holds_a_name_a_text_or_a_secret(everything):
    """Of all changes there are; what people type in them has a word of its own."""
    User.objects.filter(username="alice").update(first_name=CANARY)
    for name, make in CHANGES.items():
        with transaction.atomic():
            sent = make(everything)
            AuditEntry.objects.all().delete()
            typed = {
                key: f"{CANARY} {value}"
                for key, value in sent.data.items()
                if isinstance(value, str) and key in TYPED and (name, key) != CHOSEN
            }
            sent.data |= typed
            send(everything, name, sent)
            said = [str(row) for row in AuditEntry.objects.values_list()]
            assert said, name
            assert not any(CANARY in each for each in said), name
            assert not any(secret in each for each in said for secret in ("olga", "alice", "eggs"))
            transaction.set_rollback(True)


CHOSEN = ("api_skip", "reason")  # of a list, not typed
TYPED = {
    *("name", "text", "reason", "note", "answer", "first_name", "last_name", "why", "override"),
    *("prompts", "lines", "goal", "token-name"),
}
