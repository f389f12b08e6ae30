"""What the commands share: which project, and in whose name."""

from __future__ import annotations

from django.core.management.base import CommandError

from annotate.people.models import Membership, Project, User


def project_named(slug: str) -> Project:
    """Finds a project. Raises CommandError, which names those there are."""
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        known = ", ".join(Project.objects.values_list("slug", flat=True)) or "none yet"
        raise CommandError(f"There is no project “{slug}”. The projects are: {known}.")
    return project


def member_named(project: Project, name: str) -> User:
    """Finds a member of the project by their user name. Raises CommandError."""
    member = User.objects.filter(username=name, memberships__project=project).first()
    if member is None:
        raise CommandError(f"There is no {name} in {project}.")
    return member


def operator_of(project: Project, name: str | None = None) -> User:
    """The operator of this name, or else the project's first."""
    operators = User.objects.filter(
        memberships__project=project,
        memberships__role=Membership.Role.OPERATOR,
        memberships__state=Membership.State.ACTIVE,
    )
    chosen = operators.filter(username=name) if name else operators
    operator = chosen.order_by("pk").first()
    if operator is None and name:
        raise CommandError(f"{name} is not an operator of {project}.")
    if operator is None:
        raise CommandError(f"{project} has no operator. Give somebody that role first.")
    return operator
