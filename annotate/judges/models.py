"""Judges: which model judges by which words."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from annotate.judges.places import questions_of
from annotate.judges.questions import JudgeQuestion, JudgeQuestionQuerySet
from annotate.judges.runs import JudgeRun
from annotate.judges.words import FORMS, AnswerForm
from annotate.labels.kinds.ranking.answer import Ranking
from annotate.people.models import Project, User
from annotate.prompts.policies import Policy
from annotate.work.tasks import Task, TaskQuerySet

LONGEST_RUBRIC = 5000  # characters
MOST_TASKS, MOST_QUESTIONS = 2000, 40_000  # of a run
LONGEST_REPLY = 1024  # tokens, thoughts included


# Tables of its own, rather than a marked labeler: every count, agreement, gold task, time sheet and
# export would have to leave that one out, in every query that anybody ever writes.
class JudgeQuerySet(models.QuerySet["Judge"]):
    def in_use(self) -> JudgeQuerySet:
        return self.filter(withdrawn_at=None)

    def named(self, name: str) -> JudgeQuerySet:
        return self.filter(name=name)


class Judge(models.Model):
    """A model with a rubric. It is no user: it cannot sign in, holds no task, and nothing that
    counts people meets it. Its words never change: an edit is a new version."""

    class Form(models.TextChoices):
        PAIR = "pair", FORMS["pair"].title
        RATING = "rating", FORMS["rating"].title
        YES_NO = "yes_no", FORMS["yes_no"].title

    project = models.ForeignKey(Project, models.CASCADE, related_name="judges")
    name = models.CharField(max_length=60)
    version = models.PositiveSmallIntegerField(default=1, editable=False)
    policy = models.ForeignKey(
        Policy,
        models.PROTECT,
        related_name="judges",
        help_text="Only its model: the words around the prompts are for answering.",
    )
    rubric = models.TextField(
        max_length=LONGEST_RUBRIC, help_text="What makes an answer the better one."
    )
    form = models.CharField("answers with", max_length=10, choices=Form, default=Form.PAIR)
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, editable=False)

    objects = JudgeQuerySet.as_manager()

    class Meta:
        ordering = ["name", "-version"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name", "version"], name="one_judge_a_name_and_version"
            )
        ]

    def __str__(self) -> str:
        return self.name if self.version == 1 else f"{self.name} v{self.version}"

    @property
    def words(self) -> AnswerForm:
        """How its form asks and is read."""
        return FORMS[self.form]

    @property
    def questions(self) -> JudgeQuestionQuerySet:
        """All that it was ever asked."""
        return JudgeQuestion.objects.of_judge(self)

    @property
    def speaker(self) -> Policy:
        """Its model without the words of the policy, as predictable as it gets. Never saved."""
        speaker = Policy.objects.select_related("connection").get(pk=self.policy_id)
        speaker.system_prompt = speaker.prompt_format = ""
        speaker.few_shot = []
        speaker.temperature, speaker.max_new_tokens = 0.0, LONGEST_REPLY
        return speaker

    @transaction.atomic
    def revise(self, *, policy: Policy, rubric: str, form: str, by: User) -> Judge:
        """Changes what it judges by. One that was asked already is kept, withdrawn, and the new
        version starts without answers; returns the judge in use from now on."""
        held = Judge.objects.select_for_update().get(pk=self.pk)
        if held.withdrawn_at:
            raise ValidationError("This judge is withdrawn. Add a new one.")
        said = {"policy": policy, "rubric": rubric, "form": form}
        if all(getattr(held, name) == value for name, value in said.items()):
            return held
        if not held.runs.exists():
            for name, value in said.items():
                setattr(held, name, value)
            held.save(update_fields=list(said))
            return held
        held.withdraw()
        return Judge.objects.create(
            project_id=held.project_id,
            name=held.name,
            version=held.version + 1,
            author=by,
            **said,
        )

    @transaction.atomic
    def withdraw(self) -> None:
        """Ends its work: it is asked nothing more, and no new round may learn from it. What it
        said stays."""
        if Judge.objects.filter(pk=self.pk, withdrawn_at=None).update(withdrawn_at=timezone.now()):
            self.questions.cancel()

    @transaction.atomic
    def ask_again(self) -> int:
        """Returns what ended without a reply to the line, and says how many questions that is."""
        if Judge.objects.select_for_update().get(pk=self.pk).withdrawn_at:
            raise ValidationError("This judge is withdrawn.")
        count = self.questions.ask_again()
        for run in self.runs.all() if count else ():
            run.ring()
        return count

    def tasks(self, scope: str) -> TaskQuerySet:
        """The ranking tasks that it has not been given yet, in an order that chance has made, but
        once and for all: any number of the first is a draw. Gold stays a measure of people."""
        ranked = Ranking.objects.current().filter(assignment__task=OuterRef("pk"))
        mine = self.rankings.filter(task=OuterRef("pk"))
        tasks = self.project.tasks.of_kind(Task.Kind.RANK).ordinary().filter(~Exists(mine))
        tasks = tasks.filter(prompt__archived_at=None)
        chosen = (
            tasks.filter(Exists(ranked.filter(outcome=Ranking.Outcome.RANKED)))
            if scope == JudgeRun.Scope.RANKED
            else tasks.open().filter(~Exists(ranked))
        )
        return chosen.order_by("prompt__content_hash", "pk")

    @transaction.atomic
    def start(self, *, scope: str, budget: int, by: User) -> JudgeRun:
        """Gives it at most `budget` tasks that it has not had. Raises ValidationError where there
        are none, or more questions than a run may have."""
        held = Judge.objects.select_for_update(of=("self",)).select_related("project")
        judge = held.get(pk=self.pk)
        if judge.withdrawn_at:
            raise ValidationError("This judge is withdrawn.")
        tasks = judge.tasks(scope).prefetch_related("completions")[: min(budget, MOST_TASKS)]
        questions = (questions_of(judge.form, [c.pk for c in t.completions.all()]) for t in tasks)
        given = [(task, each) for task, each in zip(tasks, questions, strict=True) if each]
        if not given:
            raise ValidationError(NOTHING_LEFT[JudgeRun.Scope(scope)])
        count = sum(len(each) for _, each in given)
        if count > MOST_QUESTIONS:
            raise ValidationError(
                f"That is {count:,} questions. Choose fewer tasks: at most {MOST_QUESTIONS:,} "
                "questions in a run."
            )
        run = judge.runs.create(author=by, scope=scope, budget=budget)
        run.lay_out(given)
        return run


NOTHING_LEFT = {
    JudgeRun.Scope.RANKED: "There is no task left that people have ranked and this judge has not.",
    JudgeRun.Scope.OPEN: "There is no open task left that this judge has not ranked.",
}
