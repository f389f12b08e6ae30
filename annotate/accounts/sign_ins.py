"""Who has signed in, when, how and with which browser: the sessions and the history of an account,
which only its owner sees."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Self

from django.contrib.auth import login, update_session_auth_hash
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone

from annotate.people.models import User

KEPT = timedelta(days=90)
PROVED_AT = "proved_at"  # in the session: when its person last showed who they are


class SignInQuerySet(models.QuerySet["SignIn"]):
    def open(self) -> Self:
        """Those whose session still stands, of all that were not ended by changing the password."""
        alive = Session.objects.filter(expire_date__gt=Now()).values("session_key")
        return self.filter(ended_at=None, session_key__in=alive)

    def numbered(self, number: int) -> Self:
        return self.filter(pk=number)

    def besides(self, request: HttpRequest) -> Self:
        """Those of other browsers than this one."""
        return self.exclude(session_key=request.session.session_key)


class SignIn(models.Model):
    class Way(models.TextChoices):
        PASSWORD = "password", "password"
        LINK = "link", "sign-in link"
        MAIL = "mail", "link by e-mail"
        PROVIDER = "provider", "identity provider"
        INVITATION = "invitation", "invitation"

    class Factor(models.TextChoices):
        """What was shown besides. The values are allauth's."""

        APP = "totp", "code of an app"
        RECOVERY = "recovery_codes", "recovery code"
        KEY = "webauthn", "security key"

    user = models.ForeignKey(User, models.CASCADE, related_name="sign_ins")
    way = models.CharField(max_length=10, choices=Way)
    factor = models.CharField(max_length=20, choices=Factor, blank=True)
    session_key = models.CharField(max_length=40, db_index=True, editable=False)
    address = models.GenericIPAddressField(null=True)
    browser = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    objects = SignInQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.user} by {self.get_way_display()}"

    @property
    def how(self) -> str:
        """The way and what was shown besides, in words."""
        return " and ".join(filter(None, [self.get_way_display(), self.get_factor_display()]))

    @property
    def browser_name(self) -> str:
        """A browser and a system, as far as its own words tell."""
        said = self.browser
        found = (name for word, name in BROWSERS.items() if word in said)
        system = (name for word, name in SYSTEMS.items() if word in said)
        names = [next(found, ""), next(system, "")]
        return " on ".join(filter(None, names)) or "Unknown browser"

    def end(self) -> None:
        """Signs that browser out."""
        Session.objects.filter(session_key=self.session_key).delete()
        self.ended_at = timezone.now()
        self.save(update_fields=["ended_at"])


# The first that is found counts: most browsers also name those before them.
BROWSERS = {
    "Edg/": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


@transaction.atomic
def enter(request: HttpRequest, person: User, *, way: str, factor: str = "") -> None:
    """Signs `person` in, and remembers it."""
    login(request, person, backend="annotate.people.sign_in.Backend")
    prove(request)
    stale = person.sign_ins.filter(at__lt=Now() - KEPT)
    stale.delete()
    person.sign_ins.create(
        way=way,
        factor=factor,
        session_key=request.session.session_key or "",
        address=_address(request),
        browser=request.headers.get("User-Agent", "")[:200],
    )


def prove(request: HttpRequest) -> None:
    """Notes that whoever sits at this browser has just shown who they are."""
    request.session[PROVED_AT] = timezone.now().timestamp()


def stay(request: HttpRequest, person: User) -> None:
    """Keeps this browser signed in after a change that signs the others out."""
    before = request.session.session_key
    update_session_auth_hash(request, person)
    prove(request)
    here = person.sign_ins.filter(session_key=before)
    here.update(session_key=request.session.session_key)
    person.sign_ins.besides(request).filter(ended_at=None).update(ended_at=Now())


@transaction.atomic
def end_others(request: HttpRequest, person: User) -> None:
    """Signs all other browsers out, also those that signed in before this was noted."""
    User.objects.filter(pk=person.pk).update(sessions_ended=models.F("sessions_ended") + 1)
    person.refresh_from_db(fields=["sessions_ended"])
    stay(request, person)


def _address(request: HttpRequest) -> str | None:
    said = request.META.get("REMOTE_ADDR", "")
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        return None
