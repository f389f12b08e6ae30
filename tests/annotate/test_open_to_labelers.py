"""What a project lets its labelers try: they ask models, and read templates and documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from annotate.documents.models import Document
from annotate.models import Grid, Policy, Project, PromptTemplate, Task, User
from tests.annotate.grids import HOME, filled_in

P = "/p/cooking"
TEMPLATES, DOCUMENTS = f"{HOME}templates/", f"{P}/documents/"
Browse = Callable[..., Any]


@pytest.fixture
def opened(project: Project) -> Project:
    project.labelers_try = True
    project.save(update_fields=["labelers_try"])
    return project


@pytest.fixture
def a_grid(project: Project, live: Policy, olga: User, browse: Browse) -> Grid:
    """Olga's."""
    browse(olga).post(HOME, filled_in(live))
    return Grid.objects.get()


def test_they_ask_models_and_see_only_their_own_grids(
    opened: Project, live: Policy, alice: User, a_grid: Grid, browse: Browse
) -> None:
    client = browse(alice)
    page = client.get(HOME).content.decode()
    assert str(a_grid) not in page and "None yet" in page
    assert "Prompts of this project" not in page and "Rules of prompting" not in page
    reply = client.post(HOME, filled_in(live))
    own = Grid.objects.get(author=alice)
    assert reply.headers["Location"] == f"{HOME}{own.pk}/"
    page = client.get(f"{HOME}{own.pk}/").content.decode()
    assert "Ask people to rank" not in page and "Save as policy" not in page
    assert client.get(f"{HOME}{own.pk}/answers.csv").status_code == 200
    assert client.get(f"{HOME}{a_grid.pk}/").status_code == 404


def test_an_operator_sees_the_grids_of_all(
    opened: Project, live: Policy, alice: User, olga: User, browse: Browse
) -> None:
    browse(alice).post(HOME, filled_in(live))
    own = Grid.objects.get()
    page = browse(olga).get(f"{HOME}{own.pk}/").content.decode()
    assert "Ask people to rank" in page and "Save as policy" in page


@pytest.mark.parametrize("use", ["columns/0/save/", "columns/0/template/", "rank/", "write/"])
def test_they_make_nothing_of_a_grid(
    opened: Project, live: Policy, alice: User, browse: Browse, use: str
) -> None:
    client = browse(alice)
    client.post(HOME, filled_in(live))
    own = Grid.objects.get()
    assert client.post(f"{HOME}{own.pk}/{use}", {"name": "mine"}).status_code == 403
    assert not Task.objects.exists() and not PromptTemplate.objects.exists()
    assert Policy.objects.count() == 1


def test_their_grids_are_small(
    opened: Project, live: Policy, alice: User, olga: User, browse: Browse
) -> None:
    large = filled_in(live, prompts="\n---\n".join(["a"] * 101))  # in two columns
    reply = browse(alice).post(HOME, large)
    assert reply.status_code == 422 and "at most 200 together" in reply.content.decode()
    assert browse(olga).post(HOME, large).status_code == 302


def test_they_read_templates_and_documents_and_change_neither(
    opened: Project, alice: User, olga: User, browse: Browse
) -> None:
    Document.add(opened, ["An egg takes eight minutes."], source="eggs.txt")
    written = PromptTemplate.objects.create(
        project=opened, name="brief", author=olga, system_prompt="Be brief."
    )
    client = browse(alice)
    page = client.get(f"{DOCUMENTS}?q=egg").content.decode()
    assert "eight minutes" in page
    for control in ("Import</button>", "Delete…", "Search by meaning", "Compare four ways"):
        assert control not in page
    for address in (TEMPLATES, f"{TEMPLATES}{written.pk}/"):
        page = client.get(address).content.decode()
        assert "brief" in page and "Keep</button>" not in page
        sent = {"name": "mine", "system_prompt": "Be long."}
        assert client.post(address, sent).status_code == 403
    for action in ("", "delete/", "embedder/", "compare/"):
        assert client.post(f"{DOCUMENTS}{action}", {"source": "eggs.txt"}).status_code == 403
    assert Document.objects.of_project(opened).current().exists()


@pytest.mark.parametrize("address", [HOME, TEMPLATES, DOCUMENTS])
def test_where_the_project_does_not_say_so_they_are_refused(
    project: Project, alice: User, gus: User, browse: Browse, address: str
) -> None:
    assert browse(alice).get(address).status_code == 403
    project.labelers_try = True
    project.save(update_fields=["labelers_try"])
    assert browse(alice).get(address).status_code == 200
    assert browse(gus).get(address).status_code == 403, "guests stay out"


def test_the_pages_are_where_they_look(opened: Project, alice: User, browse: Browse) -> None:
    page = browse(alice).get(f"{P}/").content.decode()
    for address in (HOME, TEMPLATES, DOCUMENTS):
        assert f'href="{address}"' in page
    assert f'href="{P}/connections/"' not in page
    found = browse(alice).get(f"{P}/find/?q=playground").content.decode()
    assert HOME in found


def test_an_operator_opens_it_in_the_settings(project: Project, olga: User, browse: Browse) -> None:
    client = browse(olga)
    form = client.get(f"{P}/settings/").context["form"]
    sent = {name: each for name, each in form.initial.items() if each is not None and each != ""}
    sent = {name: each for name, each in sent.items() if each is not False}
    client.post(f"{P}/settings/", {**sent, "labelers_try": "on"})
    project.refresh_from_db()
    assert project.labelers_try
