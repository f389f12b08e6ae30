"""What a page showed is not kept by the browser for whoever sits down next."""

import pytest
from django.contrib.staticfiles import finders
from django.urls import reverse

from annotate.people.sign_in import login_link

PRIVATE = ("home", "account", "sign_in", "project_new")
OF_A_PROJECT = (
    *("project", "my_work", "labelers", "labelers_members", "prompts", "progress", "reviews"),
    *("project_settings", "guideline", "rounds", "policies", "policies_models"),
)


@pytest.mark.parametrize("name", PRIVATE)
def test_no_page_is_stored(browse, olga, name):
    page = browse(olga).get(reverse(name))
    assert page.headers["Cache-Control"].split(", ").count("no-store")


@pytest.mark.parametrize("name", OF_A_PROJECT)
def test_no_page_of_a_project_is_stored(browse, olga, project, name):
    page = browse(olga).get(reverse(name, args=[project.slug]))
    assert page.status_code in (200, 302)
    assert page.headers["Cache-Control"].split(", ").count("no-store")


def test_no_export_and_no_refusal_is_stored(browse, olga, mallory, project):
    export = reverse("prompts_export", args=[project.slug, "prompts"])
    for person in (olga, mallory):
        assert browse(person).get(export).headers["Cache-Control"].split(", ").count("no-store")


def test_the_page_of_a_link_is_not_stored(client, alice):
    link = login_link(alice).split("8000", 1)[-1]
    page = client.get("/sign-in/" + link.split("/sign-in/")[1])
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")


def test_what_is_the_same_for_everybody_may_be(client, db):
    assert finders.find("annotate/site.css")
    page = client.get("/static/annotate/site.css")
    assert "no-store" not in page.headers["Cache-Control"]
