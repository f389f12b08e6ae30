"""Turns an id from a URL into an object this person may touch.

Every view begins here. What belongs to a project the person is no member of answers like something
that does not exist (404); a member without the needed role is refused (403)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django_htmx.middleware import HtmxDetails

from annotate.accounts.ways import with_own_way
from annotate.chat.conversations import Conversation
from annotate.chat.messages import Message
from annotate.chat.shares import Share
from annotate.connections.models import Connection
from annotate.documents.models import Document
from annotate.exchange.uploads import Upload
from annotate.ids import id_in
from annotate.judges.models import Judge
from annotate.labelling.hot_queries import membership_here, own_assignment
from annotate.labels.kinds import KINDS
from annotate.labels.kinds.ranking.answer import Ranking
from annotate.people.invitations import Invitation
from annotate.people.models import Membership, Project, User
from annotate.people.tokens import ApiToken
from annotate.playground.grids import Grid
from annotate.prompts.models import Prompt
from annotate.prompts.policies import Policy
from annotate.prompts.templates import PromptTemplate
from annotate.webhooks.models import Webhook
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

Role = Membership.Role


class Request(HttpRequest):
    """What views are given: the middleware lets nobody in who is not signed in."""

    user: User
    htmx: HtmxDetails
    membership: Membership  # by which `membership_for` let this person in, on pages of a project


Found = TypeVar("Found")

# Who may act in a role: an operator may do what a reviewer may, a reviewer what a labeler may,
# and everybody in a project may chat.
MAY_ACT_AS: dict[str, frozenset[str]] = {
    Role.GUEST: frozenset(Role.values),
    Role.LABELER: frozenset({Role.LABELER, Role.REVIEWER, Role.OPERATOR}),
    Role.REVIEWER: frozenset({Role.REVIEWER, Role.OPERATOR}),
    Role.OPERATOR: frozenset({Role.OPERATOR}),
}


def membership_for(request: Request, slug: str) -> Membership:
    """Reads the membership by which this person is in the project, and keeps it as
    `request.membership`. Raises Http404 where there is none."""
    if not request.user.is_authenticated:
        raise Http404
    request.membership = _found(membership_here.first(user=request.user.pk, slug=slug))
    return request.membership


def project_for(request: Request, slug: str, role: str) -> Project:
    """Returns the project, if this person may act in `role` there. Raises Http404 where they are no
    member, PermissionDenied where they are one in another role."""
    membership = membership_for(request, slug)
    if membership.role not in MAY_ACT_AS[role]:
        raise PermissionDenied(f"This page is for the {role}s of {membership.project}.")
    return membership.project


def may_try(membership: Membership) -> bool:
    """Whether this member may ask models in the playground, and read templates and documents."""
    role = Role.LABELER if membership.project.labelers_try else Role.OPERATOR
    return membership.role in MAY_ACT_AS[role]


def project_to_try_for(request: Request, slug: str) -> Project:
    """The project, if this person may ask its models in the playground."""
    if not may_try(membership_for(request, slug)):
        return project_for(request, slug, Role.OPERATOR)
    return request.membership.project


def project_to_read_for(request: Request, slug: str) -> Project:
    """The same for its templates and documents, which only operators change."""
    if request.method == "POST":
        return project_for(request, slug, Role.OPERATOR)
    return project_to_try_for(request, slug)


def assignment_for(request: Request, slug: str, assignment_id: int) -> Assignment:
    """An assignment of this labeler's own."""
    project = project_for(request, slug, Role.LABELER)
    return _found(
        own_assignment.first(labeler=request.user.pk, project=project.pk, pk=assignment_id)
    )


def practice_for(request: Request, slug: str, assignment_id: int) -> Any:
    """An answer of this labeler's own to a practice task: only then the right one is shown."""
    work = assignment_for(request, slug, assignment_id)
    is_practice = work.is_submitted and work.trial == Assignment.Trial.PRACTICE
    return _found(work if is_practice else None)


def review_for(request: Request, slug: str, assignment_id: int) -> Assignment:
    """A review leased to this reviewer, or one that anybody has ended."""
    project = project_for(request, slug, Role.REVIEWER)
    reviews = Assignment.objects.of_project(project).of_kind(Task.Kind.REVIEW)
    readable = reviews.submitted() | reviews.by(request.user)
    with_all = readable.select_related("task__prompt", "task__project", "task__subject", "labeler")
    return _found(with_all.filter(pk=assignment_id).first())


def review_task_for(request: Request, slug: str, task_id: int) -> Task:
    """A review of this project's, whoever holds it."""
    project = project_for(request, slug, Role.REVIEWER)
    return _found(project.tasks.of_kind(Task.Kind.REVIEW).filter(pk=task_id).first())


def member_for(request: Request, slug: str, membership_id: int) -> Membership:
    """Somebody whose work this lead looks after."""
    project = project_for(request, slug, Role.REVIEWER)
    return _found(
        project.memberships.select_related("project", "user").filter(pk=membership_id).first()
    )


def own_membership_for(user: User, number: str) -> Membership:
    """One of this person's own."""
    return _found(user.memberships.active().filter(pk=id_in(number) or 0).first())


def invitation_for(user: User, number: str) -> Invitation:
    """One that this person may answer without its link."""
    return _found(Invitation.objects.known_to(user).filter(pk=id_in(number) or 0).first())


def open_invitation_for(request: Request, slug: str, number: str) -> Invitation:
    """One that this operator may withdraw."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(project.invitations.open().filter(pk=id_in(number) or 0).first())


def refuse_all_but_administrators(request: Request) -> None:
    """Of the whole site. Raises Http404: others learn nothing of such pages."""
    if not (request.user.is_active and request.user.is_superuser):
        raise Http404("Nothing here.")


def may_begin_projects(user: User) -> bool:
    """Whoever operates one project may begin another."""
    return user.memberships.operating().exists()


def may_make_links_for(user: User, people: Iterable[User], project: Project) -> set[int]:
    """Of these people, the ids of those whose sign-in links are `user`'s to hand out: who have no
    way in of their own (password, second factor, address, identity provider), and are in no other
    project. The accounts of others are theirs alone."""
    if not user.memberships.operating().filter(project=project).exists():
        return set()
    without = [p for p in people if p.is_active and not p.is_staff and not p.has_usable_password()]
    theirs = Membership.objects.filter(user__in=without)
    elsewhere = theirs.exclude(project=project)
    barred = set(elsewhere.values_list("user", flat=True)) | with_own_way(without)
    operators = set(theirs.operating().values_list("user", flat=True))
    here = set(theirs.here().filter(project=project).values_list("user", flat=True))
    at_home = [p for p in without if p.pk in here - barred]
    return {p.pk for p in at_home if p.last_login is None or p.pk not in operators}


def ended_work_for(
    request: Request, slug: str, membership_id: int, assignment_id: int
) -> Assignment:
    """What somebody answered or skipped, for a lead who looks at it."""
    member = member_for(request, slug, membership_id)
    ended = Assignment.objects.by(member.user).of_project(member.project).ended()
    labelling = ended.of_kind(*KINDS)
    with_all = labelling.select_related("task__prompt", "task__project", "task__gold", "labeler")
    return _found(with_all.filter(pk=assignment_id).first())


def ranking_for(request: Request, slug: str, ranking_id: str) -> Ranking:
    """A ranking in force that a lead may make gold."""
    project = project_for(request, slug, Role.REVIEWER)
    ranked = Ranking.objects.of_project(project).current().select_related("prompt")
    return _found(ranked.filter(pk=id_in(ranking_id) or 0).first())


def prompt_for(request: Request, slug: str, prompt_id: int) -> Prompt:
    """A prompt of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(Prompt.objects.filter(pk=prompt_id, project=project).first())


def document_for(request: Request, slug: str, document_id: int) -> Document:
    """A document in force of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(Document.objects.of_project(project).current().filter(pk=document_id).first())


def upload_for(request: Request, slug: str, upload_id: int) -> Upload:
    """A file of this operator's own that is not imported yet."""
    project = project_for(request, slug, Role.OPERATOR)
    uploads = project.uploads.by(request.user).select_related("project", "by")
    return _found(uploads.filter(pk=upload_id).first())


def connection_for(request: Request, slug: str, connection_id: int) -> Connection:
    """A connection of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    found = Connection.objects.select_related("project").filter(pk=connection_id, project=project)
    return _found(found.first())


def token_for(request: Request, slug: str, token_id: int) -> ApiToken:
    """An API token of this operator's project, whoever's it is."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(project.api_tokens.filter(pk=token_id).first())


def webhook_for(request: Request, slug: str, webhook_id: int) -> Webhook:
    """A webhook of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(project.webhooks.select_related("project").filter(pk=webhook_id).first())


def policy_for(request: Request, slug: str, policy_id: int) -> Policy:
    """A policy of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(Policy.objects.filter(pk=policy_id, project=project).first())


def grid_for(request: Request, slug: str, grid_id: int) -> Grid:
    """A playground grid: an operator's of the project, whoever ran it; others' only their own."""
    project = project_to_try_for(request, slug)
    grids = project.grids.select_related("project")
    if request.membership.role != Role.OPERATOR:
        grids = grids.of_author(request.user)
    return _found(grids.filter(pk=grid_id).first())


def grid_to_use_for(request: Request, slug: str, grid_id: int) -> Grid:
    """A grid of this operator's project, from which tasks, policies or templates are made."""
    project_for(request, slug, Role.OPERATOR)
    return grid_for(request, slug, grid_id)


def template_for(request: Request, slug: str, template_id: int) -> PromptTemplate:
    """A version of a template of this project."""
    project = project_to_try_for(request, slug)
    return _found(project.templates.select_related("project").filter(pk=template_id).first())


def judge_for(request: Request, slug: str, judge_id: int) -> Judge:
    """A judge of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    return _found(project.judges.select_related("project", "policy").filter(pk=judge_id).first())


def conversation_for(request: Request, slug: str, conversation_id: int) -> Conversation:
    """A chat of this guest's own."""
    project = project_for(request, slug, Role.GUEST)
    mine = Conversation.objects.of_guest(request.user, project).select_related("project", "guest")
    return _found(mine.filter(pk=conversation_id).first())


def answer_for(request: Request, slug: str, message_id: int) -> Message:
    """An answer in a chat of this guest's own."""
    project = project_for(request, slug, Role.GUEST)
    mine = Message.objects.answers_in(Conversation.objects.of_guest(request.user, project))
    return _found(mine.filter(pk=message_id).first())


def question_for(request: Request, slug: str, question_id: int) -> Message:
    """A question in a chat of this guest's own."""
    project = project_for(request, slug, Role.GUEST)
    mine = Message.objects.questions_in(Conversation.objects.of_guest(request.user, project))
    return _found(mine.filter(pk=question_id).first())


def share_for(request: Request, slug: str, conversation_id: int, share_id: int) -> Share:
    """A link to a chat of this guest's own."""
    conversation = conversation_for(request, slug, conversation_id)
    return _found(conversation.shares.filter(pk=share_id).first())


def _found(thing: Found | None) -> Found:
    if thing is None:
        raise Http404("Nothing here.")
    return thing
