"""What awaits a person in a project: the first thing they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from annotate.access import MAY_ACT_AS, Role
from annotate.labelling.queue import count_waiting
from annotate.labels.gold import Qualification, qualification_of, unseen_practice
from annotate.labels.kinds import KINDS
from annotate.paging import counted
from annotate.people.models import Membership, Project
from annotate.work.assignments import Assignment
from annotate.work.tasks import WORK_ORDER, Task

AT_MOST = 500


@dataclass(frozen=True)
class ToDo:
    url_name: str
    title: str
    detail: str
    count: str = ""
    query: str = ""


# What other rooms have for an operator to do.
of_operators: list[Callable[[Project], Iterator[ToDo]]] = []


def to_do(membership: Membership) -> list[ToDo]:
    steps: list[ToDo] = []
    if membership.role in MAY_ACT_AS[Role.LABELER]:
        steps += _labelling(membership)
    if membership.role in MAY_ACT_AS[Role.OPERATOR]:
        steps += _operating(membership)
    return steps


def _labelling(membership: Membership) -> Iterator[ToDo]:
    if not membership.has_read_guideline:
        detail = "It says what a good answer is here. Your work begins once you have read it."
        yield ToDo("guideline", "Read the guideline", detail)
    if qualification := qualification_of(membership):
        practice = unseen_practice(membership).count() if not qualification.answered else 0
        yield _qualifying(qualification, practice)
        return
    waiting = count_waiting(membership, at_most=AT_MOST)
    own = Assignment.objects.by(membership.user).of_project(membership.project)
    if sent_back := own.sent_back().count():
        detail = "A reviewer says what to change. Your first answer is there to begin from."
        yield ToDo("label", "Mend what was sent back", detail, _figure(sent_back), "?only=returned")
    if is_open := own.leased().exists():
        yield ToDo("label", "Go on", "You have begun a task; it is yours until its time runs out.")
    for task in WORK_ORDER:
        if waiting.get(task):
            yield _waiting(task, _figure(waiting[task]))
    if drafts := own.expired().with_draft().count():
        detail = "Your time ran out, your drafts are kept. Finish them while they are free."
        yield ToDo("label", "Finish drafts", detail, _figure(drafts), "?only=drafts")
    if membership.project.takes_own_prompts:
        detail = "Ask what nobody has asked yet, and show how you would answer."
        yield ToDo("own_prompts", "Write a prompt", detail)
    if not (is_open or any(waiting.values())):
        yield ToDo("my_work", "Nothing waits for you", "See what you have done so far.")


def _waiting(task: str, figure: str) -> ToDo:
    if task == Task.Kind.REVIEW:
        detail = "Settle what people disagree about, and look at new people's work."
        return ToDo("reviews", "Review answers", detail, figure)
    words = KINDS[task].words
    return ToDo("label", words.to_do, words.to_do_detail, figure, f"?only={task}")


def _qualifying(qualification: Qualification, practice: int) -> ToDo:
    done, needed = qualification.answered, qualification.needed
    if qualification.is_failed:
        detail = "Your rankings differ from the reviewers'. The leads can let you try again."
        return ToDo("label", "You did not qualify yet", detail)
    if practice:
        detail = "You rank, and then see how the reviewers did. It counts for nothing, and "
        detail += f"{needed} tasks to qualify by come after it."
        return ToDo("label", "Practise first", detail, str(practice))
    detail = f"Rank {needed} tasks as the guideline asks; {done} are done. Then your work begins."
    return ToDo("label", "Qualify first", detail, f"{needed - done}")


def _operating(membership: Membership) -> Iterator[ToDo]:
    project = membership.project
    prompts = counted(project.prompts.active())
    if not project.guidelines.exists():
        detail = "It says what a good answer is, so that people judge alike."
        yield ToDo("guideline_new", "Write the guideline", detail)
    if prompts == "0":
        detail = "Bring questions to answer, as JSON Lines, CSV or Parquet."
        yield ToDo("prompts_import", "Import prompts", detail)
    elif not project.tasks.open().ordinary().exists():
        detail = f"No task is open. {prompts} prompts are here to be answered or ranked."
        yield ToDo("prompts", "Give people work", detail)
    if not project.memberships.of_real_people().in_role(Role.LABELER).exists():
        detail = "Nobody labels here yet. Each person gets a link that signs them in."
        yield ToDo("labelers_members", "Invite people", detail)
    if (waiting := counted(project.prompts.waiting())) != "0":
        detail = "Labelers wrote them, and nobody is asked about them before you accept them."
        yield ToDo("prompts", "Look at new prompts", detail, waiting, "?waiting=on")
    if (flagged := counted(project.prompts.active().flagged())) != "0":
        detail = "Labelers hold something against these prompts."
        yield ToDo("prompts", "Look at flagged prompts", detail, flagged, "?flag=any")
    for steps in of_operators:
        yield from steps(project)
    if not project.policies.live().exists():
        yield ToDo("policies", "Choose a live policy", "Nobody answers in the chat yet.")


def _figure(count: int) -> str:
    return f"{count}+" if count >= AT_MOST else str(count)
