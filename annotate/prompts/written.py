"""Answers of policies while they are being written, by one process that others may follow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

from django.db import connection, models
from django.db.models import Case, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

# An answer that nobody was heard writing for so long will not come any more.
SILENCE = timedelta(seconds=30)


class WrittenQuerySet(models.QuerySet[Any]):
    def _with_sign_of_life(self) -> Self:
        return self.filter(state=Written.State.STREAMING).alias(
            alive_at=Coalesce("heard_at", "created_at")
        )

    def running(self) -> Self:
        return self._with_sign_of_life().filter(alive_at__gt=Now() - SILENCE)

    def hear(self, said: Mapping[int, str]) -> set[int]:
        """Saves what has come so far of each of these, by id, with a sign of life, all in one
        statement. Returns those still to be written: somebody has stopped the others."""
        table = connection.ops.quote_name(self.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} SET text = said.text, heard_at = STATEMENT_TIMESTAMP()"
                " FROM UNNEST(%s::bigint[], %s::text[]) AS said (id, text)"
                f" WHERE {table}.id = said.id AND state = %s"
                " AND COALESCE(heard_at, created_at) > STATEMENT_TIMESTAMP() - %s * INTERVAL '1 s'"
                f" RETURNING {table}.id",
                [[*said], [*said.values()], Written.State.STREAMING.value, SILENCE.total_seconds()],
            )
            return {pk for (pk,) in cursor.fetchall()}

    def broken_off(self) -> Self:
        """Whoever was writing them has died without a word."""
        return self._with_sign_of_life().filter(alive_at__lte=Now() - SILENCE)


class Written(models.Model):
    """A text that a policy writes piece by piece. It keeps exactly what it is made of: policy,
    context, sampling."""

    class State(models.TextChoices):
        STREAMING = "streaming"
        DONE = "done"
        STOPPED = "stopped", "stopped by the guest"
        FAILED = "failed"

    BROKE_OFF = "The answer was interrupted. The text so far is kept."

    # As the process that writes the answer is told, and not stored: the place in the model server's
    # line, and the pieces of calls of tools, which go to whoever asked.
    place = 0
    calls: tuple[dict[str, Any], ...] = ()

    text = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.DONE)
    failure = models.CharField(max_length=300, blank=True, help_text="Why it failed.")
    context = models.JSONField(default=list, help_text="The messages the model was given.")
    passages = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="What the model was given to read; see prompts.passages.",
    )
    sampling = models.JSONField(default=dict)
    finish_reason = models.CharField(max_length=20, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, help_text="As its server counts.")
    completion_tokens = models.PositiveIntegerField(null=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField(null=True)
    heard_at = models.DateTimeField(
        null=True, help_text="The last sign of life of the process that writes the answer."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    policy: Any  # a field of each table: its relation has a name of its own there
    use: Any  # what the policy was asked for; see annotate.costs.uses
    asked: Any  # the conversation it answers, without what the policy adds

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def is_broken_off(self) -> bool:
        alive_at = self.heard_at or self.created_at
        return self.state == self.State.STREAMING and alive_at <= timezone.now() - SILENCE

    @property
    def is_running(self) -> bool:
        return self.state == self.State.STREAMING and not self.is_broken_off

    @property
    def trouble(self) -> str:
        """What went wrong with it, in a sentence."""
        if self.is_broken_off:
            return self.BROKE_OFF
        return self.failure if self.state == self.State.FAILED else ""

    @property
    def is_whole(self) -> bool:
        """Whether there is an answer that can be judged."""
        return self.state == self.State.DONE and bool(self.text.strip())

    @property
    def is_raw(self) -> bool:
        """Whether it goes on with a raw text, outside any chat template."""
        return bool(self.sampling.get("is_raw"))

    @property
    def _row(self) -> WrittenQuerySet:
        return WrittenQuerySet(type(self)).filter(pk=self.pk)

    def begin(self) -> bool:
        """Claims the writing of the answer; True for one caller only."""
        return self._row.running().filter(heard_at=None).update(heard_at=Now()) == 1

    def read(self, passages: list[Any]) -> None:
        """Keeps the passages it is going to be made of, and what the model is told with them."""
        self.passages, self.context = passages, self.policy.messages_for(self.asked, passages)
        self.save(update_fields=["passages", "context"])

    def hear(self, text: str) -> bool:
        """Saves what has come so far, with a sign of life. False: somebody has stopped it."""
        return bool(WrittenQuerySet(type(self)).hear({self.pk: text}))

    def end(self, *, state: str, text: str, **facts: Any) -> None:
        """The last word of the process that wrote it. A stop that came before stays a stop."""
        stopped = self.State.STOPPED
        self._row.filter(state__in=(self.State.STREAMING, stopped)).update(
            state=Case(When(state=stopped, then=Value(stopped)), default=Value(state)),
            text=text,
            heard_at=Now(),
            **facts,
        )
        self.refresh_from_db(fields=["state", "text", "heard_at", *facts])

    def stop(self) -> bool:
        return self._row.filter(state=self.State.STREAMING).update(state=self.State.STOPPED) == 1
