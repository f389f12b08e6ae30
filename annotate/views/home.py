"""What awaits a person in a project: the first thing they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localdate, localtime

from annotate.access import MAY_ACT_AS, Role
from annotate.labelling.queue import count_waiting, next_due
from annotate.labels.gold import Qualification, qualification_of, unseen_practice
from annotate.labels.kinds import KINDS
from annotate.notices.models import Notice
from annotate.paging import counted
from annotate.people.models import Membership, Project
from annotate.quality.time_sheet import Worked, start_of_day, worked_since
from annotate.work.assignments import Assignment
from annotate.work.tasks import WORK_ORDER, Task, last_day

AT_MOST = 500
SHOWN_NOTICES = 5


@dataclass(frozen=True)
class ToDo:
    url_name: str
    title: str
    detail: str
    count: str = ""
    query: str = ""


@dataclass(frozen=True)
class Work:
    """What somebody has done of late."""

    today: Worked
    week: Worked


@dataclass(frozen=True)
class Line:
    """Something by its name, where it is, and how it stands."""

    name: str
    address: str
    chip: str = ""
    chip_class: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Glance:
    """How a part of the project stands: a heading that leads to its page, and a few lines."""

    title: str
    url_name: str
    lines: list[Line]


# How other rooms stand, for an operator.
glances: list[Callable[[Project], Iterator[Glance]]] = []
# What other rooms have for an operator to do.
of_operators: list[Callable[[Project], Iterator[ToDo]]] = []
# What other rooms know of the effect that somebody's work has, in sentences.
effects: list[Callable[[Membership], Iterator[str]]] = []


def greeting() -> str:
    """By the hour where the viewer is."""
    hour = localtime().hour
    if 4 <= hour < 12:
        return "Good morning"
    return "Good afternoon" if 12 <= hour < 18 else "Good evening"


def work_of(membership: Membership) -> Work | None:
    """What a labeler did today and since Monday; None for whoever did nothing this week."""
    today = localdate()
    since = (today, today - timedelta(days=today.weekday()))
    person, project = membership.user, membership.project
    found = Work(*(worked_since(person, project, start_of_day(day)) for day in since))
    return found if found.week.answers else None


def effects_of(membership: Membership) -> list[str]:
    return [sentence for tell in effects for sentence in tell(membership)]


def to_do(membership: Membership) -> list[ToDo]:
    steps: list[ToDo] = []
    if membership.role in MAY_ACT_AS[Role.LABELER]:
        steps += _labelling(membership)
    if membership.role in MAY_ACT_AS[Role.OPERATOR]:
        steps += _operating(membership)
    return steps


def _labelling(membership: Membership) -> Iterator[ToDo]:
    if not membership.has_read_guideline:
        detail = "It explains what makes a good answer here. You can start once you have read it."
        yield ToDo("guideline", "Read the guideline", detail)
    if qualification := qualification_of(membership):
        practice = unseen_practice(membership).count() if not qualification.answered else 0
        yield _qualifying(qualification, practice)
        return
    waiting = count_waiting(membership, at_most=AT_MOST)
    own = Assignment.objects.by(membership.user).of_project(membership.project)
    if sent_back := own.sent_back().count():
        detail = "A reviewer explains what to change. You start from your first answer."
        yield ToDo("label", "Fix returned answers", detail, _figure(sent_back), "?only=returned")
    if begun := own.leased().select_related("task").order_by("leased_until").last():
        until = localtime(begun.leased_until)
        detail = f"You have started a task. It is reserved for you until {until:%H:%M}."
        kind = KINDS.get(begun.task.kind)
        title = f"Continue {kind.words.doing}" if kind else "Continue"
        # The one begun, and those after it.
        left = (waiting.pop(begun.task.kind, 0) if kind else 0) + 1
        only = f"?only={begun.task.kind}" if kind else ""
        yield ToDo("label", title, detail, _figure(left), only)
    for task in WORK_ORDER:
        if waiting.get(task):
            yield _waiting(task, _figure(waiting[task]), last_day(next_due(membership, task)))
    if drafts := own.expired().with_draft().count():
        detail = (
            "Your time ran out, but your drafts are saved. Finish them while nobody else has"
            " the task."
        )
        yield ToDo("label", "Finish drafts", detail, _figure(drafts), "?only=drafts")
    if membership.project.takes_own_prompts:
        detail = "Write a new prompt, and show how you would answer it."
        yield ToDo("own_prompts", "Write a prompt", detail)
    if not (begun or any(waiting.values())):
        yield ToDo("my_work", "All done", "See your work so far.")


def _waiting(task: str, figure: str, due: date | None) -> ToDo:
    until = f" The next is due by {date_format(due, 'D j M')}." if due else ""
    if task == Task.Kind.REVIEW:
        detail = "Resolve disagreements, and check the work of new labelers."
        return ToDo("reviews", "Review answers", detail + until, figure)
    words = KINDS[task].words
    return ToDo("label", words.to_do, words.to_do_detail + until, figure, f"?only={task}")


def _qualifying(qualification: Qualification, practice: int) -> ToDo:
    done, needed = qualification.answered, qualification.needed
    if qualification.is_failed:
        detail = "Your rankings differ from the reviewers'. The leads can let you try again."
        return ToDo("label", "You haven't qualified yet", detail)
    if practice:
        detail = "Rank answers, then see how the reviewers ranked them. It doesn't count. "
        detail += f"{needed} qualification tasks follow."
        return ToDo("label", "Practise first", detail, str(practice))
    detail = f"Rank {needed} tasks by the guideline before regular work; {done} done so far."
    return ToDo("label", "Qualify first", detail, f"{needed - done}")


def glances_of(membership: Membership) -> list[Glance]:
    """What is new to an operator, and how the parts of the project stand."""
    if membership.role not in MAY_ACT_AS[Role.OPERATOR]:
        return []
    project = membership.project
    unseen = Notice.objects.of(membership.user, project).unseen()[:SHOWN_NOTICES]
    news = [Line(each.subject, each.link, detail=_when(each.created_at)) for each in unseen]
    people = [
        Line(title, reverse(name, args=[project.slug]))
        for name, title in (("progress", "When labelling is done"), ("labelers", "Labelers"))
    ]
    return [
        Glance("New to you", "notices", news),
        *(glance for tell in glances for glance in tell(project)),
        Glance("People", "labelers_members", people),
    ]


def _when(moment: datetime) -> str:
    return f"{localtime(moment):%-d %b, %H:%M}"


def _operating(membership: Membership) -> Iterator[ToDo]:
    project = membership.project
    prompts = counted(project.prompts.active())
    if not project.guidelines.exists():
        detail = "Describe what makes a good answer, so that everyone judges alike."
        yield ToDo("guideline_new", "Write the guideline", detail)
    if prompts == "0":
        detail = "Upload prompts as JSON Lines, CSV or Parquet."
        yield ToDo("prompts_import", "Import prompts", detail)
    elif not project.tasks.open().ordinary().exists():
        detail = f"No tasks are open. {prompts} prompts can be answered or ranked."
        yield ToDo("prompts", "Create tasks", detail)
    if not project.memberships.of_real_people().in_role(Role.LABELER).exists():
        detail = "There are no labelers yet. Each person gets an invitation link."
        yield ToDo("labelers_members", "Invite people", detail)
    if (waiting := counted(project.prompts.waiting())) != "0":
        detail = "Labelers wrote them. They are not used until you accept them."
        yield ToDo("prompts", "Review new prompts", detail, waiting, "?waiting=on")
    if (flagged := counted(project.prompts.active().flagged())) != "0":
        detail = "Labelers reported problems with these prompts."
        yield ToDo("prompts", "Review flagged prompts", detail, flagged, "?flag=any")
    for steps in of_operators:
        yield from steps(project)
    if not project.policies.live().exists():
        yield ToDo("policies", "Choose a live policy", "The chat has no model yet.")


def _figure(count: int) -> str:
    return f"{count}+" if count >= AT_MOST else str(count)
