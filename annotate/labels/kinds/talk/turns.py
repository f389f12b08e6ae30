"""What is said in a talk, stored as it is said: plan, turns, and the two answers to each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models, transaction
from django.db.models import Count, Q
from django.db.models.functions import Now

from annotate.costs.uses import Use
from annotate.labels.kinds.ranking.answer import FLAG_GROUPS, Placement, Ranking
from annotate.people.models import Project, User
from annotate.prompts.models import LONGEST_PROMPT, Messages
from annotate.prompts.policies import Completion, Policy
from annotate.prompts.written import Written
from annotate.work.assignments import Assignment
from annotate.work.letters import letter_of
from annotate.work.tasks import Task

HARMS = [(flag.value, str(flag.label)) for flag in FLAG_GROUPS["Harm"]]
MOST_TURNS = 20
LIVELY = 1.0  # the temperature of a policy that would say the same thing twice
OVER = "This talk is over. Look for it in My work."
MOVED_ON = "The talk has moved on since you opened this page. Here it is as it stands."
TOO_LONG = f"The talk is too long for the models: at most {LONGEST_PROMPT:,} characters fit."


class TalkPlan(models.Model):
    """What people are asked to talk about, with whom and for how long. Its tasks are a batch."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="talk_plans")
    first = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    second = models.ForeignKey(
        Policy, models.PROTECT, null=True, blank=True, related_name="+", help_text="Null: the first"
    )
    goal = models.TextField()
    harm = models.CharField(max_length=30, choices=HARMS, blank=True, help_text="Of a red team.")
    length = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(MOST_TURNS)],
        help_text="Turns; 0: as many as the labeler likes.",
    )
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.goal[:60]

    @classmethod
    def of(cls, task: Task) -> TalkPlan:
        plans = cls.objects.select_related("first", "second", "project")
        return plans.get(pk=int(task.batch.removeprefix("talk ")), project=task.project_id)

    @property
    def batch(self) -> str:
        return f"talk {self.pk}"

    @property
    def speakers(self) -> list[Policy]:
        """The two that answer each turn; one of them twice, where there is no other."""
        return [self.first, self.second or self.first]

    @property
    def tags(self) -> list[str]:
        return ["talk", "red team", self.harm] if self.harm else ["talk"]

    @property
    def progress(self) -> dict[str, int]:
        tasks = self.project.tasks.of_batch(self.batch).of_kind(Task.Kind.TALK)
        return tasks.aggregate(asked=Count("pk"), done=Count("pk", filter=~Q(closed_at=None)))


class TurnQuerySet(models.QuerySet["Turn"]):
    def kept(self) -> Self:
        """Without those that the labeler has set aside, by going back to say it differently."""
        return self.filter(set_aside_at=None)

    def set_aside(self) -> Self:
        return self.exclude(set_aside_at=None)

    def decided(self) -> Self:
        return self.exclude(choice="")

    def with_answers(self) -> Self:
        return self.select_related("assignment").prefetch_related("answers__policy")


class Turn(models.Model):
    """What a labeler said, what two policies answered, and which of the answers goes on."""

    BOTH_BAD, SAME = "bad", "same"
    # From the first answer being much better to the second being so, as a ranking of two has it.
    CHOICES: ClassVar[tuple[tuple[str, str], ...]] = (
        ("a4", "A much better"),
        ("a3", "A better"),
        ("a2", "A slightly better"),
        ("a1", "A barely better"),
        ("tie", "equally good"),
        ("b1", "B barely better"),
        ("b2", "B slightly better"),
        ("b3", "B better"),
        ("b4", "B much better"),
        (BOTH_BAD, "both bad"),
        (SAME, "both said the same"),
    )

    assignment = models.ForeignKey(Assignment, models.PROTECT, related_name="turns")
    number = models.PositiveSmallIntegerField()
    said = models.TextField()
    choice = models.CharField(max_length=4, choices=CHOICES, blank=True)
    edited = models.TextField(
        blank=True, help_text="The chosen answer as the labeler corrected it; empty: as it was."
    )
    prompt = models.ForeignKey(
        "annotate.Prompt",
        models.PROTECT,
        null=True,
        related_name="+",
        help_text="The talk up to here, once it is data.",
    )
    ranking = models.ForeignKey(
        Ranking, models.PROTECT, null=True, related_name="turns", help_text="Its newest revision."
    )
    edit = models.ForeignKey(
        "annotate.Edit", models.PROTECT, null=True, related_name="+", help_text="As above."
    )
    set_aside_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TurnQuerySet.as_manager()

    class Meta:
        ordering = ["number", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["assignment", "number"],
                condition=Q(set_aside_at=None),
                name="one_turn_a_number",
            )
        ]

    def __str__(self) -> str:
        return self.said[:60]

    @property
    def pair(self) -> list[TurnAnswer]:
        """Both answers, in the order in which this labeler sees them."""
        return sorted(self.answers.all(), key=lambda answer: answer.place)

    @property
    def is_being_written(self) -> bool:
        return any(answer.is_running for answer in self.pair)

    @property
    def is_ready(self) -> bool:
        """Whether both answers are there to be judged."""
        return all(answer.is_whole for answer in self.pair)

    @property
    def is_same(self) -> bool:
        first, second = (Completion.hash_of(answer.text) for answer in self.pair)
        return first == second

    @property
    def better(self) -> TurnAnswer:
        """The answer that goes on: the better one; of two alike the one shown first, which a lot
        has put there."""
        return self.pair[1 if self.choice.startswith("b") and self.choice[1:].isdigit() else 0]

    @property
    def going_on(self) -> str:
        """What the talk goes on with."""
        return self.edited or self.better.text

    @property
    def strength(self) -> int | None:
        return int(self.choice[1:]) if self.choice[1:].isdigit() else None

    @property
    def outcome(self) -> str:
        bad = self.choice == self.BOTH_BAD
        return Ranking.Outcome.ALL_BAD if bad else Ranking.Outcome.RANKED

    @property
    def places(self) -> list[int]:
        """Of the first and the second answer."""
        if self.strength is None:
            return [1, 1]
        return [1, 2] if self.choice.startswith("a") else [2, 1]


class TurnAnswer(Written):
    """What one of the policies answered. Nobody sees which."""

    turn = models.ForeignKey(Turn, models.CASCADE, related_name="answers")
    place = models.PositiveSmallIntegerField(help_text="0 is shown first, as A. Drawn by lot.")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    completion = models.ForeignKey(
        Completion, models.PROTECT, null=True, related_name="+", help_text="Once it is data."
    )

    class Meta:
        ordering = ["place"]
        constraints = [models.UniqueConstraint(fields=["turn", "place"], name="one_answer_a_place")]

    @property
    def asked(self) -> Messages:
        return asked_in(turns_of(self.turn.assignment), self.turn)

    @property
    def use(self) -> str:
        return Use.TALK

    @property
    def letter(self) -> str:
        return letter_of(self.place)

    @property
    def trouble(self) -> str:
        if self.state == self.State.DONE and not self.is_whole:
            return "The model gave an empty answer."
        return super().trouble

    @transaction.atomic
    def retry(self) -> None:
        """Asks the policy again, where its answer failed. What came of it is no data."""
        TurnAnswer.objects.select_for_update().get(pk=self.pk)
        fields = ("state", "text", "failure", "finish_reason", "heard_at", "created_at")
        self.refresh_from_db(fields=fields)
        if not self.trouble:
            return
        TurnAnswer.objects.filter(pk=self.pk).update(
            state=self.State.STREAMING,
            text="",
            failure="",
            finish_reason="",
            heard_at=None,
            created_at=Now(),
        )
        self.refresh_from_db(fields=fields)


def said_so_far(turns: Sequence[Turn]) -> Messages:
    """The talk as messages, with the answer that went on after each turn."""
    return [message for turn in turns for message in _exchange(turn)]


def asked_in(turns: Sequence[Turn], turn: Turn) -> Messages:
    """What the answers to a turn answer: the talk up to what was said in it."""
    before = said_so_far([each for each in turns if each.number < turn.number])
    return [*before, {"role": "user", "content": turn.said}]


def _exchange(turn: Turn) -> Messages:
    return [
        {"role": "user", "content": turn.said},
        {"role": "assistant", "content": turn.going_on},
    ]


def turns_of(work: Assignment) -> list[Turn]:
    """The turns of a talk as it stands, each with its answers."""
    return list(work.turns.kept().with_answers())


@transaction.atomic
def say(work: Assignment, *, text: str, number: int) -> Turn:
    """Says something as turn `number`, counted from 1, and has both policies answer it. Said twice,
    it is there once. Raises ValidationError where the talk does not stand there."""
    _hold(work)
    turns = turns_of(work)
    if turns and turns[-1].number == number and turns[-1].said == text:
        return turns[-1]
    plan = TalkPlan.of(work.task)
    if number != len(turns) + 1 or (turns and not turns[-1].choice):
        raise ValidationError(MOVED_ON)
    if plan.length and number > plan.length:
        raise ValidationError(f"This talk ends after {plan.length} turns.")
    turn = Turn.objects.create(assignment=work, number=number, said=text)
    asked = asked_in(turns, turn)
    if sum(len(each["content"]) for each in asked) > LONGEST_PROMPT:
        raise ValidationError(TOO_LONG)
    speakers = random.SystemRandom().sample(plan.speakers, 2)
    for place, policy in enumerate(speakers):
        TurnAnswer.objects.create(
            turn=turn,
            place=place,
            policy=policy,
            state=Written.State.STREAMING,
            context=policy.messages_for(asked),
            sampling=_sampling(policy, alone=plan.second_id is None),
        )
    return turns_of(work)[-1]


def _sampling(policy: Policy, *, alone: bool) -> dict[str, Any]:
    temperature = policy.temperature
    if alone and not temperature:
        temperature = LIVELY
    return {"temperature": temperature, "max_tokens": policy.max_new_tokens}


@transaction.atomic
def choose(work: Assignment, *, turn: int, choice: str) -> None:
    """Says which answer of the last turn is better, or thinks better of it. Raises ValidationError
    where there is nothing to choose from."""
    _hold(work)
    last = _last(work, turn)
    if not last.is_ready:
        raise ValidationError("Wait for both answers, or retry the one that failed.")
    if last.is_same:
        choice = Turn.SAME
    if choice not in dict(Turn.CHOICES) or (choice == Turn.SAME and not last.is_same):
        raise ValidationError("Choose the better one, or “Equally good”.")
    if choice != last.choice:  # an edit corrects the other answer
        Turn.objects.filter(pk=last.pk).update(choice=choice, edited="")


@transaction.atomic
def think_again(work: Assignment, *, turn: int) -> None:
    """Takes the choice in the last turn back."""
    _hold(work)
    Turn.objects.filter(pk=_last(work, turn).pk).update(choice="", edited="")


@transaction.atomic
def correct(work: Assignment, *, turn: int, text: str) -> None:
    """Goes on with the chosen answer as the labeler would have it; with it as it was, where
    nothing is changed."""
    _hold(work)
    last = _last(work, turn)
    if not last.choice:
        raise ValidationError("Choose the better answer first. Then you can edit it.")
    if not text.strip():
        raise ValidationError("The answer cannot be empty. Keep some text, or leave it as it was.")
    edited = "" if text.strip() == last.better.text.strip() else text
    Turn.objects.filter(pk=last.pk).update(edited=edited)


@transaction.atomic
def go_back(work: Assignment, *, turn: int) -> str:
    """Sets a turn and all after it aside, to say something else in its place. Returns what was
    said. Nothing of it is deleted; it is no data."""
    _hold(work)
    turns = turns_of(work)
    found = next((each for each in turns if each.pk == turn), None)
    if found is None:
        raise ValidationError(MOVED_ON)
    work.turns.kept().filter(number__gte=found.number).update(set_aside_at=Now())
    return found.said


def answer_in(work: Assignment, answer: int) -> TurnAnswer | None:
    """One of the answers in a talk, as long as its turn is a part of it."""
    found = TurnAnswer.objects.filter(turn__assignment=work, turn__set_aside_at=None, pk=answer)
    return found.select_related("policy").first()


def _hold(work: Assignment) -> None:
    work.lock()
    if work.state != Assignment.State.LEASED:
        raise ValidationError(OVER)


def _last(work: Assignment, turn: int) -> Turn:
    turns = turns_of(work)
    if not turns or turns[-1].pk != turn:
        raise ValidationError(MOVED_ON)
    return turns[-1]


def places_in(turn: Turn) -> list[Placement]:
    """The answers of a turn, placed as the labeler has chosen, not saved yet."""
    return [
        Placement(completion=answer.completion, place=place)
        for answer, place in zip(turn.pair, turn.places, strict=True)
        if answer.completion
    ]
