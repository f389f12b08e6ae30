"""Signing in by an identity provider: OpenID Connect's code flow (OpenID Connect Core 1.0) with
PKCE (RFC 7636), the signature of the ID token checked against the provider's published keys."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from annotate.accounts.addresses import person_at, verify_if_free
from annotate.people.models import User
from feedback_site.pool import release_connections

ASKED = "provider"  # in the session: what the provider was asked, and by whom
WAITS = 600  # seconds
TIMEOUT = httpx.Timeout(10.0, connect=3.0)
KNOWN_FOR = 3600  # seconds, of the provider's addresses
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
LEEWAY = 30  # seconds by which clocks may differ


class CannotSignIn(Exception):
    """The sentence says what to do."""


@dataclass(frozen=True)
class Answer:
    """Whom the provider says it is, and what was asked of it."""

    claims: dict[str, Any]
    to: str
    connects: int | None  # the account that asked to be connected, by its id


def is_set_up() -> bool:
    return bool(settings.OIDC_ISSUER)


def begin(request: HttpRequest, *, to: str, connects: int | None = None) -> str:
    """The provider's address to go to. What comes back is taken once, in this browser."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    request.session[ASKED] = {
        "state": state,
        "nonce": nonce,
        "verifier": verifier,
        "to": to,
        "connects": connects,
        "since": timezone.now().timestamp(),
    }
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    query = {
        "response_type": "code",
        "client_id": settings.OIDC_CLIENT_ID,
        "redirect_uri": _own_address(),
        "scope": "openid email profile",
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge.rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    where = _provider()["authorization_endpoint"]
    return f"{where}{'&' if '?' in where else '?'}{urlencode(query)}"


def heard(request: HttpRequest) -> Answer:
    """Reads the provider's answer. Raises CannotSignIn."""
    asked = request.session.pop(ASKED, None)
    state = request.GET.get("state", "")
    if not asked or not secrets.compare_digest(asked["state"].encode(), state.encode()):
        raise CannotSignIn("This sign-in was not begun in this browser. Begin again.")
    if timezone.now().timestamp() - asked["since"] > WAITS:
        raise CannotSignIn("This took longer than ten minutes. Begin again.")
    if request.GET.get("error") or not request.GET.get("code"):
        raise CannotSignIn(f"{settings.OIDC_NAME} did not let you in.")
    release_connections()
    said = _exchange(request.GET["code"], asked["verifier"])
    claims = _claims(said.get("id_token", ""), asked["nonce"])
    if "email" not in claims and said.get("access_token"):
        claims |= _more(said["access_token"], claims["sub"])
    return Answer(claims, asked["to"], asked["connects"])


def _exchange(code: str, verifier: str) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": _own_address(),
        "code_verifier": verifier,
        "client_id": settings.OIDC_CLIENT_ID,
    }
    by = _provider().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    auth = None
    if "client_secret_basic" in by:
        auth = (settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET)
    else:
        form["client_secret"] = settings.OIDC_CLIENT_SECRET
    return _json("POST", _provider()["token_endpoint"], data=form, auth=auth)


def _claims(id_token: str, nonce: str) -> dict[str, Any]:
    """What the ID token says. Raises CannotSignIn where the provider has not signed it for this
    site and this sign-in."""
    keys = _json("GET", _provider()["jwks_uri"])
    try:
        number = jwt.get_unverified_header(id_token).get("kid")
        found = jwt.PyJWKSet.from_dict(keys).keys
        key = next(each for each in found if number is None or each.key_id == number)
        claims: dict[str, Any] = jwt.decode(
            id_token,
            key=key,
            algorithms=ALGORITHMS,
            audience=settings.OIDC_CLIENT_ID,
            issuer=settings.OIDC_ISSUER,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, StopIteration) as error:
        raise CannotSignIn(_unclear(error)) from error
    is_ours = claims.get("azp", settings.OIDC_CLIENT_ID) == settings.OIDC_CLIENT_ID
    if not is_ours or not secrets.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()):
        raise CannotSignIn(_unclear("not for this sign-in"))
    return claims


def _more(access_token: str, subject: str) -> dict[str, Any]:
    """What the provider says of the same person elsewhere."""
    where = _provider().get("userinfo_endpoint")
    if not where:
        return {}
    said = _json("GET", where, headers={"Authorization": f"Bearer {access_token}"})
    return said if said.get("sub") == subject else {}


def _provider() -> dict[str, Any]:
    return _discovered(settings.OIDC_ISSUER, int(time.monotonic() // KNOWN_FOR))


@lru_cache(maxsize=4)
def _discovered(issuer: str, _hour: int) -> dict[str, Any]:
    """The provider's addresses, as OpenID Connect Discovery 1.0 publishes them."""
    release_connections()
    found = _json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise CannotSignIn(_unclear(f"its issuer is {found.get('issuer')!r}"))
    return found


def _json(method: str, where: str, **kwargs: Any) -> dict[str, Any]:
    try:
        reply = httpx.request(method, where, timeout=TIMEOUT, **kwargs)
        reply.raise_for_status()
        said = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise CannotSignIn(f"{settings.OIDC_NAME} cannot be reached. Try again later.") from error
    if not isinstance(said, dict):
        raise CannotSignIn(_unclear("no object"))
    return said


def _unclear(error: object) -> str:
    return f"The answer of {settings.OIDC_NAME} is not valid ({error}). Begin again."


def _own_address() -> str:
    return str(settings.SITE_URL + reverse("provider_answer"))


def connected(person: User) -> bool:
    return SocialAccount.objects.filter(user=person).exists()


def disconnect(person: User) -> None:
    SocialAccount.objects.filter(user=person).delete()


@transaction.atomic
def connect(person: User, claims: dict[str, Any]) -> None:
    """Lets the provider's account sign in here. Raises CannotSignIn where it is another's."""
    found = _bound(claims)
    if found and found.user_id != person.pk:
        raise CannotSignIn(f"That {settings.OIDC_NAME} account belongs to another account here.")
    if not found:
        _bind(person, claims)


@transaction.atomic
def person_of(claims: dict[str, Any]) -> User:
    """Whose account it is: connected to the provider's before, or with the same verified address,
    or made now where the settings allow it. Raises CannotSignIn."""
    found = _bound(claims)
    if found:
        if not found.user.is_active:
            raise CannotSignIn("This account is closed.")
        found.save(update_fields=["last_login"])
        return found.user
    address = claims.get("email") if claims.get("email_verified") is True else None
    person = person_at(address) if address else None
    if person is None:
        person = _new_person(claims)
        if address:
            verify_if_free(person, address)
    _bind(person, claims)
    return person


def _bound(claims: dict[str, Any]) -> SocialAccount | None:
    found = SocialAccount.objects.filter(provider=settings.OIDC_ISSUER, uid=claims["sub"])
    return found.select_related("user").first()


def _bind(person: User, claims: dict[str, Any]) -> None:
    """Of the claims nothing is kept but the subject."""
    try:
        with transaction.atomic():
            SocialAccount.objects.create(
                user=person, provider=settings.OIDC_ISSUER, uid=claims["sub"]
            )
    except IntegrityError:
        raise CannotSignIn("This sign-in is under way already. Begin again.") from None


def _new_person(claims: dict[str, Any]) -> User:
    if not settings.OIDC_CREATE_ACCOUNTS:
        raise CannotSignIn(
            f"No account here is connected to this {settings.OIDC_NAME} account. Sign in as usual,"
            " then connect it under Security, or ask an operator to invite you."
        )
    wanted = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
    person = User(username=_free_name(wanted), password=make_password(None))
    person.first_name = str(claims.get("given_name") or "")[:150]
    person.last_name = str(claims.get("family_name") or "")[:150]
    person.save()
    return person


def _free_name(wanted: str) -> str:
    """The wanted name, or one like it that is nobody's."""
    validator = User.username_validator
    name = "".join(each for each in wanted[:140] if _is_allowed(validator, each)) or "person"
    taken = User.objects.filter(username__iexact=name).exists()
    return f"{name}-{secrets.token_hex(4)}" if taken else name


def _is_allowed(validator: Any, letter: str) -> bool:
    try:
        validator(letter)
    except ValidationError:
        return False
    return True
