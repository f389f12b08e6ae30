"""Who may touch which page of work. What is not yours answers like what is not there."""

import uuid

import pytest

from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration, Membership

ROOMS = ("/p/cooking/", "/p/cooking/label/", "/p/cooking/my-work/")
ACTS = (("get", ""), ("post", ""), ("post", "draft/"), ("post", "skip/"), ("post", "undo/"))
FORM = {"text": "Mine now", "skip-reason": "other"}


@pytest.fixture
def work(project, alice, write_task):
    write_task()
    return next_assignment(alice, project)


def form():
    return FORM | {"idempotency_key": str(uuid.uuid4())}


@pytest.mark.parametrize("room", ROOMS)
def test_a_stranger_finds_no_project(browse, project, mallory, room):
    assert browse(mallory).get(room).status_code == 404
    missing = room.replace("cooking", "nowhere")
    assert browse(mallory).get(missing).status_code == 404


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_gets_in_unsigned(client, project, room):
    assert client.get(room).headers["Location"].startswith("/sign-in/")


@pytest.mark.parametrize("room", ROOMS[1:])
def test_a_guest_is_refused(browse, gus, room):
    assert browse(gus).get(room).status_code == 403


@pytest.mark.parametrize("room", ROOMS)
def test_a_paused_member_finds_no_project(browse, project, alice, room):
    project.memberships.update(state=Membership.State.PAUSED)
    assert browse(alice).get(room).status_code == 404


@pytest.mark.parametrize(("method", "act"), ACTS)
@pytest.mark.parametrize("actor", ["bob", "rita", "olga", "mallory"])
def test_the_work_of_another_is_not_there(browse, request, work, actor, method, act):
    client = browse(request.getfixturevalue(actor))
    reply = getattr(client, method)(f"/p/cooking/label/{work.pk}/{act}", form())
    assert reply.status_code == 404
    missing = getattr(client, method)(f"/p/cooking/label/{work.pk + 999}/{act}", form())
    assert missing.status_code == 404
    work.refresh_from_db()
    assert (work.state, work.draft, Demonstration.objects.count()) == ("leased", {}, 0)


@pytest.mark.parametrize(("method", "act"), ACTS)
def test_a_guest_may_touch_no_work(browse, gus, work, method, act):
    reply = getattr(browse(gus), method)(f"/p/cooking/label/{work.pk}/{act}", form())
    assert reply.status_code == 403


def test_own_work_is_not_found_through_another_project(browse, alice, work, mallory):
    elsewhere = mallory.memberships.get().project
    elsewhere.memberships.create(user=alice, role=Membership.Role.OPERATOR)
    assert browse(alice).get(f"/p/elsewhere/label/{work.pk}/").status_code == 404


@pytest.mark.parametrize("act", ["draft/", "skip/", "undo/"])
def test_acts_are_posts(browse, alice, work, act):
    assert browse(alice).get(f"/p/cooking/label/{work.pk}/{act}").status_code == 405


def test_a_forged_form_is_refused(alice, work):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post(f"/p/cooking/label/{work.pk}/", form()).status_code == 403
    assert not Demonstration.objects.exists()


def test_no_page_of_work_has_inline_script_or_style(browse, alice, project, rank_task, work):
    import re

    rank_task(k=3)
    client = browse(alice)
    pages = [*ROOMS, f"/p/cooking/label/{work.pk}/"]
    work.skip(reason="other")
    pages.append(f"/p/cooking/label/{next_assignment(alice, project).pk}/")
    for page in pages:
        reply = client.get(page, follow=True)
        html = reply.content.decode()
        assert not re.search(r"<script(?![^>]* src=)", html), page
        assert not re.search(r"<[^>]+\s(style|on\w+|hx-on[\w:-]*)=", html), page
        assert "<style" not in html and "javascript:" not in html
        policy = reply.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
