"""What a product measures of an answer beside the thumb: a rating, metrics of its own, tags. They
are shown per policy and train nothing."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction

from annotate.chat.messages import Message
from annotate.people.models import Project, User

LONGEST = 64  # characters of a name or a category
RATING = "rating"


class MeasureQuerySet(models.QuerySet["Measure"]):
    def of_project(self, project: Project) -> MeasureQuerySet:
        return self.filter(message__conversation__project=project)

    def of(self, message: Message, user: User) -> MeasureQuerySet:
        return self.filter(message=message, user=user)

    def by_policy(self) -> models.QuerySet[Any, Any]:
        """(policy, name, kind, category) → how many there are, and the mean of the numbers."""
        named = self.order_by().annotate(policy=models.F("message__policy__name"))
        rows = named.values("policy", "kind", "name", "category")
        counted = rows.annotate(count=models.Count("pk"), mean=models.Avg("number"))
        return counted.order_by("policy", "kind", "name", "category")


class Measure(models.Model):
    """One value of one name, by one person on one answer; the newest holds."""

    class Kind(models.TextChoices):
        BOOL = "bool"
        NUMBER = "number"
        CATEGORY = "category"
        TAG = "tag"

    message = models.ForeignKey(Message, models.CASCADE, related_name="measures")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    name = models.CharField(max_length=LONGEST)
    kind = models.CharField(max_length=10, choices=Kind)
    number = models.FloatField(null=True, help_text="Of a truth value 0 or 1.")
    category = models.CharField(max_length=LONGEST, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = MeasureQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                models.F("message"),
                models.F("user"),
                models.F("name"),
                models.Case(models.When(kind="tag", then=1), default=0),
                name="one_measure_a_name",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"

    @property
    def value(self) -> bool | float | str:
        """As it was sent."""
        if self.kind == self.Kind.CATEGORY:
            return self.category
        return bool(self.number) if self.kind == self.Kind.BOOL else self.number or 0.0

    @classmethod
    @transaction.atomic
    def note(
        cls,
        *,
        message: Message,
        user: User,
        metrics: dict[str, bool | float | str | None],
        tags: list[str] | None = None,
    ) -> None:
        """Keeps these values over earlier ones of the same names; None forgets one. `tags`, if
        given, are all there are."""
        Message.objects.select_for_update(no_key=True).get(pk=message.pk)
        mine = cls.objects.of(message, user)
        mine.exclude(kind=cls.Kind.TAG).filter(name__in=metrics).delete()
        rows = [cls._of(name, value) for name, value in metrics.items() if value is not None]
        if tags is not None:
            mine.filter(kind=cls.Kind.TAG).delete()
            rows += [cls(name=tag, kind=cls.Kind.TAG, number=1.0) for tag in dict.fromkeys(tags)]
        for row in rows:
            row.message, row.user = message, user
        Measure.objects.bulk_create(rows)

    @classmethod
    def _of(cls, name: str, value: bool | float | str) -> Measure:
        if isinstance(value, str):
            return cls(name=name, kind=cls.Kind.CATEGORY, category=value)
        kind = cls.Kind.BOOL if isinstance(value, bool) else cls.Kind.NUMBER
        return cls(name=name, kind=kind, number=float(value))
