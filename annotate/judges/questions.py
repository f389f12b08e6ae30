"""The queue of judges: each question is asked once, by whoever holds it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from annotate.judges.words import messages_for
from annotate.prompts.models import Messages, Prompt
from annotate.prompts.policies import Completion

LEASE = timedelta(seconds=45)
KEPT = 2000  # characters of a reply, from its end
INTERRUPTED = "The worker stopped while this was asked. The reply, if there was one, is lost."


class JudgeQuestionQuerySet(models.QuerySet["JudgeQuestion"]):
    def of_judge(self, judge: models.Model) -> JudgeQuestionQuerySet:
        return self.filter(ranking__judge=judge)

    def waiting(self) -> JudgeQuestionQuerySet:
        return self.filter(state=JudgeQuestion.State.WAITING)

    def answered(self) -> JudgeQuestionQuerySet:
        return self.filter(state=JudgeQuestion.State.ANSWERED)

    def unreadable(self) -> JudgeQuestionQuerySet:
        return self.filter(state=JudgeQuestion.State.UNREADABLE)

    def unfinished(self) -> JudgeQuestionQuerySet:
        return self.filter(state__in=(JudgeQuestion.State.WAITING, JudgeQuestion.State.ASKING))

    def counts(self) -> dict[str, int]:
        """State → how many."""
        rows = self.order_by().values_list("state").annotate(n=models.Count("pk"))
        return dict(rows)

    def troubles(self) -> list[str]:
        """Why some have no reply, the most frequent reason first."""
        rows = self.exclude(trouble="").order_by().values_list("trouble")
        return [each for each, _ in rows.annotate(n=models.Count("pk")).order_by("-n")[:3]]

    @transaction.atomic
    def claim(self, token: UUID) -> JudgeQuestion | None:
        """The first that waits, now held by `token`. What others are just claiming is passed by."""
        free = self.waiting().order_by("pk")
        question = free.select_for_update(skip_locked=True, no_key=True, of=("self",)).first()
        if question:
            question.state, question.token = JudgeQuestion.State.ASKING, token
            question.leased_until = timezone.now() + LEASE
            question.save(update_fields=["state", "token", "leased_until"])
        return question

    def hold(self, token: UUID) -> None:
        """Whoever holds them is still alive."""
        mine = self.filter(token=token, state=JudgeQuestion.State.ASKING)
        mine.update(leased_until=timezone.now() + LEASE)

    def give_up_lapsed(self) -> int:
        """Those whose worker died. Whether the server answered nobody knows, and a second call may
        cost: a person decides whether they are asked again."""
        lapsed = self.filter(state=JudgeQuestion.State.ASKING, leased_until__lt=timezone.now())
        return lapsed.update(state=JudgeQuestion.State.INTERRUPTED, trouble=INTERRUPTED)

    def cancel(self) -> int:
        """Asks none of those that wait; what is just being asked is heard to its end."""
        return self.waiting().update(state=JudgeQuestion.State.CANCELLED)

    def fail(self, trouble: str) -> int:
        """Ends those that wait with the reason why nobody can answer them."""
        return self.waiting().update(state=JudgeQuestion.State.FAILED, trouble=trouble[:300])

    def ask_again(self) -> int:
        """Returns those without an answer to the line, and says how many. A reply that could not
        be read is one: it was asked for twice."""
        ended = self.filter(
            state__in=(
                JudgeQuestion.State.FAILED,
                JudgeQuestion.State.INTERRUPTED,
                JudgeQuestion.State.CANCELLED,
            )
        )
        return ended.update(
            state=JudgeQuestion.State.WAITING, trouble="", token=None, leased_until=None, tries=0
        )


class JudgeQuestion(models.Model):
    """One verdict that is asked for: of one completion, or of two in this order."""

    class State(models.TextChoices):
        WAITING = "waiting"
        ASKING = "asking"
        ANSWERED = "answered"
        UNREADABLE = "unreadable"
        FAILED = "failed"
        INTERRUPTED = "interrupted"
        CANCELLED = "cancelled"

    ranking = models.ForeignKey("annotate.JudgeRanking", models.CASCADE, related_name="questions")
    first = models.ForeignKey(Completion, models.CASCADE, related_name="+")
    second = models.ForeignKey(Completion, models.CASCADE, null=True, related_name="+")
    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    token = models.UUIDField(null=True, editable=False, help_text="Of the worker that asks it.")
    leased_until = models.DateTimeField(null=True, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, help_text="A busy server put it back.")
    trouble = models.CharField(max_length=300, blank=True)
    said = models.CharField(max_length=3, blank=True, help_text="The verdict, as it was read.")
    reply = models.TextField(blank=True, help_text="The last one, or its end.")
    replies = models.PositiveSmallIntegerField(default=0, help_text="2: the first was unreadable.")
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField("milliseconds", null=True)
    price = models.DecimalField(max_digits=14, decimal_places=8, null=True)

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
        """Stores what was replied; without a verdict it is unreadable. False: the question is
        somebody else's by now, and nothing is stored."""
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

    def fail(self, trouble: str) -> bool:
        """Ends without an answer. False: as `answer`."""
        return self._end(state=self.State.FAILED, trouble=trouble[:300])

    def put_back(self) -> bool:
        """Returns it to the line: the server was too busy to be asked."""
        return self._end(state=self.State.WAITING, token=None, tries=self.tries + 1)

    def _end(self, **values: Any) -> bool:
        ended = (self.State.ANSWERED, self.State.UNREADABLE)
        mine = JudgeQuestion.objects.filter(pk=self.pk, token=self.token).exclude(state__in=ended)
        if not mine.update(leased_until=None, **values):
            return False
        for name, value in values.items():
            setattr(self, name, value)
        return True
