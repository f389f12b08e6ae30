"""Signing in by password and by one-time link, and the first page."""

import io
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.conf import settings
from django.db import connections
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from django.utils.log import log_response
from django.utils.module_loading import import_string

from annotate.models import Membership, Project, User
from annotate.people.sign_in import login_link

PASSWORD = "a good long passphrase"


@pytest.fixture(autouse=True)
def cheap_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice(alice):
    alice.set_password(PASSWORD)
    alice.save()
    return alice


def path(link):
    return link.removeprefix(settings.SITE_URL)


def test_a_password_signs_in(client, alice):
    reply = client.post("/sign-in/", {"username": "alice", "password": PASSWORD})
    assert reply.headers["Location"] == "/"
    assert client.get("/").headers["Location"] == "/p/cooking/"


def test_a_wrong_password_says_so(client, alice):
    reply = client.post("/sign-in/", {"username": "alice", "password": "wrong"})
    assert "Please enter a correct username and password" in reply.content.decode()


def test_ten_wrong_passwords_close_the_door_for_this_name(client, alice, bob):
    bob.set_password(PASSWORD)
    bob.save()
    for _ in range(10):
        reply = client.post("/sign-in/", {"username": "alice", "password": "wrong"})
    assert "Too many wrong passwords" in reply.content.decode()
    reply = client.post("/sign-in/", {"username": "alice", "password": PASSWORD})
    assert reply.status_code == 429
    assert client.post("/sign-in/", {"username": "bob", "password": PASSWORD}).status_code == 302


def test_the_sign_in_page_names_the_other_way(client, db):
    assert "one-time sign-in link" in client.get("/sign-in/").content.decode()


def test_one_comes_to_the_page_one_wanted(client, alice):
    wanted = client.get("/p/cooking/my-work/").headers["Location"]
    assert wanted == "/sign-in/?next=/p/cooking/my-work/"
    form = {"username": "alice", "password": PASSWORD, "next": "/p/cooking/my-work/"}
    assert client.post(wanted, form).headers["Location"] == "/p/cooking/my-work/"


def test_nobody_is_sent_to_another_site(client, alice):
    form = {"username": "alice", "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post("/sign-in/", form).headers["Location"] == "/"


def test_a_link_is_used_by_its_button_and_only_once(client, alice):
    link = path(login_link(alice))
    assert "Sign in as alice" in client.get(link).content.decode()
    assert "_auth_user_id" not in client.session
    client.post(link)
    assert client.session["_auth_user_id"] == str(alice.pk)
    client.logout()
    reply = client.post(link)
    assert reply.status_code == 410
    assert "no longer works" in reply.content.decode()


@pytest.mark.parametrize("spoil", ["x", "/x/", "", "é"])
def test_a_spoilt_link_is_no_link(client, alice, spoil):
    uid, token = path(login_link(alice)).strip("/").split("/")[1:]
    for link in (f"/sign-in/{uid}{spoil}/{token}x/", f"/sign-in/{spoil}{token}/{uid}/"):
        assert client.get(link).status_code in (404, 410)


def test_a_link_of_somebody_who_left_is_no_link(client, alice):
    link = path(login_link(alice))
    alice.is_active = False
    alice.save()
    assert client.post(link).status_code == 410


def test_home_lists_the_projects_of_a_person_with_several(browse, alice):
    second = Project.objects.create(name="Gardening", slug="gardening")
    second.memberships.create(user=alice, role=Membership.Role.REVIEWER)
    html = browse(alice).get("/").content.decode()
    assert "Cooking" in html and "Gardening" in html and "Your role: reviewer" in html


def test_home_tells_a_stranger_what_to_do(browse, alice, project):
    project.memberships.all().delete()
    assert "No projects yet" in browse(alice).get("/").content.decode()


def test_signing_out_needs_a_post(browse, alice):
    client = browse(alice)
    assert client.get("/sign-out/").status_code == 405
    client.post("/sign-out/")
    assert client.get("/").status_code == 302


@pytest.mark.django_db(transaction=True)
def test_of_sixteen_who_use_a_link_at_once_one_is_let_in(alice):
    gate = Barrier(16)

    def use(_: int) -> int:
        try:
            gate.wait()
            return Client().post(link).status_code
        finally:
            connections.close_all()

    for _ in range(3):
        link = path(login_link(User.objects.get(pk=alice.pk)))
        with ThreadPoolExecutor(16) as people:
            answers = Counter(people.map(use, range(16)))
        assert answers == {302: 1, 410: 15}


def test_a_link_made_within_the_second_of_a_sign_in_works_once_too(client, alice):
    at = timezone.now().replace(microsecond=1)
    User.objects.filter(pk=alice.pk).update(last_login=at)
    alice.refresh_from_db()
    link = path(login_link(alice))
    User.objects.filter(pk=alice.pk).update(last_login=at.replace(microsecond=900_000))  # used
    assert client.post(link).status_code == 410


@pytest.mark.parametrize("status", [403, 410, 429, 500])
def test_no_link_gets_into_the_log(alice, status):
    """Whatever is wrong with a request, Django notes its address."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(
        import_string(settings.LOGGING["formatters"]["chosen"]["()"])("%(message)s")
    )
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    link = path(login_link(alice))
    try:
        for address in (link, "/invitations/a-long-secret/"):
            request, response = RequestFactory().get(address), HttpResponse(status=status)
            log_response("%s: %s", "Refused", address, response=response, request=request)
        try:
            raise ValueError(f"cannot resolve {link}")
        except ValueError:
            logger.exception("at %s", link)
    finally:
        logger.removeHandler(handler)
    assert said.getvalue().count("/sign-in/…") == 3
    assert "/invitations/…" in said.getvalue()
    assert link.split("/")[3] not in said.getvalue()
    assert "a-long-secret" not in said.getvalue()
