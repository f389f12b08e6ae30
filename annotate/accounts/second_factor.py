"""What somebody shows besides a password or link: the code of an app (TOTP, RFC 6238), a security
key (WebAuthn), or one of ten recovery codes. Kept by django-allauth, with the secrets sealed."""

from __future__ import annotations

import json
from typing import Any

from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.webauthn.internal import auth as webauthn
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.http import HttpRequest
from django.utils import timezone

from annotate.connections.sealing import Unreadable, reseal, seal, unseal
from annotate.people.models import User

Type = Authenticator.Type
WRONG = "This code is wrong, or was used before. Enter the one that is shown now."
UNKNOWN_KEY = "This security key was not accepted. Try again."
MOST_KEYS = 10
SECRET = "totp_secret"  # in the session, till a code shows that the app has it


class Adapter(DefaultMFAAdapter):
    """allauth's, which keeps secrets sealed, and says no more of a person than their user name."""

    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text)

    def _get_user_identifier(self, user: User) -> str:
        return user.username


def factors_of(person: User) -> models.QuerySet[Authenticator]:
    """Apps and keys, without the recovery codes, which are no factor alone."""
    mine = Authenticator.objects.filter(user_id=person.pk).exclude(type=Type.RECOVERY_CODES)
    return mine.order_by("pk")


def is_protected(person: User) -> bool:
    """Whether a password or link alone does not let them in."""
    return factors_of(person).exists()


def has_app(person: User) -> bool:
    return factors_of(person).filter(type=Type.TOTP).exists()


def has_key(person: User) -> bool:
    return factors_of(person).filter(type=Type.WEBAUTHN).exists()


def unused_codes(person: User) -> list[str]:
    """The recovery codes that still work."""
    kept = Authenticator.objects.filter(user_id=person.pk, type=Type.RECOVERY_CODES).first()
    return kept.wrap().get_unused_codes() if kept else []


@transaction.atomic
def use_code(person: User, code: str) -> str | None:
    """Which kind of factor this code is of, or None; it does not work a second time."""
    mine = Authenticator.objects.select_for_update().filter(user_id=person.pk)
    for each in mine.exclude(type=Type.WEBAUTHN).order_by("-type"):
        works = (
            _use_of_app(each, code) if each.type == Type.TOTP else each.wrap().validate_code(code)
        )
        if works:
            Authenticator.objects.filter(pk=each.pk).update(last_used_at=timezone.now())
            return str(each.type)
    return None


def _use_of_app(app: Authenticator, code: str) -> bool:
    """Neither this code nor an earlier one works again: the last step is kept with the secret, so
    that each process of the site knows it."""
    step = _step_of(unseal(app.data["secret"]), code, after=app.data.get("last_step", 0))
    if step:
        app.data["last_step"] = step
        app.save(update_fields=["data"])
    return bool(step)


def _step_of(secret: str, code: str, *, after: int = 0) -> int:
    """The step of 30 s whose code this is; 0: of none that is about now."""
    for step in totp.yield_hotp_counters_from_time():
        expected = totp.format_hotp_value(totp.hotp_value(secret, step))
        if step > after and compare_user_code(actual=code, expected=expected):
            return step
    return 0


def secret_for_app(request: HttpRequest) -> str:
    """The secret that is offered to this person's app, the same till it is added."""
    secret: str = request.session.setdefault(SECRET, totp.generate_totp_secret())
    return secret


def qr_code(person: User, secret: str) -> str:
    """The secret as an SVG image, for an app to scan."""
    svg = Adapter().build_totp_svg(Adapter().build_totp_url(person, secret))
    return svg[svg.index("<svg") :]


@transaction.atomic
def add_app(request: HttpRequest, person: User, code: str) -> list[str]:
    """Adds the app that holds the offered secret; returns recovery codes where these are the first.
    Raises ValidationError for a wrong code."""
    User.objects.select_for_update().get(pk=person.pk)
    if has_app(person):
        raise ValidationError("An app is already set up. Remove it first.")
    secret = secret_for_app(request)
    if not _step_of(secret, code):
        raise ValidationError(WRONG)
    _use_of_app(totp.TOTP.activate(person, secret).instance, code)
    del request.session[SECRET]
    return _first_codes(person)


def key_to_add(person: User) -> str:
    """What the browser is asked to make a key from, as JSON; the challenge is in the session."""
    return json.dumps(webauthn.begin_registration(person, passwordless=False))


@transaction.atomic
def add_key(person: User, name: str, credential: str) -> list[str]:
    """Adds a security key; returns recovery codes where these are the first. Raises
    ValidationError for what no key has signed."""
    User.objects.select_for_update().get(pk=person.pk)
    if factors_of(person).count() >= MOST_KEYS:
        raise ValidationError("Remove a key first: ten are kept.")
    said = _parsed(credential)
    try:
        webauthn.parse_registration_response(said)
        webauthn.complete_registration(said)
    except Exception as error:  # of fido2's many: what a browser sends may be anything
        raise ValidationError(UNKNOWN_KEY) from error
    webauthn.WebAuthn.add(person, name or "Security key", said)
    return _first_codes(person)


def key_to_use(person: User) -> str:
    """What the browser asks a key to sign, as JSON; the challenge is in the session."""
    return json.dumps(webauthn.begin_authentication(person))


def use_key(person: User, credential: str) -> str | None:
    """Which kind of factor this is, or None where no key of theirs has signed the challenge, which
    is worthless afterwards."""
    try:
        said = _parsed(credential)
        webauthn.parse_authentication_response(said)
        webauthn.complete_authentication(person, said).record_usage()
    except Exception:  # of fido2's many: what a browser sends may be anything
        webauthn.clear_state()
        return None
    return str(Type.WEBAUTHN)


@transaction.atomic
def remove(person: User, number: int) -> bool:
    """Removes an app or key; recovery codes go with the last. False: there is no such one."""
    User.objects.select_for_update().get(pk=person.pk)
    count, _ = factors_of(person).filter(pk=number).delete()
    if not is_protected(person):
        Authenticator.objects.filter(user_id=person.pk).delete()
    return count > 0


@transaction.atomic
def new_codes(person: User) -> list[str]:
    """Ten new recovery codes; those of before stop working."""
    Authenticator.objects.filter(user_id=person.pk, type=Type.RECOVERY_CODES).delete()
    return RecoveryCodes.activate(person).get_unused_codes()


def reseal_secrets() -> tuple[int, list[str]]:
    """Seals all secrets under the newest SECRET_KEY; returns how many, and the names of those whose
    cannot be read."""
    done, lost = 0, []
    for each in Authenticator.objects.exclude(type=Type.WEBAUTHN).select_related("user"):
        name = "secret" if each.type == Type.TOTP else "seed"
        try:
            each.data[name] = reseal(each.data[name])
        except Unreadable:
            lost.append(each.user.username)
        else:
            each.save(update_fields=["data"])
            done += 1
    return done, lost


def forget(person: User) -> int:
    """Removes all factors and recovery codes, for whoever runs the site; returns how many."""
    count, _ = Authenticator.objects.filter(user_id=person.pk).delete()
    return count


def _first_codes(person: User) -> list[str]:
    return [] if unused_codes(person) else new_codes(person)


def _parsed(credential: str) -> dict[str, Any]:
    try:
        said = json.loads(credential)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ValidationError(UNKNOWN_KEY)
    return said
