"""The cells of a grid: each is asked once, by whoever holds it, and keeps what it cost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone

from annotate.playground.grids import Grid
from annotate.prompts.models import Messages, Prompt
from annotate.prompts.passages import Read
from annotate.prompts.policies import Completion, Policy

LEASE = timedelta(seconds=45)
INTERRUPTED = "The worker stopped while this was asked. The answer, if there was one, is lost."


class CellQuerySet(models.QuerySet["Cell"]):
    def answered(self) -> CellQuerySet:
        return self.filter(state=Cell.State.ANSWERED)

    def waiting(self) -> CellQuerySet:
        return self.filter(state=Cell.State.WAITING)

    def first_samples(self) -> CellQuerySet:
        return self.filter(sample=0)

    def unfinished(self) -> CellQuerySet:
        return self.filter(state__in=(Cell.State.WAITING, Cell.State.ASKING))

    def to_ask_again(self) -> CellQuerySet:
        """Those that ended without an answer."""
        return self.filter(
            state__in=(Cell.State.FAILED, Cell.State.INTERRUPTED, Cell.State.CANCELLED)
        )

    def in_columns(self, columns: Collection[int]) -> CellQuerySet:
        return self.filter(column__in=columns)

    def in_rows(self, rows: Collection[int]) -> CellQuerySet:
        return self.filter(row__in=rows)

    def saying(self, words: str) -> CellQuerySet:
        return self.filter(text__icontains=words)

    def in_short(self, characters: int) -> CellQuerySet:
        """With `start`, so many characters of each text, instead of the whole."""
        start = models.functions.Left("text", characters)
        length = models.functions.Length("text")
        return self.defer("text", "between", "passages").annotate(start=start, length=length)

    @transaction.atomic
    def claim(self, token: UUID) -> Cell | None:
        """The first that waits, now held by `token`. What others are just claiming is passed by."""
        free = self.waiting().order_by("row", "column", "sample")
        cell = free.select_for_update(skip_locked=True, no_key=True).first()
        if cell:
            cell.state, cell.token = Cell.State.ASKING, token
            cell.leased_until = timezone.now() + LEASE
            cell.save(update_fields=["state", "token", "leased_until"])
        return cell

    def hold(self, token: UUID) -> None:
        """Whoever holds them is still alive."""
        mine = self.filter(token=token, state=Cell.State.ASKING)
        mine.update(leased_until=timezone.now() + LEASE)

    def give_up_lapsed(self) -> int:
        """Those whose worker died. Whether the server answered nobody knows, and a second call may
        cost: a person decides whether they are asked again."""
        lapsed = self.filter(state=Cell.State.ASKING, leased_until__lt=timezone.now())
        return lapsed.update(state=Cell.State.INTERRUPTED, trouble=INTERRUPTED)

    def cancel(self) -> int:
        """Asks none of those that wait; what is just being asked is heard to its end."""
        return self.waiting().update(state=Cell.State.CANCELLED)

    def ask_again(self) -> int:
        """Returns those without an answer to the line, and says how many."""
        return self.to_ask_again().update(
            state=Cell.State.WAITING, trouble="", token=None, leased_until=None, tries=0
        )

    def fail(self, trouble: str) -> int:
        """Ends those that wait with the reason why nobody can answer them."""
        return self.waiting().update(state=Cell.State.FAILED, trouble=trouble)


class Cell(models.Model):
    class State(models.TextChoices):
        WAITING = "waiting"
        ASKING = "asking"
        ANSWERED = "answered"
        FAILED = "failed"
        INTERRUPTED = "interrupted"
        CANCELLED = "cancelled"

    grid = models.ForeignKey(Grid, models.CASCADE, related_name="cells")
    row = models.PositiveSmallIntegerField()
    column = models.PositiveSmallIntegerField()
    sample = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    token = models.UUIDField(null=True, editable=False, help_text="Of the worker that asks it.")
    leased_until = models.DateTimeField(null=True, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, help_text="A busy server put it back.")
    trouble = models.CharField(max_length=300, blank=True)
    text = models.TextField(blank=True)
    between = models.JSONField(default=list, help_text="The model's answers before the last.")
    passages = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="What was read for the last answer; see prompts.passages.",
    )
    finish_reason = models.CharField(max_length=20, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    first_ms = models.PositiveIntegerField("milliseconds to the first token", null=True)
    total_ms = models.PositiveIntegerField("milliseconds", null=True)
    price = models.DecimalField(max_digits=14, decimal_places=8, null=True)
    scores = models.JSONField(default=dict, help_text="Name of a check → 0 to 1.")

    objects = CellQuerySet.as_manager()

    class Meta:
        ordering = ["row", "column", "sample"]
        constraints = [
            models.UniqueConstraint(
                fields=["grid", "row", "column", "sample"], name="one_answer_a_cell"
            )
        ]
        indexes = [
            models.Index(
                fields=["grid", "row"],
                condition=models.Q(state__in=("waiting", "asking")),
                name="cells_to_ask",
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def can_be_asked_again(self) -> bool:
        return self.state in (self.State.FAILED, self.State.INTERRUPTED, self.State.CANCELLED)

    def answer(
        self,
        *,
        text: str,
        finish_reason: str,
        between: Collection[str] = (),
        usage: dict[str, int] | None = None,
        first_ms: int | None = None,
        total_ms: int | None = None,
        price: Decimal | None = None,
        passages: Sequence[Read] = (),
    ) -> bool:
        """Stores the answer and the scores of the grid's checks. False: the cell is somebody else's
        by now, and nothing is stored."""
        reference = self.grid.row(self.row).reference
        checks = self.grid.named_checks()
        tokens, read = usage or {}, [each["text"] for each in passages]
        return self._end(
            state=self.State.ANSWERED,
            trouble="",
            text=text,
            between=list(between),
            finish_reason=finish_reason[:20],
            prompt_tokens=tokens.get("prompt_tokens"),
            completion_tokens=tokens.get("completion_tokens"),
            first_ms=first_ms,
            total_ms=total_ms,
            price=price,
            passages=list(passages),
            scores={name: check.score(text, reference, read) for name, check in checks.items()},
        )

    def fail(self, trouble: str) -> bool:
        """Ends without an answer. False: as `answer`."""
        return self._end(state=self.State.FAILED, trouble=trouble[:300])

    def put_back(self) -> bool:
        """Returns it to the line: the server was too busy to be asked."""
        return self._end(state=self.State.WAITING, token=None, tries=self.tries + 1)

    def _end(self, **values: Any) -> bool:
        """An answer after its lease is welcome, unless the cell was asked again since; and what is
        answered stays so."""
        mine = Cell.objects.filter(pk=self.pk, token=self.token).exclude(state=self.State.ANSWERED)
        if not mine.update(leased_until=None, **values):
            return False
        for name, value in values.items():
            setattr(self, name, value)
        return True

    def as_completion(self, prompt: Prompt, policies: list[Policy]) -> Completion:
        """The same one however often it is asked for."""
        policy = policies[self.column]
        outside = policy.is_elsewhere
        said = {
            "prompt": prompt,
            "policy": policy,
            "text": self.text,
            "source": Completion.Source.SAMPLED,
            "sampling": {
                "grid": self.grid_id,
                "temperature": policy.temperature,
                "max_new_tokens": policy.max_new_tokens,
                **({"provider": policy.provider, "model": policy.model_name} if outside else {}),
            },
            "template_hash": policy.template_hash,
            "passages": self.passages,
            "finish_reason": self.finish_reason,
        }
        known = Completion.objects.filter(**said).first()
        return known or Completion.objects.create(**said)

    @property
    def ordered_scores(self) -> list[tuple[str, float]]:
        """In the order in which the grid names its checks."""
        return [
            (name, self.scores[name]) for name in self.grid.named_checks() if name in self.scores
        ]

    @property
    def said(self) -> Messages:
        """The conversation that was had, without the words of the column."""
        row = self.grid.row(self.row)
        turns = [*row.messages]
        for answer, turn in zip(self.between, row.then, strict=False):
            turns += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": turn},
            ]
        return turns
