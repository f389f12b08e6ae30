"""The people of the tests, and what they work on."""

from collections.abc import Callable

import pytest
from django.test import Client

from annotate.models import Completion, Membership, Policy, Project, Prompt, Task, User

Role = Membership.Role


def _member(project: Project, name: str, role: str) -> User:
    user = User.objects.create_user(name, f"{name}@example.org")
    project.memberships.create(user=user, role=role, guideline_read=1)
    return user


@pytest.fixture
def project(db: None) -> Project:
    project = Project.objects.create(
        name="Cooking",
        slug="cooking",
        ranking_size=4,
        random_review_percent=0,
        new_writer_reviews=0,
        new_guest_days=0,
    )
    project.publish_guideline(text="Be **helpful**, honest and short.", author=None)
    return project


@pytest.fixture
def alice(project: Project) -> User:
    return _member(project, "alice", Role.LABELER)


@pytest.fixture
def bob(project: Project) -> User:
    return _member(project, "bob", Role.LABELER)


@pytest.fixture
def rita(project: Project) -> User:
    return _member(project, "rita", Role.REVIEWER)


@pytest.fixture
def olga(project: Project) -> User:
    return _member(project, "olga", Role.OPERATOR)


@pytest.fixture
def gus(project: Project) -> User:
    return _member(project, "gus", Role.GUEST)


@pytest.fixture
def mallory(db: None) -> User:
    """Operates a project of her own, and has no business in ours."""
    elsewhere = Project.objects.create(name="Elsewhere", slug="elsewhere")
    return _member(elsewhere, "mallory", Role.OPERATOR)


@pytest.fixture
def policy(project: Project) -> Policy:
    return Policy.objects.create(project=project, name="base", origin=Policy.Origin.BASE)


@pytest.fixture
def new_prompt(project: Project) -> Callable[..., Prompt]:
    def make(text: str = "How do I boil an egg?") -> Prompt:
        messages = [{"role": "user", "content": text}]
        return Prompt.objects.create(project=project, messages=messages)

    return make


@pytest.fixture
def write_task(new_prompt: Callable[..., Prompt]) -> Callable[..., Task]:
    """Makes a writing task; each on a prompt of its own."""

    def make(**fields: object) -> Task:
        prompt = new_prompt(f"Question {Prompt.objects.count()}")
        return Task.objects.create(
            project=prompt.project, prompt=prompt, kind=Task.Kind.WRITE, **fields
        )

    return make


@pytest.fixture
def rank_task(new_prompt: Callable[..., Prompt], policy: Policy) -> Callable[..., Task]:
    """Makes a ranking task of `k` completions; each on a prompt of its own."""

    def make(k: int = 3, **fields: object) -> Task:
        prompt = new_prompt(f"Question {Prompt.objects.count()}")
        task = Task.objects.create(
            project=prompt.project, prompt=prompt, kind=Task.Kind.RANK, **fields
        )
        for number in range(k):
            task.completions.add(
                Completion.objects.create(
                    prompt=prompt,
                    policy=policy,
                    text=f"Answer {number}",
                    source=Completion.Source.SAMPLED,
                )
            )
        return task

    return make


@pytest.fixture
def browse(db: None) -> Callable[[User], Client]:
    """A browser in which this person is signed in."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in
