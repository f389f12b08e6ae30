"""Deleting a document: its text, passages and vectors go, and so does what answers were given to
read of it. That they were given something stays, as “deleted”: an answer is not to look as if it
had come from nothing. What a model wrote stays its own words, also where they repeat a passage; and
a model that was trained on the document has read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import models, transaction

from annotate.chat.messages import Message
from annotate.documents.models import Document, Passage
from annotate.labels.kinds.talk.turns import TurnAnswer
from annotate.people.models import Project
from annotate.playground.cells import Cell
from annotate.prompts.passages import as_text
from annotate.prompts.policies import Completion

GONE = "[deleted]"

# What other rooms do with the texts that are gone, after the transaction.
also: list[Callable[[Project, set[str]], None]] = []


def delete_document(project: Project, source: str) -> int:
    """Deletes all versions of a document, or of all documents without a name, wherever they are.
    Returns how many texts that were."""
    documents = Document.objects.of_project(project).named(source)
    with transaction.atomic():
        ids = list(documents.values_list("pk", flat=True))
        passages = Passage.objects.filter(document__in=ids)
        texts = {
            *documents.values_list("text", flat=True),
            *passages.values_list("text", flat=True),
        }
        for kind, where in _frozen(project):
            texts |= _forget(kind, where, set(ids))
        documents.delete()
    for each in also:
        each(project, texts)
    return len(ids)


def _frozen(project: Project) -> list[tuple[Any, dict[str, Any]]]:
    """What keeps passages, each with what says that it is of this project."""
    return [
        (Message, {"conversation__project": project}),
        (TurnAnswer, {"turn__assignment__task__project": project}),
        (Completion, {"prompt__project": project}),
        (Cell, {"grid__project": project}),
    ]


def _forget(kind: type[models.Model], where: dict[str, Any], ids: set[int]) -> set[str]:
    """Takes the passages of these documents out of rows; returns their texts."""
    texts: set[str] = set()
    rows: models.QuerySet[Any] = kind._default_manager.filter(**where).exclude(passages=[])
    for row in rows.iterator(500):
        gone = {each["text"] for each in row.passages if _is_of(each, ids)}
        if not gone:
            continue
        texts |= gone
        row.passages = [_without_text(each) if _is_of(each, ids) else each for each in row.passages]
        changed = {"passages": row.passages}
        if hasattr(row, "context"):
            changed["context"] = [_without(each, gone) for each in row.context]
        kind._default_manager.filter(pk=row.pk).update(**changed)
    return texts


def _is_of(passage: dict[str, Any], ids: set[int]) -> bool:
    return passage["document"] in ids and "text" in passage


def _without_text(passage: dict[str, Any]) -> dict[str, Any]:
    return {**{name: passage[name] for name in passage if name != "text"}, "deleted": True}


def _without(message: dict[str, str], texts: Iterable[str]) -> dict[str, str]:
    content = message["content"]
    for text in sorted(texts, key=len, reverse=True):
        content = content.replace(as_text(text), GONE)
    return {**message, "content": content}
