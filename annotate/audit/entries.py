"""The audit log. PostgreSQL numbers, dates and chains the entries, so that who writes one chooses
none of these: see the trigger in the migrations.

An entry says who, where, what kind of thing and which number it has. Names, texts and addresses of
people stay out: they could not be erased here."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Self

from django.conf import settings
from django.db import connection, models

INSERT = """
INSERT INTO annotate_auditentry (action, actor_id, project_id, about, details, request_id)
VALUES (%s, %s, %s, %s, %s, %s) RETURNING number
"""


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def of_project(self, project: Any) -> Self:
        return self.filter(project=project)

    def asked_for(
        self,
        *,
        who: str = "",
        action: str = "",
        about: str = "",
        since: date | None = None,
        until: date | None = None,
    ) -> Self:
        """By a person's user name, by the beginning of an action, by a kind of thing or one thing,
        and by days, both included. What is empty filters nothing."""
        found = self.filter(actor__username=who) if who else self
        if action:
            found = found.filter(action__startswith=action)
        if about:
            found = found.filter(about=about) if ":" in about else found.of_kind(about)
        if since:
            found = found.filter(at__date__gte=since)
        return found.filter(at__date__lte=until) if until else found

    def of_kind(self, kind: str) -> Self:
        return self.filter(about__startswith=f"{kind}:")

    def with_names(self) -> Self:
        return self.select_related("actor", "project")

    def in_order(self) -> Self:
        return self.order_by("number")


class AuditEntry(models.Model):
    """The columns of `content` and the hash of the entry before make the hash of an entry."""

    number = models.BigIntegerField(primary_key=True, help_text="From 1 on, without a gap.")
    at = models.DateTimeField(db_index=True)
    action = models.CharField(max_length=100, help_text="The name of the address, or a command.")
    # Without constraints: their checks at commit would take locks while others wait for the chain.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.DO_NOTHING,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    project = models.ForeignKey(
        "annotate.Project",
        models.DO_NOTHING,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    about = models.CharField(max_length=100, help_text="What it was done to: kind and number.")
    details = models.JSONField(
        help_text="What was written, table by table, and the plain values before and after."
    )
    request_id = models.CharField(max_length=64)
    previous = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["project", "-number"], name="audit_of_project"),
            models.Index(fields=["actor", "-number"], name="audit_of_actor"),
            models.Index(fields=["action", "-number"], name="audit_of_action"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.action}"

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Plain values before and after, field by field."""
        before, after = self.details.get("before", {}), self.details.get("after", {})
        return [
            {"name": name.removesuffix("_id"), "before": before.get(name), "after": value}
            for name, value in after.items()
        ]

    @property
    def written(self) -> list[str]:
        """“2 rows of task added”, for each table."""
        return [
            f"{count} {'row' if count == 1 else 'rows'} of {table.partition('_')[2]} {verb}"
            for table, verbs in self.details.get("wrote", {}).items()
            for verb, count in verbs.items()
        ]

    @classmethod
    def append(
        cls,
        *,
        action: str,
        actor: int | None,
        project: int | None,
        about: str,
        details: dict[str, Any],
        request_id: str,
    ) -> int:
        """Writes an entry in the transaction under way; returns its number. From here to the end of
        that transaction nobody else can: let it be the last thing one does."""
        values = [action, actor, project, about, json.dumps(details), request_id]
        with connection.cursor() as cursor:
            cursor.execute(INSERT, values)
            return int(cursor.fetchone()[0])
