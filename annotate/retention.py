"""How long a project keeps what: its settings name a period a kind, and what is older is deleted.

Deleted as people do it themselves, so that the same rules hold: what became of a chat goes with it,
and the models that it taught still name their guest. Labels, snapshots and the audit log stay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models
from django.utils import timezone

from annotate.audit.recording import Act, recording
from annotate.chat.conversations import Conversation
from annotate.labelling.own_prompts import PromptDraft
from annotate.people.models import Project
from annotate.work.assignments import Assignment

logger = logging.getLogger(__name__)

EVERY = timedelta(days=1)
BATCH = 50  # of a kind, in a transaction


@dataclass(frozen=True)
class Kind:
    """`setting`: the field of the project that holds its days. `left`: the rows that nobody has
    touched since a moment. `delete`: for a batch of them."""

    name: str
    setting: str
    left: Callable[[Project, datetime], models.QuerySet[Any]]
    delete: Callable[[Any], object]

    def due(self, project: Project) -> models.QuerySet[Any] | None:
        """The rows that are past their period; None where the kind is kept for ever."""
        days = getattr(project, self.setting)
        return self.left(project, timezone.now() - timedelta(days=days)) if days else None


KINDS = (
    Kind(
        "chats of guests",
        "keep_chats_days",
        lambda project, moment: Conversation.objects.of_guests(project).left_before(moment),
        lambda rows: rows.erase(),
    ),
    Kind(
        "exchanges through the API",
        "keep_api_days",
        lambda project, moment: Conversation.objects.of_products(project).left_before(moment),
        lambda rows: rows.erase(),
    ),
    Kind(
        "uploads",
        "keep_uploads_days",
        lambda project, moment: project.uploads.left_before(moment),
        lambda rows: rows.delete(),
    ),
    Kind(
        "drafts of answers",
        "keep_drafts_days",
        lambda project, moment: Assignment.objects.of_project(project).with_draft_left_before(
            moment
        ),
        lambda rows: rows.forget_drafts(),
    ),
    Kind(
        "drafts of prompts",
        "keep_drafts_days",
        lambda project, moment: PromptDraft.objects.of_project(project).left_before(moment),
        lambda rows: rows.delete(),
    ),
)


def due(project: Project) -> dict[str, int]:
    """Counts what would be deleted now, by kind; kinds that are kept for ever are left out."""
    found = {kind.name: kind.due(project) for kind in KINDS}
    return {name: rows.count() for name, rows in found.items() if rows is not None}


def apply_retention(project: Project) -> dict[str, int]:
    """Deletes all that is past its period; returns how many of each kind."""
    total: dict[str, int] = {}
    while deleted := _delete_batch(project):
        total = {name: total.get(name, 0) + deleted.get(name, 0) for name in {**total, **deleted}}
    if deleted is not None:
        _finish(project)
    return total


def apply_waiting() -> int:
    """Deletes one batch in a project whose day it is; returns how many rows. Where it fails, the
    next day tries again: what else waits has a right to the worker."""
    project = Project.objects.to_tidy(EVERY).first()
    if project is None:
        return 0
    try:
        deleted = _delete_batch(project)
    except Exception:
        logger.exception("what %s keeps too long could not be deleted", project)
        deleted = {}
    if deleted == {}:
        _finish(project)
    return sum((deleted or {}).values())


def _delete_batch(project: Project) -> dict[str, int] | None:
    """In one transaction, with an entry of the audit log. Empty: nothing is left to do; None:
    somebody else is at it."""
    act = Act("retention", project=project.pk, thing=project)
    with recording(act):
        if not _is_alone(project):
            return None
        deleted = {kind.name: _delete_some(kind, project) for kind in KINDS}
        act.details["deleted"] = deleted = {name: n for name, n in deleted.items() if n}
    return deleted


def _delete_some(kind: Kind, project: Project) -> int:
    rows = kind.due(project)
    if rows is None:
        return 0
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
    kind.delete(rows.model.objects.filter(pk__in=ids))
    return len(ids)


def _is_alone(project: Project) -> bool:
    with connection.cursor() as cursor:
        lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
        cursor.execute(lock, [f"retention {project.pk}"])
        (alone,) = cursor.fetchone()
    return bool(alone)


def _finish(project: Project) -> None:
    Project.objects.filter(pk=project.pk).update(tidied_at=timezone.now())
