"""The audit log. PostgreSQL numbers, dates and chains the entries, so that who writes one chooses
none of these: see the trigger in the migrations.

An entry says who, where, what kind of thing and which number it has. Names, texts and addresses of
people stay out: they could not be erased here."""

from __future__ import annotations

import json
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
