"""What is asked with every task of every labeler, each query compiled and planned once.

All of them stand here, but for those of the rooms below, which stand beside their models: a model
may not know the room that uses it. `DATABASE_URL=…?prepared=off` switches them to ordinary
querysets; both ways give the same rows (tests/annotate/test_hot_queries.py)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet

from annotate.labels.kinds import KINDS
from annotate.people.models import Membership, Project, User
from annotate.prompts.policies import Completion
from annotate.work.assignments import UNDO_WINDOW, Assignment
from annotate.work.tasks import Task, TaskQuerySet
from feedback_site.prepared import prepared


@prepared
def membership_here(user: int, slug: str) -> QuerySet[Membership]:
    """The membership of this person in the project of that address."""
    return Membership.objects.active().with_guideline().filter(user=user, project__slug=slug)


@prepared
def memberships_of(user: int) -> QuerySet[Membership]:
    """The projects this person is in, by name: the header of every page switches between them."""
    return Membership.objects.active().filter(user=user).order_by("project__name", "pk")


@prepared
def held_member(labeler: int, project: int) -> QuerySet[Membership]:
    """The membership, its row locked: two tabs of one person ask one after the other."""
    members = Membership.objects.select_related("project", "user").active().with_guideline()
    mine = members.filter(user=labeler, project=project)
    return mine.select_for_update(no_key=True, of=("self",))


@prepared
def own_assignment(labeler: int, project: int, pk: int) -> QuerySet[Assignment]:
    """An assignment of this labeler's, with all that its page shows."""
    return Assignment.objects.select_related(
        "task__prompt", "task__project", "task__subject", "labeler", "sent_back"
    ).filter(pk=pk, labeler=labeler, task__project=project)


@prepared
def latest_ended(labeler: int, project: int) -> QuerySet[Assignment]:
    """The answer or the skip that this labeler can still take back, if any."""
    own = Assignment.objects.by(labeler).of_project(project).select_related("task__prompt")
    own = own.of_kind(*KINDS)
    return own.ended_within(UNDO_WINDOW).order_by("-ended_at")[:1]


def tasks_for(labeler: User | int, project: Project | int, kinds: Iterable[str]) -> TaskQuerySet:
    """Open tasks with a place for this labeler, in the order in which they are handed out."""
    tasks = Task.objects.of_project(project).open().ordinary().in_working_order(*kinds)
    tasks = tasks.suited_to(labeler, project).new_to(labeler).with_a_place_for(labeler)
    return tasks.not_reviewing(labeler) if Task.Kind.REVIEW in kinds else tasks


@prepared
def begun(labeler: int, project: int) -> QuerySet[Assignment]:
    """Work of any kind that this labeler holds already."""
    return Assignment.objects.by(labeler).of_project(project).leased().select_related("task")


@cache
def held_first(kinds: tuple[str, ...], skip_locked: bool) -> prepared[..., Task]:
    """The first task that waits for this labeler, its row locked. `skip_locked`: the first that
    nobody else holds at this instant."""

    def build(labeler: int, project: int) -> QuerySet[Task]:
        waiting = tasks_for(labeler, project, kinds).select_related("project")
        of = ("self",)
        return waiting.select_for_update(no_key=True, skip_locked=skip_locked, of=of)[:1]

    return prepared(build)


@cache
def still_waiting(kinds: tuple[str, ...]) -> prepared[..., Task]:
    """This task, if there is a place for the labeler yet: asked again once its row is held. With
    `shown`: of its completions that say the same, the oldest."""

    def build(labeler: int, project: int, task: int) -> QuerySet[Task]:
        said = Completion.objects.filter(tasks=OuterRef("pk")).order_by("text_hash", "pk")
        shown = ArraySubquery(said.distinct("text_hash").values("pk"))
        return tasks_for(labeler, project, kinds).filter(pk=task).annotate(shown=shown)

    return prepared(build)


@prepared
def said_in(task: int) -> QuerySet[Completion, tuple[str, int]]:
    """(hash of the text, id) of the completions of a task, the newest first."""
    return Completion.objects.filter(tasks=task).order_by("-pk").values_list("text_hash", "pk")
