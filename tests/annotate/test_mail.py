"""Addresses, and what is sent to them: links to sign in, for a new password, and invitations."""

import re
import smtplib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings as django_settings
from django.core import mail
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate import jobs
from annotate.accounts import addresses, sending
from annotate.accounts.mail_tokens import MailTokens
from annotate.models import AuditEntry, Invitation, Mail, SignIn, User

MEMBERS = "/p/cooking/labelers/members/"
PASSWORD = "a good long passphrase"
ADDRESS = "alice@example.org"


@pytest.fixture(autouse=True)
def mail_is_set_up(settings):
    settings.MAIL_IS_SET_UP = True


@pytest.fixture
def alice(alice):
    alice.set_password(PASSWORD)
    alice.save()
    addresses.verify(alice, ADDRESS)
    return alice


def sent():
    """What the worker sends now."""
    mail.outbox.clear()
    jobs.look()
    return list(mail.outbox)


def link_in(message):
    return re.search(r"http://\S+", message.body)[0].removeprefix(django_settings.SITE_URL)


def ask(client, address=ADDRESS, act="link"):
    return client.post("/sign-in/by-mail/", {"address": address, "act": act})


def link_for_alice(act="link"):
    ask(Client(), act=act)
    (message,) = sent()
    assert message.to == [ADDRESS]
    return link_in(message)


def test_a_link_by_mail_signs_in_once(client, alice):
    link = link_for_alice()
    assert "Sign in as alice" in client.get(link).content.decode()
    assert client.post(link).url == "/"
    assert client.session["_auth_user_id"] == str(alice.pk)
    assert SignIn.objects.get().way == "mail"
    assert Client().post(link).status_code == 410
    assert not Mail.objects.exists(), "nothing is kept of it"


def test_the_page_answers_the_same_whether_there_is_an_account_or_not(alice):
    replies, queries = [], []
    for address in (ADDRESS, "nobody@example.org"):
        client = Client()
        with CaptureQueriesContext(connection) as asked:
            reply = ask(client, address)
        queries.append([re.sub(r"'[^']*'|\d+", "…", each["sql"]) for each in asked])
        text = re.sub(r'csrf[^>]*|value="[^"]*"', "", client.get(reply.url).content.decode())
        replies.append((reply.status_code, reply.url, text))
    assert replies[0] == replies[1]
    assert queries[0] == queries[1], "the same is asked of the database: it takes as long"
    assert [each.to for each in sent()] == [[ADDRESS]]
    assert not Mail.objects.exists()


@pytest.mark.parametrize(
    "address", ["", "no-address", "a b@example.org", "x" * 300 + "@example.org"]
)
def test_what_is_no_address_is_said_to_be_none(client, db, address):
    assert ask(client, address).status_code == 422
    assert not Mail.objects.exists()


def test_only_a_verified_address_of_an_account_in_use_counts(client, alice, bob):
    EmailAddress.objects.create(user=bob, email="bob@example.org", verified=False)
    ask(client, "bob@example.org")
    assert not sent()
    User.objects.filter(pk=alice.pk).update(is_active=False)
    ask(client)
    assert not sent()


def test_a_link_dies_with_its_time_its_address_and_any_sign_in(client, alice, monkeypatch):
    link = link_for_alice()
    monkeypatch.setattr(
        MailTokens, "_num_seconds", lambda self, at: plain(self, at) + 901, raising=False
    )
    assert client.post(link).status_code == 410
    monkeypatch.undo()
    link = link_for_alice()
    addresses.verify(alice, "other@example.org")
    assert client.post(link).status_code == 410
    addresses.verify(alice, ADDRESS)
    link = link_for_alice()
    client.post("/sign-in/", {"username": "alice", "password": PASSWORD})
    assert Client().post(link).status_code == 410


plain = MailTokens._num_seconds


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["link", "reset"])
def test_of_sixteen_who_use_a_link_at_once_one_is_let_in(alice, act):
    link, gate = link_for_alice(act), Barrier(16)

    def use(number):
        try:
            gate.wait()
            password = f"quince jelly {number}"
            form = {"new_password1": password, "new_password2": password} if act == "reset" else {}
            return Client().post(link, form).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as people:
        answers = sorted(people.map(use, range(16)))
    assert answers == [302, *[410] * 15]


def test_a_reset_sets_a_password_once_and_signs_nobody_in(client, alice):
    elsewhere = Client()
    elsewhere.post("/sign-in/", {"username": "alice", "password": PASSWORD})
    link = link_for_alice("reset")
    form = {"new_password1": "quince-jelly-77", "new_password2": "quince-jelly-77"}
    weak = {"new_password1": "alice-12", "new_password2": "alice-12"}
    assert client.post(link, weak).status_code == 422, "too like the name"
    assert client.post(link, form).url == "/sign-in/"
    assert "_auth_user_id" not in client.session
    assert client.post(link, form).status_code == 410
    assert elsewhere.get("/").status_code == 302, "all other browsers are signed out"
    alice.refresh_from_db()
    assert alice.check_password("quince-jelly-77")
    assert AuditEntry.objects.filter(action="password_reset", actor=alice).count() == 1
    assert "new password was set" in sent()[0].body


def test_an_address_counts_once_its_own_account_has_opened_the_link(browse, bob, alice):
    client = browse(bob)
    client.post("/account/security/", {"act": "address", "address": "Bob@Example.org"})
    assert addresses.address_of(bob) == ""
    link = link_in(sent()[0])
    assert browse(alice).post(link).status_code == 410, "another account cannot open it"
    assert Client().post(link).status_code == 401
    assert client.get(link).status_code == 200 and addresses.address_of(bob) == ""
    client.post(link)
    assert addresses.address_of(bob) == "bob@example.org"
    assert client.post(link).status_code == 410
    client.post("/account/security/", {"act": "address", "address": "new@example.org"})
    assert addresses.address_of(bob) == "bob@example.org", "the old one counts till then"
    client.post(link_in(sent()[0]))
    assert addresses.address_of(bob) == "new@example.org"
    told = sent()[0]
    assert told.to == ["bob@example.org"] and "new@example.org" in told.body


def test_an_address_is_of_one_account(browse, bob, alice):
    client = browse(bob)
    client.post("/account/security/", {"act": "address", "address": ADDRESS})
    reply = client.post(link_in(sent()[0]), follow=True)
    assert "Another account has this address" in reply.content.decode()
    assert addresses.person_at(ADDRESS) == alice


def test_a_mail_that_cannot_be_sent_is_tried_again_and_then_given_up(browse, olga, monkeypatch):
    at = browse(olga)

    def refuse(self, **kwargs):
        raise OSError("Connection refused")

    monkeypatch.setattr("annotate.accounts.sending.EmailMessage.send", refuse)
    at.post(MEMBERS, {"act": "invite", "names": "nora nora@example.org", "role": "labeler"})
    jobs.look()
    assert "could not be sent yet" in at.get(MEMBERS).content.decode()
    for _ in sending.PAUSES:
        Mail.objects.update(next_at=timezone.now() - timedelta(seconds=1))
        jobs.look()
    page = at.get(MEMBERS).content.decode()
    assert "could not be sent" in page and "Connection refused" in page
    assert Mail.objects.get().sealed_link == "" and not Mail.objects.pending().exists()


def test_an_address_that_the_server_refuses_is_not_tried_again(browse, olga, monkeypatch):
    def refuse(self, **kwargs):
        raise smtplib.SMTPRecipientsRefused({"x": (550, b"No such user")})

    monkeypatch.setattr("annotate.accounts.sending.EmailMessage.send", refuse)
    at = browse(olga)
    at.post(MEMBERS, {"act": "invite", "names": "nora nora@example.org", "role": "labeler"})
    jobs.look()
    assert "No such user" in at.get(MEMBERS).content.decode()
    assert Mail.objects.get().given_up_at


def test_an_invitation_by_mail_is_shown_to_nobody_and_verifies_the_address(browse, olga, project):
    at = browse(olga)
    names = "nora Nora@Example.org\nnils"
    page = at.post(MEMBERS, {"act": "invite", "names": names, "role": "labeler"})
    links = {each.name: each.link for each in page.context["invited"]}
    assert links["nora"] is None and links["nils"]
    (message,) = sent()
    assert message.to == ["nora@example.org"] and "Cooking" in message.subject
    client = Client()
    form = {"username": "nora", "password": "quince-jelly-7"}
    assert client.post(link_in(message), form).url == "/p/cooking/"
    nora = User.objects.get(username="nora")
    assert addresses.address_of(nora) == nora.email == "nora@example.org"
    assert Invitation.objects.get(name="nora").accepted_by == nora
    like = Client().post(links["nils"], {"username": "nils", "password": "quince-jelly-7"})
    assert like.status_code == 302 and addresses.address_of(User.objects.get(username="nils")) == ""


def test_without_a_mail_server_nothing_is_offered(browse, olga, client, settings):
    settings.MAIL_IS_SET_UP = False
    assert "Send me" not in client.get("/sign-in/").content.decode()
    assert client.get("/sign-in/by-mail/").url == ask(client).url == "/sign-in/"
    assert not Mail.objects.exists()
    reply = browse(olga).post(
        MEMBERS, {"act": "invite", "names": "nora nora@example.org", "role": "labeler"}
    )
    assert reply.status_code == 422


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_a_mail_is_sent(alice, monkeypatch):
    held = []
    monkeypatch.setattr(
        "annotate.accounts.sending.EmailMessage.send",
        lambda self, **kwargs: held.append(connection.connection is not None),
    )
    ask(Client())
    jobs.look()
    assert held == [False]


def test_no_link_is_in_the_log(alice, caplog):
    with caplog.at_level("DEBUG"):
        link = link_for_alice()
    assert link.split("/")[3] not in caplog.text
