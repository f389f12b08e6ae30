"""Connections: model servers outside that the policies of a project may use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone

from annotate.connections.addresses import is_trusted, validate_base
from annotate.connections.client import Server
from annotate.connections.sealing import reseal, seal, unseal
from annotate.people.models import Project

TRIES = 4
LONGEST_CALL = timedelta(minutes=10)  # after which a place is free again, whatever became of it


class InUse(Exception):
    """Policies answer through it. Says which."""


class ConnectionQuerySet(models.QuerySet["Connection"]):
    def with_policy_counts(self) -> ConnectionQuerySet:
        """Adds `policy_count`, how many policies answer through each."""
        return self.annotate(policy_count=models.Count("policies"))

    def with_key(self) -> ConnectionQuerySet:
        return self.exclude(sealed_key="")


class Connection(models.Model):
    """A model server that speaks OpenAI's protocol, and the key to it, which is kept sealed."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="connections")
    name = models.CharField(max_length=60)
    base_url = models.CharField("address", max_length=200, validators=[validate_base])
    sealed_key = models.TextField(blank=True, editable=False)
    price_in = models.DecimalField(
        "price of a million tokens read",
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
    )
    price_out = models.DecimalField(
        "price of a million tokens written",
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
    )
    parallel = models.PositiveSmallIntegerField(
        "requests at once",
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(64)],
    )
    models_there = models.JSONField(default=list, editable=False)
    tested_at = models.DateTimeField(null=True, editable=False)
    trouble = models.CharField(max_length=300, editable=False, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_connection_a_name")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def has_key(self) -> bool:
        return bool(self.sealed_key)

    @property
    def server(self) -> Server:
        """Whom to call, with the key. Raises Unreadable."""
        key = unseal(self.sealed_key) if self.sealed_key else ""
        return Server(self.base_url, key, TRIES, is_trusted=is_trusted(self.base_url))

    def set_key(self, key: str) -> None:
        """Seals a key, or forgets the one there was; `save` keeps it."""
        self.sealed_key = seal(key) if key else ""

    def reseal(self) -> None:
        """Seals the key under the newest SECRET_KEY. Raises Unreadable."""
        self.sealed_key = reseal(self.sealed_key)
        self.save(update_fields=["sealed_key"])

    def note_test(self, *, found: Iterable[str] | None = None, trouble: str = "") -> None:
        """Keeps what a test has shown. Without a list of models the earlier one stays."""
        if found is not None:
            self.models_there = sorted(set(found))
        self.trouble, self.tested_at = trouble, timezone.now()
        self.save(update_fields=["models_there", "trouble", "tested_at"])

    def remove(self) -> None:
        """Deletes it. Raises InUse while policies answer through it."""
        try:
            self.delete()
        except models.ProtectedError as error:
            raise InUse(", ".join(sorted(map(str, error.protected_objects)))) from None

    @transaction.atomic
    def take_place(self) -> CallPlace | None:
        """One of the places for requests at once, for all processes together; None: all taken."""
        Connection.objects.select_for_update(no_key=True).get(pk=self.pk)
        self.places.filter(until__lt=timezone.now()).delete()
        if self.places.count() >= self.parallel:
            return None
        return self.places.create(until=timezone.now() + LONGEST_CALL)


class CallPlace(models.Model):
    """A request that is under way; of a process that died, one that ends by itself."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="places")
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"a request to {self.connection}"

    def leave(self) -> None:
        """Makes room for the next."""
        type(self).objects.filter(pk=self.pk).delete()
