"""Signing in by an identity provider, which is served over HTTP here."""

import re
from urllib.parse import urlsplit

import jwt
import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from annotate.accounts import addresses, second_factor
from annotate.models import AuditEntry, SignIn, User
from tests.identity_provider import CLIENT, Provider

ADDRESS = "alice@example.org"


@pytest.fixture(scope="module")
def served():
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(served, settings):
    settings.OIDC_ISSUER, settings.OIDC_NAME = served.issuer, "Kitchen ID"
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT
    served.claims = {"sub": "s-1"}
    served.signs_with, served.algorithm = served.key, "RS256"
    return served


def come(client, provider, begin="/sign-in/provider/"):
    back = provider.let_in(client.get(begin).headers["Location"])
    return client.get(path(back))


def path(address):
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"


def who(client):
    return client.session.get("_auth_user_id")


@pytest.fixture
def bound(alice, provider):
    SocialAccount.objects.create(user=alice, provider=provider.issuer, uid="s-1")
    return alice


def test_a_connected_account_signs_in_and_comes_where_it_wanted(client, bound, provider):
    assert "Sign in with Kitchen ID" in client.get("/sign-in/").content.decode()
    reply = come(client, provider, "/sign-in/provider/?next=/p/cooking/my-work/")
    assert reply.headers["Location"] == "/p/cooking/my-work/"
    assert who(client) == str(bound.pk)
    assert SignIn.objects.get().way == "provider"
    assert AuditEntry.objects.filter(action="provider_answer", actor=bound).count() == 1


def test_nobody_is_sent_to_another_site(client, bound, provider):
    reply = come(client, provider, "/sign-in/provider/?next=https://evil.example/")
    assert reply.headers["Location"] == "/"


@pytest.mark.parametrize(
    ("claims", "is_let_in"),
    [
        ({"email": ADDRESS, "email_verified": True}, True),
        ({"email": "Alice@Example.org", "email_verified": True}, True),
        ({"email": ADDRESS, "email_verified": False}, False),
        ({"email": ADDRESS, "email_verified": "false"}, False),
        ({"email": ADDRESS, "email_verified": "true"}, False),
        ({"email": ADDRESS}, False),
        ({"email": "bob@example.org", "email_verified": True}, False),
        ({"preferred_username": "alice"}, False),
        ({}, False),
    ],
)
def test_an_account_is_known_by_a_verified_address_alone(
    client, alice, bob, provider, claims, is_let_in
):
    addresses.verify(alice, ADDRESS)
    EmailAddress.objects.create(user=bob, email="bob@example.org", verified=False)
    provider.claims |= claims
    reply = come(client, provider)
    assert (who(client) == str(alice.pk)) is is_let_in
    assert SocialAccount.objects.exists() is is_let_in
    if not is_let_in:
        assert who(client) is None and reply.status_code == 403
        assert "No account here is connected" in reply.content.decode()


def test_new_accounts_are_made_where_the_settings_say_so(client, alice, provider, settings):
    settings.OIDC_CREATE_ACCOUNTS = True
    provider.claims |= {"preferred_username": "alice", "email": "a2@example.org"}
    provider.claims |= {"email_verified": True, "given_name": "Alice", "family_name": "Two"}
    assert come(client, provider).headers["Location"] == "/"
    made = User.objects.get(pk=who(client))
    assert made != alice and re.fullmatch(r"alice-\w{8}", made.username)
    assert not made.has_usable_password() and addresses.address_of(made) == "a2@example.org"
    other = Client()
    come(other, provider)
    assert who(other) == str(made.pk), "the same subject is the same account"


@pytest.mark.parametrize("name", ["", "  ", "<b>é x</b>", "a" * 300, "erased-7", "cooking:alice"])
def test_any_name_that_a_provider_has_makes_a_valid_one(client, provider, settings, db, name):
    settings.OIDC_CREATE_ACCOUNTS = True
    provider.claims |= {"preferred_username": name}
    come(client, provider)
    User.objects.get(pk=who(client)).full_clean(exclude=["password"])


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another-site"},
        {"aud": [CLIENT[0], "another-site"], "azp": "another-site"},
        {"nonce": "of another sign-in"},
        {"exp": 1},
        {"iat": 4_000_000_000},
        {"sub": None},
    ],
    ids=str,
)
def test_what_is_not_said_for_this_sign_in_lets_nobody_in(client, bound, provider, claims):
    provider.claims |= claims
    assert come(client, provider).status_code == 403
    assert who(client) is None


def test_a_strange_signature_lets_nobody_in(client, bound, provider):
    provider.signs_with = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert come(client, provider).status_code == 403
    # The public key as the secret of an HMAC, and no signature at all.
    for key, algorithm in (("x" * 64, "HS256"), (None, "none")):
        provider.signs_with, provider.algorithm = key, algorithm
        assert come(client, provider).status_code == 403
    assert who(client) is None
    assert jwt.get_unverified_header(jwt.encode({}, None, "none"))["alg"] == "none"


def test_an_answer_is_taken_once_and_in_the_browser_that_asked(client, bound, provider):
    back = path(provider.let_in(client.get("/sign-in/provider/").headers["Location"]))
    assert Client().get(back).status_code == 403
    assert client.get(back.replace("state=", "state=x")).status_code == 403
    assert client.get(back).status_code == 403, "a wrong state ends it"
    assert who(client) is None
    back = path(provider.let_in(client.get("/sign-in/provider/").headers["Location"]))
    assert client.get(back).status_code == 302
    client.logout()
    assert client.get(back).status_code == 403


def test_what_the_provider_refuses_is_said(client, bound, provider):
    client.get("/sign-in/provider/")
    state = client.session["provider"]["state"]
    reply = client.get(f"/sign-in/provider-answer/?error=access_denied&state={state}")
    assert reply.status_code == 403 and "did not let you in" in reply.content.decode()


def test_a_provider_that_is_down_is_said_to_be(client, settings, db):
    settings.OIDC_ISSUER = "http://127.0.0.1:9"
    reply = client.get("/sign-in/provider/")
    assert reply.status_code == 403 and "cannot be reached" in reply.content.decode()


def test_the_second_factor_is_asked_for_all_the_same(client, bound, provider):
    second_factor.totp.TOTP.activate(bound, second_factor.totp.generate_totp_secret())
    assert come(client, provider).headers["Location"] == "/sign-in/second-factor/"
    assert who(client) is None


def test_one_connects_an_account_by_a_form_and_only_one_s_own(browse, alice, bob, provider):
    client = browse(alice)
    page = client.post("/account/security/", {"act": "connect"}).content.decode()
    where = re.search(r'href="(http://127[^"]+)"', page)[1].replace("&amp;", "&")
    client.get(path(provider.let_in(where)))
    assert SocialAccount.objects.get(uid="s-1").user == alice
    other = browse(bob)
    page = other.post("/account/security/", {"act": "connect"}).content.decode()
    where = re.search(r'href="(http://127[^"]+)"', page)[1].replace("&amp;", "&")
    reply = other.get(path(provider.let_in(where)))
    assert reply.status_code == 403 and "another account here" in reply.content.decode()
    client.post("/account/security/", {"act": "disconnect"})
    assert not SocialAccount.objects.exists()


def test_a_browser_that_begins_to_sign_in_connects_nothing(browse, alice, provider):
    """A page elsewhere can begin a sign-in here; it gives no way into this account."""
    client = browse(alice)
    come(client, provider)
    assert not SocialAccount.objects.exists()


def test_without_a_provider_there_is_none(client, db):
    assert client.get("/sign-in/provider/").headers["Location"] == "/sign-in/"
    assert client.get("/sign-in/provider-answer/?code=x").headers["Location"] == "/sign-in/"
