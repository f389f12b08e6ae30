"""Machines that train: what each of them has and uses, and whether it may take another run.

A worker for runs reports its machine every few seconds. Who wants it back for something else drains
it (what runs there is finished) or pauses it (what runs there is saved and goes back in line)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models.functions import Now

GONE_AFTER = timedelta(seconds=60)  # without a report


class MachineQuerySet(models.QuerySet["Machine"]):
    def in_use(self) -> MachineQuerySet:
        """Keeps those that have reported within a day, by name."""
        return self.filter(seen_at__gte=Now() - timedelta(days=1)).order_by("slot")

    def present(self) -> models.QuerySet[Machine, str]:
        """Lists the slots whose worker reports now."""
        seen = self.filter(seen_at__gte=Now() - GONE_AFTER)
        return seen.values_list("slot", flat=True)


class Machine(models.Model):
    """One host, or one GPU of a host: where one run works at a time."""

    class Takes(models.TextChoices):
        ANY = "any", "takes runs"
        NOTHING_NEW = "nothing_new", "draining"
        NOTHING = "nothing", "paused"

    slot = models.CharField(max_length=100, unique=True, help_text="The host, or host/gpu.")
    worker = models.CharField(max_length=100, blank=True)
    takes = models.CharField(max_length=11, choices=Takes, default=Takes.ANY)
    figures = models.JSONField(default=dict, help_text="See rlhf.runs.machine_figures.")
    seen_at = models.DateTimeField()

    objects = MachineQuerySet.as_manager()

    class Meta:
        ordering = ["slot"]

    def __str__(self) -> str:
        return self.slot

    @classmethod
    def report(cls, slot: str, *, worker: str, figures: dict[str, Any]) -> Machine:
        """Stores what a machine has and uses now; returns its row, which says what it may take."""
        said = {"worker": worker, "figures": figures, "seen_at": Now()}
        machine, _ = cls.objects.update_or_create(slot=slot, defaults=said)
        machine.refresh_from_db()
        return machine

    def take(self, what: str) -> bool:
        """Says which runs it takes from now on; returns whether that is another than before."""
        row = Machine.objects.filter(pk=self.pk).exclude(takes=what)
        return row.update(takes=what) == 1
