"""E-mail addresses of accounts, kept by django-allauth. An account has one at most, which counts
once its owner has opened the link that was sent there, and one more that waits for that."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from annotate.people.models import User

SALT = "annotate.accounts.addresses"
LASTS = 24 * 3600  # seconds
TAKEN = "Another account has this address. Sign in to that one, or use another address."


def address_of(person: User) -> str:
    """The address that they have verified, or ""."""
    found = EmailAddress.objects.filter(user=person, verified=True).first()
    return found.email if found else ""


def waiting_address_of(person: User) -> EmailAddress | None:
    """The address whose link they have not opened yet."""
    return EmailAddress.objects.filter(user=person, verified=False).order_by("-pk").first()


def person_at(address: str) -> User | None:
    """Whose verified address this is."""
    found = EmailAddress.objects.filter(
        email=address.lower(), verified=True, user__is_active=True
    ).select_related("user")
    one = found.first()
    return one.user if one else None


@transaction.atomic
def ask_to_verify(person: User, address: str) -> EmailAddress:
    """Notes an address that is not theirs before they open its link; an earlier one is dropped."""
    EmailAddress.objects.filter(user=person, verified=False).delete()
    return EmailAddress.objects.create(user=person, email=address.lower())


def key_of(waiting: EmailAddress) -> str:
    return signing.dumps([waiting.pk, waiting.email], salt=SALT)


def waiting_for(person: User, key: str) -> EmailAddress | None:
    """The address of this account that the link with this key verifies; None: it does not."""
    try:
        number, email = signing.loads(key, salt=SALT, max_age=LASTS)
    except signing.BadSignature:
        return None
    mine = EmailAddress.objects.filter(user=person, verified=False)
    return mine.filter(pk=number, email=email).first()


@transaction.atomic
def verify(person: User, address: str) -> str:
    """Makes it the address of this account, in place of the one of before, which is returned.
    Raises ValidationError where it is another's."""
    User.objects.select_for_update().get(pk=person.pk)
    if EmailAddress.objects.filter(email=address, verified=True).exclude(user=person).exists():
        raise ValidationError(TAKEN)
    before = address_of(person)
    EmailAddress.objects.filter(user=person).delete()
    try:
        with transaction.atomic():
            EmailAddress.objects.create(user=person, email=address, verified=True, primary=True)
    except IntegrityError:  # another has verified it at the same moment
        transaction.set_rollback(True)
        raise ValidationError(TAKEN) from None
    _note(person, address)
    return before


def verify_if_free(person: User, address: str) -> None:
    """As `verify`, of a new account; an address that is another's stays theirs."""
    if person_at(address) is None:
        verify(person, address.lower())


@transaction.atomic
def drop(person: User) -> str:
    """Forgets the address; returns it."""
    before = address_of(person)
    EmailAddress.objects.filter(user=person).delete()
    _note(person, "")
    return before


def _note(person: User, address: str) -> None:
    """Django's own place for it, which says that a password must not resemble it."""
    person.email = address
    person.save(update_fields=["email"])
