"""What judges were given, and the rankings that come of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from annotate.judges.places import confidence_of, opinions_of, places_of
from annotate.judges.questions import JudgeQuestion, JudgeQuestionQuerySet
from annotate.people.models import Project, User
from annotate.prompts.policies import Completion
from annotate.work.tasks import Task
from feedback_site.bell import enqueue_on_commit


class JudgeRun(models.Model):
    """Tasks that a judge was given at once. Its questions wait for a worker."""

    class Scope(models.TextChoices):
        RANKED = "ranked", "Tasks people have ranked"
        OPEN = "open", "Open tasks nobody has ranked"

    judge = models.ForeignKey("annotate.Judge", models.CASCADE, related_name="runs")
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.RANKED)
    budget = models.PositiveIntegerField(help_text="The largest number of tasks to give.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.judge}"

    @property
    def questions(self) -> JudgeQuestionQuerySet:
        """All that is asked in it."""
        return JudgeQuestion.objects.filter(ranking__run=self)

    def lay_out(self, given: Iterable[tuple[Task, list[tuple[int, int | None]]]]) -> None:
        """Stores the questions about each task, (first, second or None), for a worker."""
        given = list(given)
        rankings = JudgeRanking.objects.bulk_create(
            JudgeRanking(judge=self.judge, run=self, task=task) for task, _ in given
        )
        JudgeQuestion.objects.bulk_create(
            JudgeQuestion(ranking=ranking, first_id=first, second_id=second)
            for ranking, (_, questions) in zip(rankings, given, strict=True)
            for first, second in questions
        )
        self.ring()

    def ring(self) -> None:
        """Wakes a worker for the questions that wait."""
        enqueue_on_commit("label", "annotate.jobs.ask_judge", self.pk)


class JudgeRankingQuerySet(models.QuerySet["JudgeRanking"]):
    def of_project(self, project: Project) -> JudgeRankingQuerySet:
        return self.filter(judge__project=project)

    def of_judge(self, judge: models.Model) -> JudgeRankingQuerySet:
        return self.filter(judge=judge)

    def by_judges_in_use(self, at: datetime | None = None) -> JudgeRankingQuerySet:
        """Without judges that were withdrawn; now, or at that moment."""
        in_use = Q(judge__withdrawn_at=None)
        return self.filter(in_use | Q(judge__withdrawn_at__gt=at) if at else in_use)

    def with_completions(self) -> JudgeRankingQuerySet:
        """With all that a row of a snapshot needs, in the order of their ids."""
        placed = self.select_related("judge", "task__prompt").order_by("pk")
        return placed.prefetch_related("task__completions")

    def state(self) -> str:
        """A text that changes with every ranking that is completed."""
        found = self.complete().aggregate(n=models.Count("pk"), last=models.Max("answered_at"))
        return f"{found['n']} until {found['last']}"

    def complete(self, at: datetime | None = None) -> JudgeRankingQuerySet:
        """Those with a place for each completion; now, or at that moment."""
        return self.filter(answered_at__lte=at) if at else self.exclude(answered_at=None)


class JudgeRanking(models.Model):
    """What a judge says of the completions of one task, once all its questions are answered."""

    judge = models.ForeignKey("annotate.Judge", models.CASCADE, related_name="rankings")
    run = models.ForeignKey(JudgeRun, models.CASCADE, related_name="rankings")
    task = models.ForeignKey(Task, models.CASCADE, related_name="judge_rankings")
    places = models.JSONField(default=dict, help_text="Completion id → place, the best first.")
    confidence = models.FloatField(
        null=True, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )
    answered_at = models.DateTimeField(null=True)

    objects = JudgeRankingQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["judge", "task"], name="one_ranking_a_judge_and_task")
        ]

    def __str__(self) -> str:
        return f"{self.judge} on {self.task}"

    @property
    def places_by_id(self) -> dict[int, int]:
        """Completion id → place, the best first."""
        return {int(pk): place for pk, place in self.places.items()}

    @property
    def placed(self) -> list[tuple[Completion, int]]:
        """Completions of the task with their places, by their ids; without what is gone by now."""
        places = self.places_by_id
        said = sorted(self.task.completions.all(), key=lambda each: each.pk)
        return [(each, places[each.pk]) for each in said if each.pk in places]

    @property
    def prefers(self) -> bool:
        """Whether it puts something above something else."""
        return len({place for _, place in self.placed}) > 1

    @transaction.atomic
    def settle(self) -> None:
        """Ranks the completions, once every question about them is answered."""
        JudgeRanking.objects.select_for_update(no_key=True).get(pk=self.pk)
        questions = list(self.questions.all())
        if any(each.state != JudgeQuestion.State.ANSWERED for each in questions):
            return
        said = {(each.first_id, each.second_id): each.said for each in questions}
        places = places_of(opinions_of(self.judge.form, said))
        confidence = confidence_of(self.judge.form, said)
        JudgeRanking.objects.filter(pk=self.pk, answered_at=None).update(
            places=places, confidence=confidence, answered_at=timezone.now()
        )
