"""How a project begins: with somebody who operates it, and a model that answers."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction
from django.utils.text import slugify

from annotate.people.models import Membership, Project
from annotate.prompts.policies import Policy


@transaction.atomic
def begin_project(*, name: str, operator: str, model: str, slug: str = "") -> Project:
    """Raises IntegrityError where the slug is taken; without one, takes the next that is free."""
    project = Project.objects.create(name=name, slug=slug or _free_slug(name))
    project.admit(name=operator, role=Membership.Role.OPERATOR)
    base_policy(project, model)
    return project


def base_policy(project: Project, model: str) -> Policy:
    """The policy of a base model; the first to answer in a project that has no other yet."""
    name = f"base-{Path(model).name}"
    policy, _ = project.policies.get_or_create(
        name=name,
        defaults={
            "origin": Policy.Origin.BASE,
            "folder": f"models/{name}",
            "description": "The model that training starts from.",
        },
    )
    if not project.policies.live().exists():
        policy.go_live()
        policy.refresh_from_db()
    return policy


def _free_slug(name: str) -> str:
    first = slugify(name)[:40] or "project"
    taken = set(Project.objects.filter(slug__startswith=first).values_list("slug", flat=True))
    numbered = (f"{first}-{number}" for number in range(2, len(taken) + 3))
    return next(slug for slug in (first, *numbered) if slug not in taken)
