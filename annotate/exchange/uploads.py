"""A file on its way in: kept from the first look to the import, so that nobody chooses it twice.

In the database, because the hosts that serve pages need not share a disk."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from functools import cached_property
from typing import IO, Any, BinaryIO, Self

from django.db import models, transaction
from django.db.models.functions import Now

from annotate.exchange.choices import Choices
from annotate.ids import id_in
from annotate.people.models import Project, User

# Bytes in a row: a file of gigabytes passes through without ever being in memory as a whole.
PART = 2**20
KEPT = timedelta(days=2)


class UploadQuerySet(models.QuerySet["Upload"]):
    def by(self, user: User) -> Self:
        return self.filter(by=user)

    def pasted(self, number: str) -> Upload | None:
        """The pasted lines of this number, unless they are too many for a page to hold."""
        return self.filter(name="", size__lte=PART, pk=id_in(number)).first()

    def left_before(self, moment: datetime) -> Self:
        return self.filter(created_at__lt=moment)

    def stale(self) -> Self:
        return self.filter(created_at__lt=Now() - KEPT)


class Upload(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="uploads")
    by = models.ForeignKey(User, models.CASCADE, related_name="+")
    name = models.CharField(max_length=100, blank=True, help_text="Of the file; none: pasted.")
    format = models.CharField(max_length=10)
    size = models.PositiveBigIntegerField(default=0)
    kind = models.CharField(max_length=20, blank=True)
    columns = models.JSONField(
        default=dict, help_text="Which column is which field, if not named so."
    )
    shape = models.CharField(max_length=40, blank=True, default="", db_default="")
    each_answer = models.BooleanField(default=False, db_default=False)
    references = models.BooleanField(default=False)
    encoding = models.CharField(max_length=40, blank=True, default="", db_default="")
    key = models.CharField(max_length=100, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name or "pasted lines"

    @classmethod
    @transaction.atomic
    def keep(cls, *, project: Project, by: User, file: IO[bytes], name: str, format: str) -> Upload:
        """Stores the file, and forgets those that nobody came back to for two days."""
        cls.objects.stale().delete()
        upload = cls.objects.create(project=project, by=by, name=name[:100], format=format)
        while part := file.read(PART):
            upload.parts.create(data=part)
            upload.size += len(part)
        upload.save(update_fields=["size"])
        return upload

    @cached_property
    def beginnings(self) -> dict[tuple[str, ...], Any]:
        """Its first lines as they were read, by encoding and key."""
        return {}

    @property
    def is_editable(self) -> bool:
        """Whether it was pasted, and is short enough for a page to show it again."""
        return not self.name and self.size <= PART

    @property
    def text(self) -> str:
        """All of it as text; bytes that are no UTF-8 are replaced."""
        with self.open() as file:
            return file.read().decode(errors="replace")

    def open(self) -> BinaryIO:
        """The file, as it came; close it."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        for part in self.parts.values_list("data", flat=True).iterator(8):
            file.write(part)
        file.seek(0)
        return file

    @property
    def choices(self) -> Choices:
        """How it is read, as far as somebody has said."""
        names = (each.name for each in fields(Choices))
        return Choices(**{name: getattr(self, name) for name in names})

    def choose(self, choices: Choices, *, references: bool = False) -> None:
        """Stores how it is to be read."""
        for name, value in asdict(choices).items():
            setattr(self, name, value)
        self.references = references
        self.save(update_fields=[*asdict(choices), "references"])


class UploadPart(models.Model):
    upload = models.ForeignKey(Upload, models.CASCADE, related_name="parts")
    data = models.BinaryField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"a part of {self.upload_id}"
