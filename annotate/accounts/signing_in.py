"""From a password, link or identity provider to a session: nobody with a second factor gets by
without it, whichever way they come."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import models, transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from annotate.accounts.mail_tokens import sign_in_tokens
from annotate.accounts.second_factor import is_protected
from annotate.accounts.sign_ins import SignIn, enter
from annotate.people.models import User
from annotate.people.sign_in import tokens, user_of_link

PENDING = "second_factor"  # in the session: who is asked for it, since when, and how they came
WAITS = timedelta(minutes=10)


def come_in(
    request: HttpRequest, person: User, *, way: str, to: str = "home"
) -> HttpResponseRedirect:
    """Lets a person in who has shown what they know, or asks for their second factor first."""
    if not is_protected(person):
        enter(request, person, way=way)
        return redirect(to)
    request.session[PENDING] = {
        "person": person.pk,
        "hash": person.get_session_auth_hash(),
        "way": way,
        "to": to,
        "since": timezone.now().timestamp(),
    }
    return redirect("second_factor")


def asked_person(request: HttpRequest) -> User | None:
    """Whose second factor is asked for. None: nobody's, for too long, or their password is another
    by now."""
    asked = request.session.get(PENDING) or {}
    person = User.objects.filter(pk=asked.get("person", 0), is_active=True).first()
    if person is None or timezone.now().timestamp() - asked["since"] > WAITS.total_seconds():
        return None
    is_same = constant_time_compare(asked["hash"], person.get_session_auth_hash())
    return person if is_same else None


def come_in_with(request: HttpRequest, person: User, *, factor: str) -> HttpResponseRedirect:
    """Lets the asked person in, who has shown the second factor."""
    asked = request.session.pop(PENDING)
    enter(request, person, way=asked["way"], factor=factor)
    return redirect(asked["to"])


@transaction.atomic
def sign_in_by(request: HttpRequest, uid: str, token: str) -> HttpResponseRedirect | None:
    """Lets in whom a link is for. Of several who use it at once one is: the others wait here till
    that has made it worthless."""
    person, way = person_of_link(uid, token, people=User.objects.select_for_update())
    if person is None:
        return None
    person.links_used += 1
    person.save(update_fields=["links_used"])
    return come_in(request, person, way=way)


def person_of_link(
    uid: str, token: str, *, people: models.QuerySet[User] | None = None
) -> tuple[User | None, str]:
    """Whom a link is for, None if it was used, has expired, or is not one; and which kind it is."""
    kinds: dict[str, PasswordResetTokenGenerator] = {
        SignIn.Way.LINK: tokens,
        SignIn.Way.MAIL: sign_in_tokens,
    }
    for way, kind in kinds.items():
        if person := user_of_link(uid, token, people=people, kind=kind):
            return person, way
    return None, ""
