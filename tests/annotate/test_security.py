"""One's own security page: sessions and history, what is asked again first, and that no operator
gets into an account by any way."""

import re

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from annotate import jobs
from annotate.accounts import addresses, confirming, second_factor
from annotate.models import ApiToken, AuditEntry, Invitation, SignIn, SignInLink, User
from annotate.people.sign_in import login_link

PASSWORD = "a good long passphrase"
SECURITY = "/account/security/"
MEMBERS = "/p/cooking/labelers/members/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def alice(alice):
    alice.set_password(PASSWORD)
    alice.save()
    return alice


def signed_in(person, **headers):
    client = Client(headers=headers)
    person.set_password(PASSWORD)
    person.save()
    client.post("/sign-in/", {"username": person.username, "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(person.pk)
    return client


def is_in(client):
    return client.get("/account/").status_code == 200


def enter(alice, **headers):
    client = Client(headers=headers)
    client.post("/sign-in/", {"username": "alice", "password": PASSWORD})
    return client


def test_each_browser_is_listed_and_one_can_be_signed_out(alice):
    here, there, third = enter(alice), enter(alice, **{"user-agent": FIREFOX}), enter(alice)
    page = here.get(SECURITY).content.decode()
    assert "Firefox on Linux" in page and page.count("this browser") == 1
    number = SignIn.objects.get(browser=FIREFOX).pk
    here.post(SECURITY, {"act": "end", "session": number})
    assert [is_in(each) for each in (here, there, third)] == [True, False, True]
    assert SignIn.objects.get(pk=number).ended_at
    assert "Firefox on Linux" in here.get(SECURITY).content.decode(), "it stays in the history"


def test_all_other_browsers_are_signed_out_also_those_of_before(alice, browse):
    here, there, unknown = enter(alice), enter(alice), browse(alice)
    here.post(SECURITY, {"act": "end_others"})
    assert [is_in(each) for each in (here, there, unknown)] == [True, False, False]
    assert here.get(SECURITY).content.decode().count("this browser") == 1
    here.post(SECURITY, {"act": "end_others"})
    assert is_in(here)


def test_nobody_signs_the_browser_of_somebody_else_out(alice, bob, browse):
    hers = enter(alice)
    browse(bob).post(SECURITY, {"act": "end", "session": SignIn.objects.get().pk})
    assert is_in(hers)
    assert "alice" not in browse(bob).get(SECURITY).content.decode()


def test_a_new_password_signs_the_others_out(alice):
    here, there = enter(alice), enter(alice)
    new = {"new_password1": "quince-jelly-77", "new_password2": "quince-jelly-77"}
    wrong = {"act": "password", "old_password": "wrong", **new}
    assert here.post(SECURITY, wrong).status_code == 422
    here.post(SECURITY, {"act": "password", "old_password": PASSWORD, **new})
    assert [is_in(here), is_in(there)] == [True, False]
    assert AuditEntry.objects.filter(action="security", actor=alice).count() == 1


@pytest.mark.parametrize("password", ["alice-12", "password1", "12345678", "short", "Wonderland1"])
def test_a_password_like_the_name_or_in_common_lists_is_refused(browse, bob, password):
    User.objects.filter(pk=bob.pk).update(username="alice-1", last_name="wonderland")
    form = {"act": "first_password", "new_password1": password, "new_password2": password}
    assert browse(bob).post(SECURITY, form).status_code == 422
    bob.refresh_from_db()
    assert not bob.has_usable_password()


def grow_old(client):
    session = client.session
    session["proved_at"] = timezone.now().timestamp() - 16 * 60
    session.save()


TOKEN = {"act": "token", "token-name": "cron", "token-scopes": ["read"]}


@pytest.fixture
def olga_here(olga):
    return signed_in(olga)


def test_what_is_sent_waits_for_the_password_and_is_done_then(olga_here, olga):
    grow_old(olga_here)
    page = olga_here.post("/p/cooking/programs/", TOKEN)
    assert page.status_code == 403 and not ApiToken.objects.exists()
    fields = dict(re.findall(r'name="([\w-]+)" value="([^"]*)"', page.content.decode()))
    assert fields["token-name"] == "cron" and fields["act"] == "token"
    wrong = olga_here.post("/p/cooking/programs/", {**TOKEN, "confirm_password": "wrong"})
    assert wrong.status_code == 403 and not ApiToken.objects.exists()
    olga_here.post("/p/cooking/programs/", {**TOKEN, "confirm_password": PASSWORD})
    assert ApiToken.objects.count() == 1
    olga_here.post("/p/cooking/programs/", TOKEN)
    assert ApiToken.objects.count() == 2, "it is not asked again for a while"


def test_a_recent_sign_in_is_not_asked_again(olga_here):
    olga_here.post("/p/cooking/programs/", TOKEN)
    assert ApiToken.objects.count() == 1


def test_with_a_second_factor_the_password_alone_does_not_confirm(olga_here, olga):
    second_factor.totp.TOTP.activate(olga, second_factor.totp.generate_totp_secret())
    code = second_factor.new_codes(olga)[0]
    grow_old(olga_here)
    olga_here.post("/p/cooking/programs/", {**TOKEN, "confirm_password": PASSWORD})
    assert not ApiToken.objects.exists()
    olga_here.post("/p/cooking/programs/", {**TOKEN, "confirm_code": code})
    assert ApiToken.objects.count() == 1


def test_each_sensitive_address_asks_again(olga_here, olga, project, alice):
    """Of all that are named, none does anything before."""
    names = {name for name in get_resolver().reverse_dict if isinstance(name, str)}
    assert set(confirming.SENSITIVE) <= names
    grow_old(olga_here)
    connection = {"name": "Bakery", "base_url": "https://bakery.invalid/v1", "parallel": 2}
    member = project.memberships.get(user=alice)
    requests = [
        *((SECURITY, {"act": act}) for act in sorted(confirming.SENSITIVE["security"])),
        ("/account/security/app/", {"code": "1"}),
        ("/account/security/key/", {"key": "{}"}),
        ("/account/", {"act": "erase", "erase_name": "olga"}),
        (MEMBERS, {"act": "link", "member": member.pk}),
        ("/p/cooking/programs/", TOKEN),
        ("/p/cooking/connections/new/", connection),
    ]
    for address, sent in requests:
        asked = olga_here.post(address, sent)
        assert "Confirm it's you" in asked.content.decode(), (address, sent)
    assert not AuditEntry.objects.exclude(action="sign_in").exists()


def test_guessing_the_password_again_and_again_is_limited(olga_here):
    grow_old(olga_here)
    sent = {**TOKEN, "confirm_password": "wrong"}
    replies = [olga_here.post("/p/cooking/programs/", sent).status_code for _ in range(11)]
    assert replies == [403] * 10 + [429]


def with_password(person):
    person.set_password(PASSWORD)
    person.save()


def with_address(person):
    addresses.verify(person, "vic@example.org")


def with_app(person):
    second_factor.totp.TOTP.activate(person, second_factor.totp.generate_totp_secret())


def with_provider(person):
    SocialAccount.objects.create(user=person, provider="https://id.example", uid="v")


KINDS = [with_password, with_address, with_app, with_provider]


def operator_link(at, victim, project):
    member = project.memberships.get(user=victim)
    return at.post(MEMBERS, {"act": "link", "member": member.pk}).context["invited"][0].link


def invitation_to_own_mailbox(at, victim, project):
    """By the victim's name, to an address of the operator's."""
    project.memberships.filter(user=victim).delete()
    names = f"{victim.username} mallory@evil.example"
    at.post(MEMBERS, {"act": "invite", "names": names, "role": "labeler"})
    jobs.look()
    link = re.search(r"http://\S+", mail.outbox[-1].body)[0]
    form = {"username": victim.username, "password": "quince-jelly-7"}
    reply = Client().post(link[link.index("/", 8) :], form)
    assert reply.status_code == 422, "the name is taken"
    return None


def mail_to_own_mailbox(at, victim, project):
    """The operator adds an address of their own to the account, as far as a form can."""
    EmailAddress.objects.create(user=victim, email="mallory@evil.example", verified=False)
    for act in ("link", "reset"):
        Client().post("/sign-in/by-mail/", {"address": "mallory@evil.example", "act": act})
    mail.outbox.clear()
    jobs.look()
    return mail.outbox or None


@pytest.mark.parametrize("way", [operator_link, invitation_to_own_mailbox, mail_to_own_mailbox])
@pytest.mark.parametrize("kind", KINDS)
def test_no_operator_gets_into_an_account_that_has_a_way_of_its_own(
    browse, olga, alice, project, settings, kind, way
):
    settings.MAIL_IS_SET_UP = True
    victim = User.objects.create_user("vic")
    project.memberships.create(user=victim, role="labeler")
    kind(victim)
    assert not way(browse(olga), victim, project)
    assert not SignInLink.objects.exists()
    assert not SignIn.objects.filter(user=victim).exists()


def test_an_account_that_has_none_gets_a_link_which_its_owner_sees(browse, olga, project):
    victim = User.objects.create_user("vic")
    project.memberships.create(user=victim, role="labeler")
    assert operator_link(browse(olga), victim, project)
    assert "by olga, Cooking" in browse(victim).get(SECURITY).content.decode()


def test_an_accepted_invitation_connects_no_address_of_somebody_else(alice, olga, project):
    """Whoever accepts with an account they have keeps the address they have."""
    assert Invitation.issue(project=project, name="x", role="labeler", by=olga)
    addresses.verify(alice, "alice@example.org")
    addresses.verify_if_free(User.objects.create_user("new"), "alice@example.org")
    assert addresses.person_at("alice@example.org") == alice


def test_a_link_made_by_whoever_runs_the_site_asks_for_the_second_factor_too(client, alice):
    with_app(alice)
    link = login_link(alice)
    assert client.post(link[link.index("/", 8) :]).url == "/sign-in/second-factor/"
