"""The documents of a project: what pre-training reads, and what answers are looked up in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from annotate.connections.models import Connection
from annotate.documents.cutting import cut
from annotate.documents.words import index_entry
from annotate.people.models import Project
from annotate.prompts.models import Prompt, content_hash, split_of
from annotate.prompts.policies import Policy

BATCH = 500


@dataclass(frozen=True)
class Added:
    """What an upload changed: texts that are new, and texts that it supersedes."""

    new: int
    superseded: int = 0

    def __str__(self) -> str:
        if not (self.new or self.superseded):
            return "Nothing is new in it."
        said = f"{self.new} new document{'' if self.new == 1 else 's'}."
        return f"{said} {self.superseded} superseded." if self.superseded else said


class DocumentQuerySet(models.QuerySet["Document"]):
    def of_project(self, project: Project) -> DocumentQuerySet:
        return self.filter(project=project)

    def named(self, source: str) -> DocumentQuerySet:
        """All versions of it."""
        return self.filter(source=source)

    def current(self, at: datetime | None = None) -> DocumentQuerySet:
        """Those that no later upload has superseded: until now, or until `at`."""
        in_force = Q(superseded_at=None)
        return self.filter(in_force | Q(superseded_at__gt=at) if at else in_force)

    def in_split(self, *splits: str) -> DocumentQuerySet:
        return self.filter(split__in=splits)

    def count_by_split(self) -> dict[str, int]:
        train = self.in_split(Prompt.Split.TRAIN).count()
        return {"train": train, "held_out": self.count() - train}

    def by_name(self) -> list[dict[str, Any]]:
        """Of each name: `source`, `version` (the newest), `texts` in force, `characters` of them,
        `added_at`."""
        rows = (
            self.order_by()
            .values("source")
            .annotate(
                version=models.Max("version"),
                texts=models.Count("pk", filter=Q(superseded_at=None)),
                characters=models.Sum(
                    models.functions.Length("text"), filter=Q(superseded_at=None)
                ),
                added_at=models.Max("created_at"),
            )
        )
        return list(rows.order_by("-added_at", "source"))


class Document(models.Model):
    """A text. Those of one upload have its name as `source`; a later upload of the same name
    supersedes those that it does not contain."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="documents")
    text = models.TextField()
    source = models.CharField(max_length=100, blank=True)
    version = models.PositiveIntegerField(default=1, db_default=1)
    content_hash = models.CharField(max_length=64)
    split = models.CharField(max_length=10, choices=Prompt.Split)
    created_at = models.DateTimeField(auto_now_add=True)
    superseded_at = models.DateTimeField(null=True)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "content_hash"],
                condition=Q(superseded_at=None),
                name="one_document_a_content",
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]

    @classmethod
    @transaction.atomic
    def add(cls, project: Project, texts: Iterable[str], *, source: str = "") -> Added:
        """Adds texts, all or none, and cuts them into passages. One that is there already is left
        alone. With a `source`: what was there under this name, and is not among the texts any
        more, is superseded, and its passages go."""
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        rows = cls.objects.of_project(project)
        named = rows.named(source) if source else rows.none()
        version = (named.aggregate(newest=models.Max("version"))["newest"] or 0) + 1
        before = set(named.current().values_list("content_hash", flat=True))
        seen: set[str] = set()
        new, coming = 0, iter(texts)
        while batch := list(islice(coming, BATCH)):
            by_hash = {content_hash(text): text for text in batch}
            seen |= by_hash.keys()
            known = rows.current().filter(content_hash__in=by_hash)
            there = set(known.values_list("content_hash", flat=True))
            made = cls.objects.bulk_create(
                cls(
                    project=project,
                    text=text,
                    source=source,
                    version=version,
                    content_hash=digest,
                    split=split_of(digest),
                )
                for digest, text in by_hash.items()
                if digest not in there
            )
            Passage.cut(made)
            new += len(made)
        gone = named.current().filter(content_hash__in=before - seen)
        Passage.objects.filter(document__in=gone.values("pk")).delete()
        return Added(new, gone.update(superseded_at=Now()))


class PassageQuerySet(models.QuerySet["Passage"]):
    def of_project(self, project: Project) -> PassageQuerySet:
        return self.filter(document__project=project)

    def read_by(self, model: str) -> PassageQuerySet:
        """Those of which this embedding model has made a vector."""
        return self.filter(embedded_by=model)

    def without_vector(self, model: str) -> PassageQuerySet:
        """Those that this embedding model has not read yet."""
        return self.exclude(embedded_by=model)


class Passage(models.Model):
    """A piece of a document in force, short enough to be read with a question."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="passages")
    number = models.PositiveIntegerField(help_text="In the document, from 1.")
    text = models.TextField()
    search = SearchVectorField(editable=False)
    embedding = models.BinaryField(
        null=True, editable=False, help_text="Numbers of 4 bytes, of length 1 together."
    )
    embedded_by = models.CharField(max_length=300, blank=True, editable=False)

    objects = PassageQuerySet.as_manager()

    class Meta:
        ordering = ["document", "number"]
        constraints = [
            models.UniqueConstraint(fields=["document", "number"], name="one_passage_a_number")
        ]
        indexes = [GinIndex(fields=["search"], name="passages_by_word")]

    def __str__(self) -> str:
        return f"{self.document.source} {self.number}"

    @classmethod
    def cut(cls, documents: Sequence[Document]) -> None:
        """Stores the passages of documents that have none."""
        cls.objects.bulk_create(
            (
                cls(document=document, number=number, text=text, search=index_entry(text))
                for document in documents
                for number, text in enumerate(cut(document.text), start=1)
            ),
            batch_size=BATCH,
        )


class Embedder(models.Model):
    """The embedding model that an operator chose for the passages of a project."""

    project = models.OneToOneField(Project, models.CASCADE, related_name="embedder")
    connection = models.ForeignKey(
        Connection, models.CASCADE, null=True, related_name="+", help_text="None: this machine."
    )
    model_name = models.CharField(max_length=200, blank=True)
    policy = models.ForeignKey(
        Policy, models.CASCADE, null=True, related_name="+", help_text="Whose weights embed here."
    )
    trouble = models.CharField(max_length=300, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.model_name} at {self.connection}" if self.connection else str(self.policy)

    @property
    def mark(self) -> str:
        """By which its vectors are known: those of another model mean something else."""
        if self.policy:
            return f"here:{self.policy.folder}"
        return f"{self.connection_id}:{self.model_name}"

    @property
    def speaker(self) -> Policy:
        """The policy whose model embeds; of a connection's it is none that is saved."""
        return self.policy or Policy(
            project=self.project, connection=self.connection, model_name=self.model_name
        )
