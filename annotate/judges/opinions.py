"""What judges say of single answers, for grids and suites: each answer is judged once by each
judge, whoever asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from annotate.chat.inference import InferenceError
from annotate.connections.asked_once import LEASE, WITHOUT_ANSWER, AskedOnce, AskedOnceQuerySet
from annotate.costs.recording import price_of
from annotate.judges.asking import heard
from annotate.judges.models import Judge
from annotate.judges.words import A, messages_for
from annotate.people.models import Project
from annotate.playground.asking import Said, sum_of
from annotate.prompts.models import Messages, content_hash
from feedback_site.answer_checks.judge import Judged
from feedback_site.pool import release_connections

KEPT = 2000  # characters of a reply, from its end
LOOK_AGAIN = 0.5  # seconds, for another worker's answer
LONGEST_LEASE = LEASE + timedelta(minutes=4)  # as a slow judge thinks
UNREADABLE = "The judge's reply could not be read."


class CannotJudge(Exception):
    """There is no such judge, or nothing to compare with; the message says what to do."""


class OpinionQuerySet(AskedOnceQuerySet):
    def free(self) -> OpinionQuerySet:
        """Those that nobody is just asking for: where a worker died, another asks again."""
        lapsed = Q(state=Opinion.State.ASKING, leased_until__lt=timezone.now())
        ended = Q(state__in=(Opinion.State.WAITING, *WITHOUT_ANSWER))
        return self.filter(lapsed | ended)

    def read_pairs(self) -> OpinionQuerySet:
        """Those in which an answer was compared with a reference, in both orders."""
        pairs = self.answered().filter(judge__form=Judge.Form.PAIR)
        return pairs.exclude(said=[])


class Opinion(AskedOnce):
    """The verdicts of a judge on one answer; none where its reply could not be read."""

    judge = models.ForeignKey(Judge, models.CASCADE, related_name="opinions")
    subject = models.CharField(max_length=64, help_text="Hash of conversation, answer, reference.")
    said = models.JSONField(default=list, help_text="See Judged.score_of.")
    reply = models.TextField(blank=True, help_text="The last one, or its end.")

    objects = OpinionQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["judge", "subject"], name="one_opinion_an_answer")
        ]

    def __str__(self) -> str:
        return f"{self.judge}: {', '.join(self.said)}"

    def answer(self, verdicts: Sequence[str | None], replies: Sequence[Said]) -> bool:
        """Stores what was replied; one reply that cannot be read leaves no verdict. False: the
        question is somebody else's by now, and nothing is stored."""
        usage = sum_of([each.usage for each in replies])
        is_readable = all(verdicts)
        return self._end(
            state=self.State.ANSWERED,
            trouble="" if is_readable else UNREADABLE,
            said=list(verdicts) if is_readable else [],
            reply=replies[-1].text[-KEPT:],
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            total_ms=sum(each.total_ms for each in replies),
            price=price_of(self.judge.policy, usage),
        )

    @property
    def first_wins(self) -> int:
        """In how many of the two orders the answer shown first won."""
        return sum(each == A for each in self.said)


def judge_of(project: Project, check: Judged) -> Judge:
    """The judge that a check names. Raises CannotJudge."""
    found = project.judges.in_use().named(check.judge).select_related("policy", "project").first()
    if found is None:
        known = ", ".join(project.judges.in_use().values_list("name", flat=True)) or "none yet"
        raise CannotJudge(f"There is no judge “{check.judge}”. The judges are: {known}.")
    return found


def subject_of(conversation: Messages, answer: str, reference: str) -> str:
    return content_hash([conversation, answer, reference])


def known_score(judge: Judge, check: Judged, conversation: Messages, answer: str) -> float:
    """What was said of an answer without a reference; 0 where nothing could be read."""
    subject = subject_of(conversation, answer, "")
    found = judge.opinions.answered().filter(subject=subject).first()
    return check.score_of(found.said) if found else 0.0


def opinion_of(judge: Judge, conversation: Messages, answer: str, reference: str = "") -> Opinion:
    """What the judge says of an answer; it is asked where it has not been. Raises InferenceError,
    and CannotJudge where it compares with a reference and there is none."""
    if judge.form == Judge.Form.PAIR and not reference.strip():
        raise CannotJudge(f"{judge} compares with the reference answer, and there is none.")
    compared = reference if judge.form == Judge.Form.PAIR else ""
    subject = subject_of(conversation, answer, compared)
    opinion, _ = judge.opinions.get_or_create(subject=subject)
    while opinion.state != Opinion.State.ANSWERED:
        opinion.token = uuid4()
        mine = judge.opinions.filter(pk=opinion.pk).free()
        if mine.update(
            state=Opinion.State.ASKING,
            token=opinion.token,
            leased_until=timezone.now() + LONGEST_LEASE,
        ):
            _ask(opinion, conversation, answer, compared)
        else:  # another worker is asking
            release_connections()
            time.sleep(LOOK_AGAIN)
        opinion.refresh_from_db()
    return opinion


def _ask(opinion: Opinion, conversation: Messages, answer: str, reference: str) -> None:
    judge = opinion.judge
    speaker = judge.speaker
    replies: list[Said] = []
    verdicts = []
    try:
        for asked in _questions(judge, opinion.subject, conversation, answer, reference):
            verdicts.append(heard(judge.words, speaker, asked, replies))
    except InferenceError as error:
        opinion.fail(str(error))
        raise
    opinion.answer(verdicts, replies)


def _questions(
    judge: Judge, subject: str, conversation: Messages, answer: str, reference: str
) -> Iterator[Messages]:
    """One, or two where the answer is compared with the reference: it comes first, then second."""
    shown: list[Sequence[str]] = [[answer]]
    if judge.form == Judge.Form.PAIR:
        shown = [[answer, reference], [reference, answer]]
    for number, answers in enumerate(shown):
        key = f"{judge.pk} {subject} {number}"
        mark = salted_hmac("annotate.judges.opinion", key).hexdigest()[:16]
        yield messages_for(
            judge.words, rubric=judge.rubric, prompt=conversation, answers=answers, mark=mark
        )
