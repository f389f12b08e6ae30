"""The cells of a grid: each is asked once, by whoever holds it, and keeps what it cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from django.db import models

from annotate.connections.asked_once import WITHOUT_ANSWER, AskedOnce, AskedOnceQuerySet
from annotate.playground.grids import Grid
from annotate.prompts.models import Messages, Prompt
from annotate.prompts.passages import Read
from annotate.prompts.policies import Completion, Policy


class CellQuerySet(AskedOnceQuerySet):
    def unjudged(self) -> CellQuerySet:
        """Those whose answer is there, and a judge's verdict is not."""
        return self.filter(unjudged=True)

    def missing_verdict(self) -> CellQuerySet:
        """Those that are answered, and that no judge could be asked about."""
        return self.answered().exclude(trouble="")

    def first_samples(self) -> CellQuerySet:
        return self.filter(sample=0)

    def in_columns(self, columns: Collection[int]) -> CellQuerySet:
        return self.filter(column__in=columns)

    def in_rows(self, rows: Collection[int]) -> CellQuerySet:
        return self.filter(row__in=rows)

    def saying(self, words: str) -> CellQuerySet:
        return self.filter(text__icontains=words)

    def ask_again(self) -> int:
        """Also for the verdicts that are missing."""
        self.to_ask_again().update(text="")
        return super().ask_again() + self.missing_verdict().update(trouble="", unjudged=True)

    def in_short(self, characters: int) -> CellQuerySet:
        """With `start`, so many characters of each text, instead of the whole."""
        start = models.functions.Left("text", characters)
        length = models.functions.Length("text")
        return self.defer("text", "between", "turns", "passages").annotate(
            start=start, length=length
        )


class Cell(AskedOnce):
    grid = models.ForeignKey(Grid, models.CASCADE, related_name="cells")
    row = models.PositiveSmallIntegerField()
    column = models.PositiveSmallIntegerField()
    sample = models.PositiveSmallIntegerField(default=0)
    text = models.TextField(blank=True, help_text="While it is asked: as far as it has come.")
    between = models.JSONField(default=list, help_text="The model's answers before the last.")
    turns = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="The user's turns after the first, where no row had them written.",
    )
    passages = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="What was read for the last answer; see prompts.passages.",
    )
    finish_reason = models.CharField(max_length=20, blank=True)
    first_ms = models.PositiveIntegerField("milliseconds to the first token", null=True)
    unjudged = models.BooleanField(
        default=False, db_default=False, help_text="A check of it is a judge, who is still asked."
    )
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
            ),
            models.Index(fields=["grid"], condition=models.Q(unjudged=True), name="cells_to_judge"),
        ]

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def can_be_asked_again(self) -> bool:
        return self.state in WITHOUT_ANSWER

    def answer(
        self,
        *,
        text: str,
        finish_reason: str,
        between: Sequence[str] = (),
        turns: Collection[str] = (),
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
        asked = {name for name, check in checks.items() if check.asks_a_model}
        tokens, read = usage or {}, [each["text"] for each in passages]
        return self._end(
            state=self.State.ANSWERED,
            trouble="",
            text=text,
            between=list(between),
            turns=list(turns),
            finish_reason=finish_reason[:20],
            prompt_tokens=tokens.get("prompt_tokens"),
            completion_tokens=tokens.get("completion_tokens"),
            first_ms=first_ms,
            total_ms=total_ms,
            price=price,
            passages=list(passages),
            scores={
                name: check.score(text, reference, read, between)
                for name, check in checks.items()
                if name not in asked and (reference or not check.needs_reference)
            },
            unjudged=bool(asked) and bool(text.strip()),
        )

    def judge(self, scores: Mapping[str, float], *, trouble: str = "") -> None:
        """Adds what judges say of its answer, or why they could not be asked."""
        mine = Cell.objects.unjudged().filter(pk=self.pk)
        mine.update(scores={**self.scores, **scores}, trouble=trouble[:300], unjudged=False)

    def hear(self, so_far: str) -> None:
        """Shows how far its answer has come."""
        mine = Cell.objects.filter(pk=self.pk, token=self.token, state=self.State.ASKING)
        mine.update(text=so_far)

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
    def sent(self) -> Messages:
        """All that the model was sent for the last answer."""
        return self.grid.policy(self.column).messages_for(self.said, self.passages)

    @property
    def said(self) -> Messages:
        """The conversation that was had, without the words of the column."""
        row = self.grid.row(self.row)
        turns = [*row.messages]
        for answer, turn in zip(self.between, self.turns or row.then, strict=False):
            turns += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": turn},
            ]
        return turns
