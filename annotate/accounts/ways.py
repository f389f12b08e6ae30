"""Who has a way of their own into their account."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q

from annotate.people.models import User

OWN = (
    Q(emailaddress__verified=True) | Q(authenticator__isnull=False) | Q(socialaccount__isnull=False)
)


def with_own_way(people: Sequence[User]) -> set[int]:
    """Of these people, the ids of those with a verified address, a second factor, or an account of
    the identity provider."""
    found = User.objects.filter(OWN, pk__in=[each.pk for each in people])
    return set(found.values_list("pk", flat=True))
