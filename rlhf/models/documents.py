"""Raw text of the project's domain, which pre-training reads before anybody is asked anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from django.core.exceptions import ValidationError
from django.db import models, transaction

from annotate.models import Project, Prompt
from annotate.prompts.models import content_hash, split_of

LONGEST = 1_000_000  # characters
BATCH = 500


class DocumentQuerySet(models.QuerySet["Document"]):
    def of_project(self, project: Project) -> DocumentQuerySet:
        return self.filter(project=project)

    def in_split(self, *splits: str) -> DocumentQuerySet:
        return self.filter(split__in=splits)

    def count_by_split(self) -> dict[str, int]:
        train = self.in_split(Prompt.Split.TRAIN).count()
        return {"train": train, "held_out": self.count() - train}


class Document(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="documents")
    text = models.TextField()
    source = models.CharField(max_length=100, blank=True)
    content_hash = models.CharField(max_length=64)
    split = models.CharField(max_length=10, choices=Prompt.Split)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "content_hash"], name="one_document_a_content"
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]

    @classmethod
    @transaction.atomic
    def add(cls, project: Project, texts: Iterable[str], *, source: str = "") -> int:
        """Adds texts, all or none; one that is there already is left alone. Returns how many are
        new."""
        before = cls.objects.of_project(project).count()
        batch: list[Document] = []
        for text in texts:
            digest = content_hash(text)
            batch.append(
                cls(
                    project=project,
                    text=text,
                    source=source,
                    content_hash=digest,
                    split=split_of(digest),
                )
            )
            if len(batch) == BATCH:
                cls.objects.bulk_create(batch, ignore_conflicts=True)
                batch = []
        cls.objects.bulk_create(batch, ignore_conflicts=True)
        return cls.objects.of_project(project).count() - before


def texts_in(file: BinaryIO, *, name: str) -> Iterator[str]:
    """Yields, of JSON Lines, the `text` of each; of any other file, the whole. Raises
    ValidationError with the number of the line."""
    if not name.lower().endswith((".jsonl", ".json")):
        yield _checked(_decoded(file.read(), where=name), where=name)
        return
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"Line {number}"
        try:
            row = json.loads(_decoded(line, where=where))
        except ValueError:
            raise ValidationError(f"{where}: not valid JSON. Nothing was imported.") from None
        text = row.get("text") if isinstance(row, dict) else None
        yield _checked(text if isinstance(text, str) else "", where=where)


def _decoded(content: bytes, *, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValidationError(f"{where}: not UTF-8. Nothing was imported.") from None


def _checked(text: str, *, where: str) -> str:
    if not text.strip() or "\x00" in text or len(text) > LONGEST:
        raise ValidationError(
            f'{where}: it needs a "text" of at most {LONGEST:,} characters. Nothing was imported.'
        )
    return text
