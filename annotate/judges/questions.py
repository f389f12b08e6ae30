"""The queue of judges: each question is asked once, by whoever holds it."""

from __future__ import annotations

from decimal import Decimal

from django.db import models, transaction
from django.utils.crypto import salted_hmac

from annotate.connections.asked_once import AskedOnce, AskedOnceQuerySet
from annotate.judges.words import messages_for
from annotate.prompts.models import Messages, Prompt
from annotate.prompts.policies import Completion

KEPT = 2000  # characters of a reply, from its end


class JudgeQuestionQuerySet(AskedOnceQuerySet):
    def of_judge(self, judge: models.Model) -> JudgeQuestionQuerySet:
        return self.filter(ranking__judge=judge)

    def unreadable(self) -> JudgeQuestionQuerySet:
        return self.filter(state=JudgeQuestion.State.UNREADABLE)

    def counts(self) -> dict[str, int]:
        """State → how many."""
        rows = self.order_by().values_list("state").annotate(n=models.Count("pk"))
        return dict(rows)

    def troubles(self) -> list[str]:
        """Why some have no reply, the most frequent reason first."""
        rows = self.exclude(trouble="").order_by().values_list("trouble")
        return [each for each, _ in rows.annotate(n=models.Count("pk")).order_by("-n")[:3]]


class JudgeQuestion(AskedOnce):
    """One verdict that is asked for: of one completion, or of two in this order. A reply that
    could not be read is an end too: it was asked for twice."""

    class State(models.TextChoices):
        WAITING = "waiting"
        ASKING = "asking"
        ANSWERED = "answered"
        UNREADABLE = "unreadable"
        FAILED = "failed"
        INTERRUPTED = "interrupted"
        CANCELLED = "cancelled"

    ENDED = (State.ANSWERED, State.UNREADABLE)

    ranking = models.ForeignKey("annotate.JudgeRanking", models.CASCADE, related_name="questions")
    first = models.ForeignKey(Completion, models.CASCADE, related_name="+")
    second = models.ForeignKey(Completion, models.CASCADE, null=True, related_name="+")
    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    said = models.CharField(max_length=3, blank=True, help_text="The verdict, as it was read.")
    reply = models.TextField(blank=True, help_text="The last one, or its end.")
    replies = models.PositiveSmallIntegerField(default=0, help_text="2: the first was unreadable.")

    objects = JudgeQuestionQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["ranking", "first", "second"],
                nulls_distinct=False,
                name="one_question_an_order",
            )
        ]
        indexes = [
            models.Index(
                fields=["ranking"],
                condition=models.Q(state__in=("waiting", "asking")),
                name="judge_questions_to_ask",
            )
        ]

    def __str__(self) -> str:
        return f"question {self.pk}"

    def messages(self, prompt: Prompt) -> Messages:
        """What the model is asked. The mark follows from the question, and nobody can tell it
        without the site's secret key."""
        judge = self.ranking.judge
        answers = [self.first.text] + ([self.second.text] if self.second else [])
        mark = salted_hmac("annotate.judges.mark", str(self.pk)).hexdigest()[:16]
        return messages_for(
            judge.words, rubric=judge.rubric, prompt=prompt.messages, answers=answers, mark=mark
        )

    @transaction.atomic
    def answer(
        self,
        *,
        said: str | None,
        reply: str,
        replies: int,
        usage: dict[str, int] | None = None,
        total_ms: int | None = None,
        price: Decimal | None = None,
    ) -> bool:
        """Stores what was replied, and the ranking if it was the last reply that this waited for;
        without a verdict it is unreadable. False: the question is somebody else's by now, and
        nothing is stored."""
        tokens = usage or {}
        stored = self._end(
            state=self.State.ANSWERED if said else self.State.UNREADABLE,
            trouble="",
            said=said or "",
            reply=reply[-KEPT:],
            replies=replies,
            prompt_tokens=tokens.get("prompt_tokens"),
            completion_tokens=tokens.get("completion_tokens"),
            total_ms=total_ms,
            price=price,
        )
        if stored and said:
            self.ranking.settle()
        return stored
