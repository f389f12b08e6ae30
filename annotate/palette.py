"""What somebody looks for in a project, by its name: a page, a prompt, a policy, a person.
Everybody finds only what they may open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.urls import reverse

from annotate.access import MAY_ACT_AS, Role
from annotate.labelling.hot_queries import memberships_of
from annotate.navigation import pages_of
from annotate.people.models import Membership, Project
from annotate.prompts.search import alternatives, fold

MOST = 6  # of each group
LONGEST_WORDS = 200


@dataclass(frozen=True)
class Found:
    """Something by its name, and where it is."""

    name: str
    address: str
    detail: str = ""


Finder = Callable[[Project, str], Iterator[Found]]


def _prompts(project: Project, words: str) -> Iterator[Found]:
    if not alternatives(words):
        return
    for prompt in project.prompts.active().matching(words).order_by("-pk")[:MOST]:
        yield Found(prompt.text, reverse("prompts_one", args=[project.slug, prompt.pk]))


def _policies(project: Project, words: str) -> Iterator[Found]:
    for policy in project.policies.matching(words)[:MOST]:
        address = reverse("policies_lineage", args=[project.slug, policy.pk])
        yield Found(policy.name, address, policy.description)


def _people(project: Project, words: str) -> Iterator[Found]:
    for member in project.memberships.here().matching(words)[:MOST]:
        address = reverse("labeler", args=[project.slug, member.pk])
        yield Found(member.user.display_name, address, member.get_role_display())


# (title, the role it is for, what finds it); other rooms add what they have.
finders: list[tuple[str, str, Finder]] = [
    ("Prompts", Role.OPERATOR, _prompts),
    ("Policies", Role.OPERATOR, _policies),
    ("People", Role.REVIEWER, _people),
]


def find(membership: Membership, words: str) -> list[tuple[str, list[Found]]]:
    """Returns (title, what was found) of each group in which there is something. Without words:
    every page that this member may enter, and their other projects."""
    project, words = membership.project, words.strip()
    groups = [("Pages", list(_pages(membership, words)))]
    if words:
        groups += [
            (title, list(look(project, words)))
            for title, role, look in finders
            if membership.role in MAY_ACT_AS[role]
        ]
    groups.append(("Projects", list(_projects(membership, words))))
    return [(title, found) for title, found in groups if found]


def _pages(membership: Membership, words: str) -> Iterator[Found]:
    slug = membership.project.slug
    if _begin(words, "Home"):
        yield Found("Home", reverse("project", args=[slug]))
    for room, page in pages_of(membership):
        if _begin(words, f"{room} {page.label} {page.words}"):
            yield Found(page.label, reverse(page.url_name, args=[slug]), room)
    if _begin(words, "Your account name password"):
        yield Found("Your account", reverse("account"))


def _projects(membership: Membership, words: str) -> Iterator[Found]:
    for other in memberships_of(user=membership.user_id):
        if other.project_id != membership.project_id and _begin(words, other.project.name):
            yield Found(other.project.name, reverse("project", args=[other.project.slug]))


def _begin(words: str, text: str) -> bool:
    """Whether each of the words begins one of the text."""
    known = fold(text).split()
    return all(any(each.startswith(word) for each in known) for word in fold(words).split())
