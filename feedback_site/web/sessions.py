"""Sessions in the database as Django keeps them, found by a prepared query: every page asks."""

from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.db.models.functions import Now

from feedback_site.prepared import prepared


@prepared
def _alive(key: Any) -> QuerySet[Session]:
    return Session.objects.filter(session_key=key, expire_date__gt=Now())


class SessionStore(db.SessionStore):
    def _get_session_from_db(self) -> Session | None:
        session = _alive.first(key=self.session_key)
        if session is None:
            self._session_key = None
        return session
