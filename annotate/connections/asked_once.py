"""What models are asked in the background: each question once, by whoever holds it.

Questions wait in a line. A worker claims one, holds it while the model answers, and stores what
came of it; what a worker was just asking when it died is not asked again by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone

LEASE = timedelta(seconds=45)
INTERRUPTED = "The worker stopped while this was asked. The answer, if there was one, is lost."


class State(models.TextChoices):
    WAITING = "waiting"
    ASKING = "asking"
    ANSWERED = "answered"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


WITHOUT_ANSWER = (State.FAILED, State.INTERRUPTED, State.CANCELLED)


class AskedOnceQuerySet(models.QuerySet[Any]):
    def answered(self) -> Self:
        return self.filter(state=State.ANSWERED)

    def waiting(self) -> Self:
        return self.filter(state=State.WAITING)

    def unfinished(self) -> Self:
        return self.filter(state__in=(State.WAITING, State.ASKING))

    def to_ask_again(self) -> Self:
        """Those that ended without an answer."""
        return self.filter(state__in=WITHOUT_ANSWER)

    @transaction.atomic
    def claim(self, token: UUID) -> Any:
        """The first that waits, now held by `token`; None where nothing does. What others are just
        claiming is passed by."""
        free = self.waiting().select_for_update(skip_locked=True, no_key=True, of=("self",))
        found = free.first()
        if found:
            found.state, found.token = State.ASKING, token
            found.leased_until = timezone.now() + LEASE
            found.save(update_fields=["state", "token", "leased_until"])
        return found

    def hold(self, token: UUID) -> None:
        """Whoever holds them is still alive."""
        mine = self.filter(token=token, state=State.ASKING)
        mine.update(leased_until=timezone.now() + LEASE)

    def give_up_lapsed(self) -> int:
        """Those whose worker died. Whether the server answered nobody knows, and a second call may
        cost: a person decides whether they are asked again."""
        lapsed = self.filter(state=State.ASKING, leased_until__lt=timezone.now())
        return lapsed.update(state=State.INTERRUPTED, trouble=INTERRUPTED)

    def cancel(self) -> int:
        """Asks none of those that wait; what is just being asked is heard to its end."""
        return self.waiting().update(state=State.CANCELLED)

    def ask_again(self) -> int:
        """Returns those without an answer to the line, and says how many."""
        return self.to_ask_again().update(
            state=State.WAITING, trouble="", token=None, leased_until=None, tries=0
        )

    def fail(self, trouble: str) -> int:
        """Ends those that wait with the reason why nobody can answer them."""
        return self.waiting().update(state=State.FAILED, trouble=trouble[:300])


class AskedOnce(models.Model):
    """A question to a model, and what its answer cost. The line is in the order of its rows."""

    State = State
    ENDED: tuple[str, ...] = (State.ANSWERED,)  # what stays, whatever comes later

    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    token = models.UUIDField(null=True, editable=False, help_text="Of the worker that asks it.")
    leased_until = models.DateTimeField(null=True, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, help_text="A busy server put it back.")
    trouble = models.CharField(max_length=300, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField("milliseconds", null=True)
    price = models.DecimalField(max_digits=14, decimal_places=8, null=True)

    class Meta:
        abstract = True

    def fail(self, trouble: str) -> bool:
        """Ends without an answer. False: the question is somebody else's by now, and nothing is
        stored."""
        return self._end(state=State.FAILED, trouble=trouble[:300])

    def put_back(self) -> bool:
        """Returns it to the line: the server was too busy to be asked."""
        return self._end(state=State.WAITING, token=None, tries=self.tries + 1)

    def _end(self, **values: Any) -> bool:
        """An answer after its lease is welcome, unless the question was asked again since; and what
        is answered stays so."""
        rows = type(self)._default_manager.filter(pk=self.pk, token=self.token)
        if not rows.exclude(state__in=self.ENDED).update(leased_until=None, **values):
            return False
        for name, value in values.items():
            setattr(self, name, value)
        return True
