"""Who is signed in; one-time sign-in links for the demo and people without a password."""

from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.encoding import force_str
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from annotate.people.models import User
from feedback_site.prepared import prepared


@prepared
def _users(pk: int) -> QuerySet[User]:
    return User.objects.filter(pk=pk)


class Backend(ModelBackend):
    """Django's own, which asks for the person by a prepared query: every page does."""

    def get_user(self, user_id: int) -> User | None:
        user = _users.first(pk=user_id)
        return user if user and self.user_can_authenticate(user) else None


class LoginLinkTokens(PasswordResetTokenGenerator):
    """A token dies with its use, because it is made from the number of links used so far, and with
    any other sign-in."""

    key_salt = "annotate.sign_in.LoginLinkTokens"

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        """A link also dies when its person joins another project: it was not made for that one.
        Django counts the last sign-in in whole seconds; a link may be made and used within one."""
        projects = user.memberships.order_by("project").values_list("project", flat=True)
        known = super()._make_hash_value(user, timestamp)
        return f"{known}{user.last_login}{user.links_used}{list(projects)}"


tokens = LoginLinkTokens()


def login_link(user: User) -> str:
    """An absolute URL that signs `user` in once, within three days."""
    uid = urlsafe_base64_encode(str(user.pk).encode())
    path = reverse("sign_in_by_link", args=[uid, tokens.make_token(user)])
    return settings.SITE_URL + path


def user_of_link(
    uid: str,
    token: str,
    *,
    people: QuerySet[User] | None = None,
    kind: PasswordResetTokenGenerator = tokens,
) -> User | None:
    """Whom a link of this kind is for, or None if it was used, has expired, or is not one."""
    people = User.objects.all() if people is None else people
    try:
        user = people.get(pk=int(force_str(urlsafe_base64_decode(uid))), is_active=True)
    except (ValueError, OverflowError, UnicodeDecodeError, User.DoesNotExist):
        return None
    return user if kind.check_token(user, token) else None
